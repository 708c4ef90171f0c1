"""Promise 1 of tasks that explain several things of a text: Monitors leave training as it is, to the bit."""

import pytest
import torch
from every_task import made
from lightning.pytorch import LightningModule
from purity import Cell, assert_same, bracketed
from torch.utils.data import DataLoader, Dataset

from lightning_interpret import (
    AttentionMonitor,
    ConceptActivationVectors,
    ConceptMonitor,
    HierarchyMonitor,
    TrustMonitor,
)

FEW = ConceptActivationVectors(least=6, examples=6, vectors=2, random_concepts=4)
WATCHED = {
    "attention": AttentionMonitor,
    "hierarchy": HierarchyMonitor,
    "trust": lambda **options: TrustMonitor(["gradient_times_input", "attention_rollout"], orders=1, **options),
    "concepts": lambda **options: ConceptMonitor({"great": {"words": ["great"]}}, FEW, class_examples=4, **options),
}


class Rows(Dataset):
    """The two examples of a batch, in turn."""

    def __init__(self, batch):
        self.batch = {name: part for name, part in batch.items() if isinstance(part, torch.Tensor)}

    def __len__(self):
        return 24

    def __getitem__(self, i):
        return {name: part[i % 2] for name, part in self.batch.items()} | {"example_id": i}


class Trained(LightningModule):
    """A tiny model of a task, trained on its own loss, with the dropout that it has."""

    def __init__(self, name, **options):
        super().__init__()
        self.model, self.read, self.batch = made(name, **options)

    def loss(self, batch):
        return self.read.losses(self.model, batch).mean()

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


@pytest.mark.parametrize(
    ("name", "monitors", "options"),
    [
        ("TokenClassification", ("attention", "hierarchy", "trust", "concepts"), {}),
        pytest.param(
            *("CausalGeneration", ("attention", "hierarchy", "trust"), {"continuation": "own", "max_new_tokens": 2}),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_training_is_bit_identical_with_every_monitor_that_reads_the_task(name, monitors, options, tmp_path):
    _, task, batch = made(name, **options)

    def data():
        return [DataLoader(Rows(batch), batch_size=4, shuffle=shuffle) for shuffle in (True, False)]

    def module():
        found = Trained(name)
        found.model.train()
        return found

    cell = Cell(module, data=data, options={"limit_train_batches": 2})
    plain, _ = cell.run([], tmp_path)
    given = {"task": task, "probes": 1, "on_error": "raise", "max_seconds": None}
    shown, trainer = cell.run([bracketed(WATCHED[each](**given)) for each in monitors], tmp_path)
    assert_same(plain, shown)
    for each in monitors:
        assert trainer.callback_metrics[f"interpret/{each}/failures"] == 0
