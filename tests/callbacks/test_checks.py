"""What a method cannot serve whatever the batch is said before training starts, and not once a probe."""

import sys

import pytest
from purity import Texts, Toy, ToyTask
from tiny import quiet_trainer, wordpiece
from torch.utils.data import DataLoader

from lightning_interpret import DifferenceMap, KernelShap, LayerwiseRelevance, Lime, Occlusion, SaliencyMonitor

DELETES = Occlusion(baseline="delete")
REFUSED = {
    "layer": (DELETES, {"layer": "head"}, r"`layer='head'` with baseline='delete'"),
    "layers": (DELETES, {"layer": ["embedding", "head"]}, r"`layer='head'` with baseline='delete'"),
    "probability": (LayerwiseRelevance(), {"output": "prob"}, "`output='prob'` is no sum of scores"),
    "output": (DifferenceMap(), {"output": "margin"}, "`output='margin'` is a contrast already"),
}


class NeverTrained(Toy):
    """Fails as soon as it is trained."""

    def training_step(self, batch, batch_idx):
        raise AssertionError("training has begun")


def fit(tmp_path, method, **options):
    watcher = SaliencyMonitor(method, task=ToyTask(wordpiece()), **options)
    data = DataLoader(Texts(), batch_size=4)
    quiet_trainer(tmp_path, max_epochs=1, callbacks=[watcher]).fit(NeverTrained(), data, data)


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_method_cannot_serve_stops_before_training(what, tmp_path):
    method, options, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, method, **options)


@pytest.mark.parametrize("method", [KernelShap, Lime])
def test_a_missing_extra_stops_before_training(method, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.delitem(sys.modules, "captum.attr", raising=False)
    with pytest.raises(ImportError, match=rf"`{method.__name__}` runs in Captum.*lightning-interpret\[captum\]"):
        fit(tmp_path, method())
