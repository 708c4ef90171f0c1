"""Modules with a kernel layer before their head, and the data that they learn."""

import torch
from lightning.pytorch import LightningModule
from tiny import quiet_trainer
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lightning_interpret import KernelMixin


class Plain(LightningModule):
    """A module of the user's: an encoder and a head."""

    def __init__(self, **options):
        super().__init__(**options)
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)
        self.losses = []

    def forward(self, batch):
        return self.last(torch.tanh(self.first(batch["x"])))

    def loss(self, batch):
        return F.cross_entropy(self(batch).float(), batch["labels"])

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.losses.append(float(loss.detach()))
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.05)


class Net(KernelMixin, Plain):
    """The same with a kernel layer."""

    def __init__(self, **options):
        super().__init__(**{"kernel": "rbf", "kernel_landmarks": 8, "kernel_refresh": "epoch"} | options)


def seeded(kind, seed=0, **options):
    """A module whose weights are those of a seed; the global random state stays."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind(**options)


def rows(count=36, *, first=100, shift=0.0):
    """Three classes that lie round about a centre each; ids from 100."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 4, generator=generator) * 2
    x = torch.randn(count, 4, generator=generator) + centres[torch.arange(count) % 3] + shift
    return [{"x": x[i], "labels": torch.tensor(i % 3), "example_id": torch.tensor(first + i)} for i in range(count)]


def loader(data=None, **options):
    return DataLoader(rows() if data is None else data, **{"batch_size": 6} | options)


def batch_of(data):
    return {name: torch.stack([row[name] for row in data]) for name in data[0]}


def fit(model, folder, data=None, *, ckpt_path=None, **options):
    """Fit a module, its weights and its order of examples those of a seed; return the trainer."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        trainer = quiet_trainer(folder, **{"max_epochs": 2} | options)
        train = loader(data, shuffle=True)
        trainer.fit(model, train, loader(), ckpt_path=ckpt_path)
    return trainer


def logits_of(model, data=None):
    model.eval()
    with torch.no_grad():
        return model(batch_of(rows() if data is None else data))
