"""Suspected label errors and the file for cleanlab: right, and never worth a run."""

import csv
import json

import numpy
import pytest
import torch
from blobs import Keeps, Net, Points, fit
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from lightning_interpret.evidence import InfluenceRow
from lightning_interpret.methods.influence import ExactInfluence


def test_planted_wrong_labels_come_first_among_the_suspects(tmp_path):
    flipped = [5, 17, 33, 41, 58]
    train = DataLoader(Points(60, flipped=flipped, noise=0.4), batch_size=10, shuffle=True)
    monitor = Keeps(suspects=8, probes=2)
    fit(monitor, tmp_path, train=train, epochs=6, logger=TensorBoardLogger(tmp_path))
    found = monitor.suspected[-1]
    assert len(found) == 8
    assert {each.example_id for each in found[:5]} == {100 + i for i in flipped}
    assert all(each.gold != each.prediction and each.loss > 1 and each.disagreement > 0.5 for each in found[:5])
    scores = [each.self_influence for each in found]
    assert scores == sorted(scores, reverse=True)
    (path,) = tmp_path.glob("lightning_logs/version_0/interpret/keeps_suspects.tsv")
    with path.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [int(row["id"]) for row in rows] == [each.example_id for each in found]
    assert [row["self_influence_rank"] for row in rows] == [str(i) for i in range(1, 9)]
    events = EventAccumulator(str(tmp_path / "lightning_logs" / "version_0"), size_guidance={"tensors": 0})
    events.Reload()
    tags = events.Tags()["tensors"]
    assert any(tag.startswith("interpret/keeps/suspects") for tag in tags)
    payload = json.loads(events.Tensors("interpret/keeps/probe_1")[-1].tensor_proto.string_val[0])
    assert payload["kind"] == "influence"
    assert InfluenceRow.from_dict(payload["records"][0]).example_id == monitor.runs[-1][1].example_id


def test_the_file_for_cleanlab_holds_what_the_model_says_of_every_training_example(tmp_path):
    module = Net()
    fit(Keeps(save_cleanlab=True, train_batch_size=7), tmp_path, module=module)
    with numpy.load(tmp_path / "interpret" / "keeps_cleanlab.npz") as data:
        found = dict(data)
    points = Points()
    with torch.no_grad():
        hidden = module.net[1](module.net[0](points.x))
        known = module.net[2](hidden).softmax(dim=1)
    assert found["ids"].tolist() == list(range(100, 130))
    assert found["labels"].tolist() == points.labels.tolist()
    numpy.testing.assert_allclose(found["pred_probs"], known.numpy(), rtol=1e-5, atol=1e-6)
    numpy.testing.assert_allclose(found["features"], hidden.numpy(), rtol=1e-5, atol=1e-6)
    assert found["label_names"].tolist() == ["0", "1", "2"]


# What stands beside may be missing


class Convolved(Net):
    """No linear layer: there are no features of one, and the curvature is of the convolution."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Unflatten(1, (2, 1)), torch.nn.Conv1d(2, 3, 1), torch.nn.Flatten())


def test_without_features_the_cards_are_shown_without_neighbours(tmp_path):
    monitor = Keeps(ExactInfluence(layers="all"), on_error="warn", save_cleanlab=True)
    with pytest.warns(UserWarning, match=r"neighbours could not be found .* uses no linear layer"):
        fit(monitor, tmp_path, module=Convolved())
    assert all(row.helpful and row.neighbors is None for row in monitor.runs[0])
    assert monitor.scalars[0]["failures"] == 0
    assert monitor.suspected[0][0].disagreement is None


@pytest.mark.parametrize("what", ["write_tsv", "CleanlabFile.add"])
def test_a_full_disk_costs_a_file_and_not_the_run(what, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    place = "report.suspects.write_tsv" if what == "write_tsv" else "report.cleanlab.CleanlabFile.add"
    monkeypatch.setattr(f"lightning_interpret.{place}", full)
    monitor = Keeps(on_error="warn", save_cleanlab=True)
    with pytest.warns(UserWarning, match="No space left on device"):
        fit(monitor, tmp_path, epochs=2)
    assert [len(run) for run in monitor.runs] == [3, 3]
    assert [each["failures"] for each in monitor.scalars] == [0, 0]
    assert not list((tmp_path / "interpret").glob(f"*{'suspects' if what == 'write_tsv' else 'cleanlab'}*"))


def test_a_trial_run_writes_no_file(tmp_path):
    monitor = fit(Keeps(save_cleanlab=True), tmp_path, fast_dev_run=True)
    assert monitor.runs[0]
    assert not (tmp_path / "interpret").exists()
