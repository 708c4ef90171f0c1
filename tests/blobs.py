"""A run small enough to be made again and again: points of three classes with ids, and a network on them."""

from functools import partial

import torch
from lightning.pytorch import LightningModule
from tiny import quiet_trainer
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lightning_interpret import InfluenceMonitor
from lightning_interpret.tasks import batches
from lightning_interpret.tasks.classification import Classification

CENTRES = torch.tensor([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]])


class Points(Dataset):
    """Points with labels as dicts; their ids begin at ``first``."""

    def __init__(self, size=30, seed=0, first=100, flipped=(), noise=0.7):
        generator = torch.Generator().manual_seed(seed)
        self.classes = torch.arange(size) % 3
        self.x = CENTRES[self.classes] + noise * torch.randn(size, 2, generator=generator)
        self.labels = self.classes.clone()
        self.labels[list(flipped)] = (self.labels[list(flipped)] + 1) % 3
        self.first = first

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return {"x": self.x[i], "labels": self.labels[i], "example_id": self.first + i}


class PointsTask(Classification):
    """Reads points out of batches of every kind."""

    def logits(self, module, batch):
        found = batches.get(batch, "x")
        return module(batch[0] if found is None else found)

    def labels(self, batch):
        found = super().labels(batch)
        return batch[1] if found is None and isinstance(batch, tuple | list) and len(batch) > 1 else found


SGD = partial(torch.optim.SGD, lr=0.1, weight_decay=0.01)


class Net(LightningModule):
    """Two layers; trained by SGD with weight decay."""

    def __init__(self, optimizer=SGD):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3))
        self.optimizer, self.task = optimizer, PointsTask()

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return self.task.losses(self, batch).mean()

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.task.losses(self, batch).mean())

    test_step = validation_step

    def configure_optimizers(self):
        return self.optimizer(self.parameters())


class Keeps(InfluenceMonitor):
    """Keeps the records and scalars of each validation run."""

    def __init__(self, *args, **options):
        super().__init__(*args, **{"task": PointsTask(), "on_error": "raise", "max_seconds": None} | options)
        self.runs, self.suspected, self.scalars = [], [], []

    def _gathered(self, trainer):
        rows = super()._gathered(trainer)
        self.runs.append([row for _, row in rows])
        self.suspected.append(list(self._suspected))
        return rows

    def _computed(self, module):
        found = super()._computed(module)
        self.scalars.append({name: value.item() for name, value in found.items()})
        return found


def loader(size=30, batch_size=10, **options):
    return DataLoader(Points(size, **options), batch_size=batch_size)


def fit(monitor, folder, *, train=None, val=None, module=None, epochs=1, **options):
    """Fit once, and return the Monitor."""
    train = DataLoader(Points(), batch_size=10, shuffle=True) if train is None else train
    val = loader(12, seed=1, first=0) if val is None else val
    trainer = quiet_trainer(folder, max_epochs=epochs, callbacks=[monitor], **options)
    torch.manual_seed(0)
    trainer.fit(Net() if module is None else module, train, val)
    return monitor


def card(row):
    """Return what a card shows, for comparisons."""
    return [(each.example_id, each.gold, each.prediction) for each in (*row.helpful, *row.harmful)]
