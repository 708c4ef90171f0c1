"""Two small joint methods and a module for tests of what every mixin shares."""

import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lightning_interpret.mixins import JointMixin


class WeightMixin(JointMixin):
    """Adds a learnt number, pulled to one: a child, a keyword and a term."""

    def __init__(self, *args, weight_start=0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.weight_child = nn.PReLU(init=weight_start)  # no linear layer: the last of them is taken for the head

    def begin_step(self, batch):
        super().begin_step(batch)
        self.add_term("weight", (self.weight_child.weight - 1).square().mean())


class LengthMixin(JointMixin):
    """Punishes long hidden states, by a hook that :meth:`attach` puts on a layer found by name."""

    def __init__(self, *args, length_cost=0.1, **kwargs):
        super().__init__(*args, **kwargs)
        self.length_cost, self.attached = length_cost, 0

    def attach(self):
        super().attach()
        if not self.attached:
            self.first.register_forward_hook(Measure(self))
            self.attached = 1


class Measure:
    def __init__(self, module):
        self.module = module

    def __call__(self, part, args, output):
        if self.module.training and self.module._steps:
            self.module.add_term("length", self.module.length_cost * output.square().mean())


class Plain(LightningModule):
    """A module of the user's."""

    def __init__(self, hidden=6):
        super().__init__()
        self.first, self.last = nn.Linear(4, hidden), nn.Linear(hidden, 2)
        self.losses = []

    def forward(self, batch):
        return self.last(self.first(batch["x"]).relu())

    def loss(self, batch):
        return F.cross_entropy(self(batch), batch["labels"])

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def on_train_batch_end(self, outputs, batch, batch_idx):
        super().on_train_batch_end(outputs, batch, batch_idx)
        self.losses.append(float(outputs["loss"]) if outputs else None)  # none of a batch that is skipped

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def rows(count=12):
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
    return [{"x": row, "labels": torch.tensor(i % 2), "example_id": torch.tensor(i)} for i, row in enumerate(x)]


def loader(batch_size=4):
    return DataLoader(rows(), batch_size=batch_size)
