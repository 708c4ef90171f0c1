"""NeighborMonitor in an ordinary fit: its cards, its curves, and the projector."""

import json

import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import TensorBoardLogger
from purity import Remembers, Texts, Toy, ToyTask, loaders
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import quiet_trainer, wordpiece
from torch import nn
from torch.utils.data import DataLoader

from lightning_interpret import NearestNeighbors, NeighborMonitor
from lightning_interpret.tasks.classification import Classification


class Points(torch.utils.data.Dataset):
    """Points on two rings around one centre: no line parts them, and the neighbours do."""

    def __init__(self, size=240, seed=0):
        generator = torch.Generator().manual_seed(seed)
        angle = 6.2832 * torch.rand(size, generator=generator)
        self.labels = torch.arange(size) % 2
        radius = 1.0 + self.labels + 0.1 * torch.randn(size, generator=generator)
        self.pixels = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return {"pixels": self.pixels[i], "labels": self.labels[i], "example_id": 1000 + i}


class PointsTask(Classification):
    def logits(self, module, batch):
        return module(batch["pixels"])


class Line(LightningModule):
    """A linear model, which knows nothing of rings."""

    def __init__(self, rate=1e-3):
        super().__init__()
        self.head, self.rate = nn.Linear(2, 2), rate

    def forward(self, pixels):
        return self.head(pixels)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch["pixels"]), batch["labels"])

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.rate)


def fit(monitor, folder, *, module=None, logger=False, epochs=1, train=None):
    trainer = quiet_trainer(folder, max_epochs=epochs, callbacks=[monitor], logger=logger)
    torch.manual_seed(0)
    data = [DataLoader(train or Points(), batch_size=60), DataLoader(Points(seed=1), batch_size=60)]
    trainer.fit(module or Line(), *data)
    return trainer


def monitor(*method, **options):
    return NeighborMonitor(*method, **{"task": PointsTask(), "on_error": "raise", "save_jsonl": True} | options)


def records(folder):
    lines = next(folder.rglob("interpret/neighbor*.jsonl")).read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_the_neighbours_know_what_the_model_does_not_and_the_mixture_has_it_from_them(tmp_path):
    trainer = fit(monitor(NearestNeighbors(k=9)), tmp_path)
    found = {tag.removeprefix("interpret/neighbor/"): float(v) for tag, v in trainer.callback_metrics.items()}
    assert found["accuracy_model"] < 0.7
    assert found["accuracy_knn"] > 0.95
    assert found["accuracy_mixture"] > found["accuracy_model"] + 0.2
    assert found["accuracy_mixture_unsure"] >= found["accuracy_model_unsure"]
    assert 0 < found["threshold"] <= 1.01
    assert 0 <= found["credibility"] <= 1
    assert found["failures"] == 0
    assert found["drift"] != found["drift"]  # there was no validation before


def test_a_card_has_the_nearest_with_id_and_label(tmp_path):
    fit(monitor(NearestNeighbors(k=9), queries="worst", k=3, probes=2), tmp_path)
    rows = records(tmp_path)
    assert [row["probe"] for row in rows] == [0, 1]
    train, val = Points(), Points(seed=1)
    for row in rows:
        query = val.pixels[row["example_id"] - 1000]
        near = (train.pixels - query).norm(dim=1).argsort(stable=True)
        assert [each["example_id"] for each in row["neighbors"]] == (1000 + near[:3]).tolist()
        share = float((train.labels[near[:9]] == int(row["prediction"])).double().mean())
        assert row["conformity"] == pytest.approx(share)
        assert row["why"].startswith("loss")
        assert row["credibility"] is not None
        assert row["examples"] == 240


def test_drift_is_the_share_of_new_neighbours(tmp_path):
    still = fit(monitor(queries="fixed"), tmp_path / "a", epochs=2, module=Line(rate=0.0))
    assert float(still.callback_metrics["interpret/neighbor/drift"]) == 0.0

    class Turning(Line):
        """Its features are others in the second epoch."""

        def __init__(self):
            super().__init__(rate=0.0)
            self.first = nn.Linear(2, 2, bias=False)

        def forward(self, pixels):
            return self.head(self.first(pixels))

        def on_train_epoch_start(self):
            self.first.weight.data = torch.diag(torch.eye(2)[self.current_epoch % 2])  # one coordinate, then the other

    turned = fit(monitor(queries="fixed"), tmp_path / "b", epochs=2, module=Turning())
    assert float(turned.callback_metrics["interpret/neighbor/drift"]) > 0.5


def test_the_datastore_is_made_anew_only_for_other_weights(tmp_path, monkeypatch):
    made, fitted = [], NearestNeighbors.fit
    monkeypatch.setattr(NearestNeighbors, "fit", lambda *args: made.append(1) or fitted(*args))
    fit(monitor(), tmp_path / "a", epochs=3, module=Line(rate=0.0))
    assert len(made) == 1
    fit(monitor(), tmp_path / "b", epochs=3, module=Line(rate=0.1))
    assert len(made) == 4


def test_features_go_to_the_projector_once_a_fit(tmp_path):
    logger = TensorBoardLogger(tmp_path, name="board")
    module = Toy()
    watching = NeighborMonitor(task=ToyTask(wordpiece()), projector=10, on_error="raise")
    trainer = quiet_trainer(tmp_path, max_epochs=3, callbacks=[watching], logger=logger)
    trainer.fit(module, *loaders())
    folder = tmp_path / "board" / "version_0"
    (metadata,) = folder.rglob("metadata.tsv")
    (tensors,) = folder.rglob("tensors.tsv")
    lines = [line.split("\t") for line in metadata.read_text().splitlines()]
    assert lines[0] == ["id", "label", "text"]
    assert [int(line[0]) for line in lines[1:]] == [i * 24 // 10 for i in range(10)]
    assert {line[1] for line in lines[1:]} <= {"0", "1"}
    assert all(line[2] for line in lines[1:])
    points = torch.tensor([[float(x) for x in line.split("\t")] for line in tensors.read_text().splitlines()])
    assert torch.allclose(points, watching._fitted.store.features[[i * 24 // 10 for i in range(10)]], atol=1e-4)
    events = EventAccumulator(str(folder)).Reload()
    assert any(tag.startswith("interpret/neighbor/probe_0") for tag in events.Tags()["tensors"])
    assert "interpret/neighbor/accuracy_knn" in events.Tags()["scalars"]


def test_without_tensorboard_there_is_no_projector(tmp_path):
    logger = Remembers()
    fit(monitor(save_jsonl=False), tmp_path, logger=logger)
    assert not list(tmp_path.rglob("*.tsv"))
    assert any("interpret/neighbor/accuracy_knn" in metrics for _, metrics in logger.metrics)


def test_texts_have_their_saliency_and_it_can_be_left_out(tmp_path):
    for saliency in (True, False):
        watching = NeighborMonitor(task=ToyTask(wordpiece()), saliency=saliency, save_jsonl=True, on_error="raise")
        folder = tmp_path / str(saliency)
        quiet_trainer(folder, max_epochs=1, callbacks=[watching]).fit(Toy(), *loaders())
        row = records(folder)[-1]
        assert (row["tokens"] is not None) == saliency
        if saliency:
            assert len(row["tokens"]) == len(row["scores"]) == 9
            assert row["scores"][0] == 0.0


def test_validate_reads_the_training_data_that_it_is_given(tmp_path):
    watching = NeighborMonitor(task=ToyTask(wordpiece()), train_data=Texts(), save_jsonl=True, on_error="raise")
    trainer = quiet_trainer(tmp_path, callbacks=[watching])
    trainer.validate(Toy(), loaders()[1], verbose=False)
    assert [row["examples"] for row in records(tmp_path)] == [24] * 3
    assert "interpret/neighbor_validate/accuracy_model" in trainer.callback_metrics


def test_without_labels_there_are_cards_and_no_accuracies(tmp_path):
    class Bare(Points):
        def __getitem__(self, i):
            return {"pixels": self.pixels[i], "example_id": i}

    watching = monitor(queries="unsure", train_data=Points())
    trainer = quiet_trainer(tmp_path, callbacks=[watching])
    trainer.validate(Line(), DataLoader(Bare(seed=1), batch_size=60), verbose=False)
    assert all(row["credibility"] is None and len(row["neighbors"]) == 5 for row in records(tmp_path))
    found = float(trainer.callback_metrics["interpret/neighbor_validate/accuracy_knn"])
    assert found != found


def test_when_time_is_spent_there_is_an_answer_of_what_was_read(tmp_path):
    watching = monitor(max_seconds=1e-9, train_batch_size=50)
    with pytest.warns(UserWarning, match=r"not all training examples are read|accuracies are of 64 of 240"):
        fit(watching, tmp_path)
    assert [row["examples"] for row in records(tmp_path)] == [50] * 3


def test_training_data_without_ids_stop_before_training_and_broken_scans_do_not(tmp_path):
    class Nameless(Points):
        def __getitem__(self, i):
            return {"pixels": self.pixels[i], "labels": self.labels[i]}

    with pytest.raises(ValueError, match="WithIds"):
        fit(monitor(), tmp_path / "a", train=Nameless())

    class Broken(PointsTask):
        def losses(self, module, batch):
            raise RuntimeError("no loss today")

    with pytest.warns(UserWarning, match=r"no loss today.*training goes on"):
        trainer = fit(monitor(task=Broken(), on_error="warn"), tmp_path / "b")
    assert float(trainer.callback_metrics["interpret/neighbor/failures"]) == 3


def test_it_works_from_a_config_file():
    parser = LightningArgumentParser()
    parser.add_subclass_arguments(Callback, "callback")
    text = """
    callback:
      class_path: lightning_interpret.NeighborMonitor
      init_args: {k: 3, method: {k: 20, metric: cosine, layer: [first, second]}}
    """
    made = parser.instantiate_classes(parser.parse_string(text)).callback
    assert made.method == NearestNeighbors(layer=["first", "second"], metric="cosine", k=20)
    assert made.k == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [({"unsure": 0.0}, "`unsure=0.0`"), ({"projector": -1}, "`projector=-1`"), ({"queries": "bad"}, "`queries='bad'`")],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NeighborMonitor(**options)


def test_a_layer_that_does_not_exist_stops_before_training(tmp_path):
    with pytest.raises(ValueError, match="`layer='heat'` does not exist"):
        fit(monitor(NearestNeighbors(layer="heat")), tmp_path)
