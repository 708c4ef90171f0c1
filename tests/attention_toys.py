"""Models for the debate about attention: one known by its answers alone, and a small one with additive attention."""

import torch
from tiny import VOCABULARY, BagTask, lively, wordpiece
from torch import nn

from lightning_interpret.functional.attention.debate import Respond


def pooled(rows=4, length=6, *, distributions=1, classes=3, seed=0, scale=3.0):
    """Weights ``(N, D, T)`` of rows of several lengths, and the closure that answers to such weights."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.linspace(1, length, rows).round().long()
    there = torch.arange(length) < lengths[:, None]
    logits = torch.randn(rows, distributions, length, generator=generator, dtype=torch.float64)
    weights = logits.masked_fill(~there[:, None], -torch.inf).softmax(dim=-1)
    values = scale * torch.randn(rows, distributions, length, classes, generator=generator, dtype=torch.float64)
    return weights, there, responding(values)


def responding(values) -> Respond:
    """The closure: softmax of the sum of values ``(N, D, T, C)`` by their weights."""
    return lambda weights, rows: torch.einsum("mdt,mdtc->mc", weights, values[rows]).softmax(dim=-1)


class Attentive(nn.Module):
    """Embeddings, additive attention over what is no padding (and not special), head: as simple as it can be."""

    def __init__(self, *, classes=3, size=6, seed=0, constant=False, mixing=True):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, size)
        self.mix = nn.Linear(size, size)
        self.score, self.head = nn.Linear(size, 1), nn.Linear(size, classes)
        lively(self, seed)
        self.constant, self.mixing = constant, mixing

    def forward(self, ids, mask):
        embedded = self.embedding(ids)
        around = (embedded * mask[..., None]).sum(dim=1, keepdim=True) / 10 if self.mixing else 0
        hidden = torch.tanh(self.mix(embedded + around))
        scores = self.score(hidden).squeeze(-1) * (0 if self.constant else 3)
        words = (mask != 0) & (ids != 2) & (ids != 3)
        words = words | (~words.any(dim=1, keepdim=True) & (mask != 0))
        weights = scores.masked_fill(~words, -torch.inf).softmax(dim=1)
        return self.head((weights[..., None] * hidden).sum(dim=1)) * 3


def attentive_task():
    """The task that reads it."""
    return BagTask(wordpiece(), ["bad", "dull", "good"])
