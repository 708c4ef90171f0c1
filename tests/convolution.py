"""A small convolutional net with a residual branch."""

import torch
from tiny import lively
from torch import nn

from lightning_interpret import ImageClassification


class Residual(nn.Module):
    """x + f(x): its branch is no cut of the graph."""

    def __init__(self, channels):
        super().__init__()
        self.branch = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return x + torch.tanh(self.branch(x)) / 2


class Convolutional(nn.Module):
    """A convolution, a residual block, a convolution with half the locations, a head of several layers."""

    def __init__(self):
        super().__init__()
        self.stages = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), Residual(6), nn.Conv2d(6, 4, 2, stride=2), nn.Tanh())
        self.head = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        lively(self)

    def forward(self, pixels):
        return self.head(self.stages(pixels).mean(dim=(2, 3)))


class ConvolutionalTask(ImageClassification):
    """Reads a :class:`Convolutional`, or a module that holds one as ``net``."""

    def logits(self, module, batch):
        return getattr(module, "net", module)(batch["pixel_values"])


def pictures(size=2, seed=0):
    """A batch of noise with labels."""
    generator = torch.Generator().manual_seed(seed)
    return {"pixel_values": torch.randn(size, 3, 8, 8, generator=generator), "labels": torch.arange(size) % 3}
