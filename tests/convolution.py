"""A small convolutional net with a residual branch, and a task that reads it: locations as units."""

import torch
from records import photograph
from tiny import lively
from torch import nn
from torch.nn import functional as F

from lightning_interpret.explanations import Units
from lightning_interpret.report.uri import encoded
from lightning_interpret.tasks import SequenceClassification
from lightning_interpret.tasks.base import Layout

SIDE = 8


class Residual(nn.Module):
    """x + f(x): its branch is no cut of the graph."""

    def __init__(self, channels):
        super().__init__()
        self.branch = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return x + torch.tanh(self.branch(x))


class Folded(nn.Module):
    """(B, T, C) as images."""

    def forward(self, x):
        return x.transpose(1, 2).unflatten(2, (SIDE, SIDE))


class Convolutional(nn.Module):
    """Pixels (B, T, 3), an image of them, a convolution, a residual block, half the locations, a head."""

    def __init__(self):
        super().__init__()
        self.stages = nn.Sequential(
            nn.Identity(),
            Folded(),
            nn.Conv2d(3, 6, 3, padding=1),
            Residual(6),
            nn.Conv2d(6, 4, 2, stride=2),
            nn.Tanh(),
        )
        self.head = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        lively(self)

    def forward(self, pixels):
        return self.head(self.stages(pixels.flatten(2).transpose(1, 2)).mean(dim=(2, 3)))


class ConvolutionalTask(SequenceClassification):
    """Reads a :class:`Convolutional`; what is absent is black."""

    def logits(self, module, batch):
        return module(batch["pixels"])

    def layer(self, module):
        return "stages.0"

    def units(self, batch):
        pixels = batch["pixels"]
        return Units.locations(len(pixels), tuple(pixels.shape[2:]), images=(encoded(photograph(), 64),) * len(pixels))

    def layout(self, *given):
        *_, batch, features, _ = given
        images = self.units(batch).images
        if features.dim() == 4:
            units = Units.locations(len(features), tuple(features.shape[2:]), images=images)
            return Layout(units, lambda values: values.sum(dim=1).flatten(1) if values.dim() == 4 else values)
        if features.shape[1] == SIDE * SIDE:
            return Layout.leading(Units.locations(len(features), (SIDE, SIDE), images=images))
        return Layout.leading(Units.features(len(features), features[0].numel()))

    def baseline(self, module, batch, features, baseline):
        return torch.zeros_like(features)

    def check(self, module, which, baseline):
        pass


def pictures(size=2, seed=0):
    """A batch of noise with labels."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(size, 3, SIDE, SIDE, generator=generator)
    return {"pixels": F.avg_pool2d(noise, 3, 1, 1), "labels": torch.arange(size) % 3}
