"""InfluenceMonitor and NeighborMonitor in an ordinary fit of each kind of task, and what they refuse before it."""

import pytest
import torch
from lightning.pytorch import LightningModule
from several_tasks import HEAD, KINDS, made
from tiny import quiet_trainer
from torch.utils.data import DataLoader, Dataset

from lightning_interpret import (
    EkfacInfluence,
    ExactInfluence,
    FeatureSimilarity,
    GradientSimilarity,
    InfluenceMonitor,
    NeighborMonitor,
)


class Rows(Dataset):
    """The examples of a batch, one by one."""

    def __init__(self, batch):
        self.parts = {name: part for name, part in batch.items() if isinstance(part, torch.Tensor)}

    def __len__(self):
        return len(self.parts["example_id"])

    def __getitem__(self, i):
        return {name: part[i] for name, part in self.parts.items()}


class Trains(LightningModule):
    """Trains a model on the losses of its task."""

    def __init__(self, model, task):
        super().__init__()
        self.model, self.read = model, task

    def training_step(self, batch, batch_idx):
        return self.read.losses(self, batch).mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3, weight_decay=0.01)


class Kept:
    """Keeps the records and scalars of each validation run."""

    rows = scalars = suspected = ()

    def _gathered(self, trainer):
        found = super()._gathered(trainer)
        self.rows = [row for _, row in found]
        self.suspected = getattr(self, "_suspected", ())
        return found


class Influences(Kept, InfluenceMonitor):
    pass


class Nearest(Kept, NeighborMonitor):
    pass


def fit(kind, monitor, folder):
    model, task, batch = made(kind, torch.float32)
    monitor.task, monitor.on_error = task, "raise"
    loaders = [DataLoader(Rows(batch), batch_size=2) for _ in range(2)]
    trainer = quiet_trainer(folder, max_epochs=1, callbacks=[monitor], num_sanity_val_steps=0)
    trainer.fit(Trains(model, task), *loaders)
    return task, trainer


@pytest.mark.parametrize("kind", KINDS)
def test_influence_of_every_task_is_shown(kind, tmp_path):
    monitor = Influences(GradientSimilarity("dot"), probes=2, k=2, suspects=3, track=1)
    _, trainer = fit(kind, monitor, tmp_path)
    assert len(monitor.rows) == 2
    for row in monitor.rows:
        assert row.helpful
        assert row.neighbors.neighbors
        assert bool(row.by_token) == (kind in ("tagging", "continuing", "translating"))
        assert all(each.gold is not None for each in row.helpful)
        if row.by_token:
            assert row.helpful[0].score == pytest.approx(
                sum(row.helpful[0].on_tokens) / len(row.by_token), rel=1e-3, abs=1e-7
            )
            assert "Token by token" in str(row)
            assert f"#{row.by_token[0].helpful[0].example_id}" in str(row)
    logged = trainer.callback_metrics
    assert "interpret/influences/self_influence" in logged
    assert "interpret/influences/same_label" not in logged
    assert len(monitor.suspected) == 3
    if kind in ("tagging", "continuing", "translating"):
        assert all(each.word and each.word_gold and each.word_prediction for each in monitor.suspected)
        heads = next(tmp_path.rglob("*_suspects.tsv")).read_text().splitlines()[0].split("\t")
        assert heads[-3:] == ["word", "word_gold", "word_prediction"]
    if kind == "measuring":
        losses = [each.loss for each in monitor.suspected]
        assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("kind", ["tagging", "measuring", "labelling"])
def test_neighbours_of_every_task_are_shown(kind, tmp_path):
    monitor = Nearest(probes=2, k=2, projector=0)
    _, trainer = fit(kind, monitor, tmp_path)
    assert [len(row.neighbors) for row in monitor.rows] == [2, 2]
    names = {name.rpartition("/")[2] for name in trainer.callback_metrics} - {"seconds", "failures", "drift"}
    wanted = {
        "tagging": set(), "measuring": {"error_model", "error_knn"}, "labelling": {"accuracy_model", "accuracy_knn"},
    }  # fmt: skip
    assert names == wanted[kind]


@pytest.mark.parametrize(
    ("kind", "monitor", "what"),
    [
        ("tagging", NeighborMonitor(queries="unsure"), r"`queries='unsure'` goes by .* TokenClassification"),
        ("continuing", InfluenceMonitor(ExactInfluence(max_parameters=100)), r"scores a vocabulary.* Use 'ekfac'"),
        ("continuing", InfluenceMonitor("gradient_similarity", per_token=True), r"a cosine is no mean over tokens"),
        ("tagging", InfluenceMonitor(FeatureSimilarity(), per_token=True), r"features are of whole examples"),
        ("labelling", InfluenceMonitor("ekfac", per_token=True), r"MultiLabelClassification has no loss of tokens"),
        ("tagging", InfluenceMonitor("saliency_influence"), r"of the one target .* TokenClassification means several"),
        ("answering", InfluenceMonitor("ekfac", save_cleanlab=True), r"`save_cleanlab=True` .* QuestionAnswering"),
    ],
)
def test_what_does_not_apply_is_said_before_training_starts(kind, monitor, what, tmp_path):
    with pytest.raises(ValueError, match=what):
        fit(kind, monitor, tmp_path)


def test_tokens_that_would_not_fit_into_memory_are_left_out_and_the_record_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_interpret.callbacks.influence._TOKEN_BYTES", 100)
    monitor = Influences(EkfacInfluence(layers=[f"model.{HEAD['continuing']}"]), probes=1, suspects=0, neighbors=False)
    fit("continuing", monitor, tmp_path)
    (row,) = monitor.rows
    assert not row.by_token
    assert any("influence is not taken apart by token" in note for note in row.notes)
