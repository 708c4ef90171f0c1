"""The influence Monitor on a module with turn-over dropout: the method's own scores, and what no mask has learnt."""

import json
import os
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from blobs import Keeps, Net, Points, PointsTask, card, fit, loader
from purity import Cell, Toy
from tiny import quiet_trainer
from torch.utils.data import default_collate

from lightning_interpret import InfluenceMonitor, TurnOverDropoutInfluence, TurnOverDropoutMixin
from lightning_interpret.callbacks.shortfall import UntilLate
from lightning_interpret.data import TrainingExamples


class TurnOver(TurnOverDropoutMixin, Net):
    """A network with masks of its training examples."""


class TurnOverToy(TurnOverDropoutMixin, Toy):
    """The module that Monitors are watched on, with masks of its training examples."""

    def __init__(self, manual=False):
        super().__init__(manual, turn_over_layers=["input of head"])


def read(monitor, folder, module=None, **options):
    module = TurnOver() if module is None else module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit(monitor, folder, module=module, **options)


def test_the_record_is_that_of_the_method_and_the_scalars_those_of_both_parts(tmp_path):
    module, monitor = TurnOver(), Keeps("turn_over_dropout", probes=2, queries="fixed", k=3, train_batch_size=7)
    read(monitor, tmp_path, module, epochs=2)
    points, queries = Points(), Points(12, seed=1, first=0)
    fitted = TurnOverDropoutInfluence().fit(module, [default_collate(list(points))], PointsTask())
    found = fitted.scores(default_collate([queries[0], queries[6]]), 3)
    for row, other in zip(monitor.runs[-1], found, strict=True):
        assert card(row) == card(other)
        for each, same in zip((*row.helpful, *row.harmful), (*other.helpful, *other.harmful), strict=True):
            assert each.score == pytest.approx(same.score, rel=1e-4, abs=1e-6)
            assert 0 <= each.disagreement <= 1
        assert (row.examples, row.skipped, row.notes) == (30, 0, ())
        assert "turn-over dropout of 0.5 at input of net.2" in str(row)
        assert "curvature" not in str(row)
    ids, own = fitted.self_influence()
    scalars = monitor.scalars[-1]
    assert scalars["self_influence"] == pytest.approx(float(own.mean()), rel=1e-4)
    assert scalars["self_influence_100"] == pytest.approx(float(own[ids == 100]), rel=1e-4)
    assert scalars["failures"] == 0
    batch, dropout = default_collate(list(points)), module.turn_over_dropout
    for name, scope in (("seen", dropout.seen), ("unseen", dropout.unseen)):
        with torch.no_grad(), scope(batch["example_id"]):
            right = (module.eval()(batch["x"]).argmax(dim=1) == batch["labels"]).float().mean()
            loss = PointsTask().losses(module, batch).mean()
        assert scalars[f"{name}_accuracy"] == pytest.approx(float(right))
        assert scalars[f"{name}_loss"] == pytest.approx(float(loss), rel=1e-4)


def test_a_shortlist_is_said_on_the_card(tmp_path):
    monitor = Keeps(TurnOverDropoutInfluence(shortlist=5), probes=2, aggregate=True, suspects=0)
    (rows,) = read(monitor, tmp_path).runs
    for row in rows:
        assert (row.examples, row.notes) == (30, ("of 30 examples the masks of the 5 nearest were read",))
        assert 0 < len(row.helpful + row.harmful) <= 5
        near = {each.example_id for each in row.neighbors.neighbors} if row.queries == 1 else set()
        assert not near or near >= {each.example_id for each in row.helpful + row.harmful}
    late = Keeps(TurnOverDropoutInfluence(shortlist=5), probes=1, suspects=0, max_seconds=1e-9, train_batch_size=4)
    (row,) = read(late, tmp_path).runs[0]
    assert "`max_seconds=1e-09` was spent" in row.notes[-1]


def test_other_methods_log_nothing_of_masks(tmp_path):
    monitor = read(Keeps(probes=1), tmp_path)
    assert not {name for name in monitor.scalars[0] if "seen" in name}


def test_a_module_without_masks_stops_before_it_is_trained(tmp_path):
    with pytest.raises(ValueError, match="TurnOverDropoutMixin"):
        read(InfluenceMonitor("turn_over_dropout", task=PointsTask()), tmp_path, Net())


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_it_reads_a_trained_module_in_other_stages(stage, tmp_path):
    monitor = Keeps("turn_over_dropout", probes=2, train_data=loader(), suspects=2)
    trainer = quiet_trainer(tmp_path, callbacks=[monitor])
    getattr(trainer, stage)(TurnOver(), loader(12, seed=1, first=0), verbose=False)
    assert [row.examples for row in monitor.runs[0]] == [30, 30]
    assert 0 <= monitor.scalars[0]["unseen_accuracy"] <= 1


def test_time_that_is_spent_ends_the_read_out_and_is_said(tmp_path):
    monitor = Keeps("turn_over_dropout", probes=1, max_seconds=1e-9, train_batch_size=4, suspects=0)
    (rows,) = read(monitor, tmp_path).runs
    assert 0 < rows[0].examples <= 30  # the scores of a head are one step of work
    data = TrainingExamples(Points(), ids=range(30))
    late = []
    kept = UntilLate(data, time.perf_counter() - 1, lambda: late.append(True))
    assert [len(ids) for ids in kept.id_batches(8)] == [8]
    assert list(kept.in_time("abc")) == ["a"]
    assert late == [True, True]
    assert UntilLate(data, time.perf_counter() - 1, lambda: None, last=time.perf_counter()).id_batches(8) is None


def test_a_leak_is_told_where_both_parts_know_the_labels(tmp_path):
    batch = default_collate(list(Points(60, noise=0.1)))
    module = TurnOver()
    with torch.no_grad():  # every unit alone tells the classes about as well as all
        for part in (module.net[0], module.net[2]):
            part.weight.zero_()
            part.bias.zero_()
        module.net[2].bias[0] = 1.0
    module.attach()
    batch["labels"][:] = 0
    fitted = TurnOverDropoutInfluence().fit(module, [batch], PointsTask())
    with pytest.warns(UserWarning, match="the masks leak"):
        fitted.self_influence()
    batch["labels"][:] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.self_influence()  # nothing was learnt


SCRIPT = """
import sys, warnings
from pathlib import Path
import torch
from blobs import Keeps, Points, fit
from test_influence_turn_over import TurnOver
from torch.utils.data import DataLoader

class Saves(Keeps):
    def _computed(self, module):
        found = super()._computed(module)
        if module.trainer.is_global_zero:
            torch.save(self.scalars, f"{module.trainer.default_root_dir}/{module.trainer.world_size}.pt")
        return found

def main(folder):
    warnings.simplefilter("ignore")
    for world in (1, 2):
        more = {"devices": 2, "strategy": "ddp_fork"} if world == 2 else {}
        # both train the same: a process has half of the one batch, and gradients are averaged
        train = DataLoader(Points(32), batch_size=32 // world)
        options = {"k": 4, "probes": 3, "aggregate": True, "suspects": 6, "queries": "fixed"}
        monitor = Saves("turn_over_dropout", train_data=Points(31), save_jsonl=f"{folder}/{world}.jsonl", **options)
        fit(monitor, folder, train=train, module=TurnOver(), epochs=2, **more)

if __name__ == "__main__":
    main(Path(sys.argv[1]))
"""


def test_one_process_and_two_show_the_same_cards_and_scalars(tmp_path):
    (tmp_path / "run.py").write_text(SCRIPT)
    here = Path(__file__).parents[1]
    path = f"{here / 'callbacks'}:{here}:{here.parent}"
    done = subprocess.run(
        [sys.executable, str(tmp_path / "run.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = ([json.loads(line) for line in (tmp_path / f"{n}.jsonl").read_text().splitlines()] for n in (1, 2))
    assert len(one) == len(two) == 8
    for row, other in zip(one, two, strict=True):
        for side in ("helpful", "harmful"):
            assert [each["example_id"] for each in row[side]] == [each["example_id"] for each in other[side]]
            assert [e["score"] for e in row[side]] == pytest.approx([e["score"] for e in other[side]], abs=1e-5)
        assert (row["examples"], other["examples"]) == (31, 31)
        assert row["notes"] == other["notes"] == []
    first, second = (torch.load(tmp_path / f"{n}.pt") for n in (1, 2))
    for scalars, others in zip(first, second, strict=True):
        for name in ("seen_accuracy", "unseen_accuracy", "seen_loss", "unseen_loss", "self_influence"):
            assert scalars[name] == pytest.approx(others[name], abs=1e-5)


MONITOR = {"method": "turn_over_dropout", "suspects": 3}
CELLS = {
    "fit": Cell(module=TurnOverToy),
    "manual": Cell(module=partial(TurnOverToy, True)),
    "bf16": Cell(module=TurnOverToy, precision="bf16-mixed"),
    "other stages": Cell(module=TurnOverToy, stages=("validate", "test", "predict")),
}


@pytest.mark.parametrize("name", CELLS)
def test_training_is_what_it_is_without_it(name, purity):
    monitor, _ = purity.check(CELLS[name], "InfluenceMonitor", **MONITOR)
    assert all(row.approximation.method == "turn_over_dropout" for _, row in monitor.found)
