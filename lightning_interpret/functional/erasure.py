"""The model with units of its input absent: which are, in what order, and asking it once for each set of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

#: Probability of the class predicted at x when only the units of ``masks`` ``(M, T)`` are present and the others are at
#: the baseline, for the rows ``(M,)`` that the masks belong to: ``(M,)``.
Kept = Callable[[Tensor, Tensor], Tensor]

#: Shares of the units, in percent (DeYoung et al., 2020, ERASER, section 4.2).
BINS = (1, 5, 10, 20, 50)


def highest(scores: Tensor, counts: Tensor, bins: Sequence[int] = BINS) -> Tensor:
    """Return which units are among the ⌈q·n⌉ highest of each row that count, bool ``(bins, ..., N, T)``.

    Args:
        scores: ``(..., N, T)``: several rankings of the same rows come first.
        counts: Bool ``(N, T)``, the units that count.
        bins: Shares of the units, whole percent.

    Raises:
        ValueError: If a bin is no whole percent from 1 to 100, or shapes differ.
    """
    if scores.dim() < 2 or scores.shape[-2:] != counts.shape or counts.dim() != 2:
        raise ValueError(f"`scores` {tuple(scores.shape)} and `counts` {tuple(counts.shape)} must both be (N, T).")
    counting = counts.expand_as(scores)
    order = scores.masked_fill(~counting, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    # a unit that counts may be at -inf too: those that count go first, in the order that they have
    order = order.gather(-1, (~counting).gather(-1, order).int().argsort(dim=-1, stable=True))
    place = order.argsort(dim=-1)
    many = sizes(counts, bins)
    return (place < many.view(len(many), *[1] * (scores.dim() - 2), -1, 1)) & counts


def sizes(counts: Tensor, bins: Sequence[int]) -> Tensor:
    """Return ⌈q·n⌉ for each bin and row, ``(bins, N)``, in whole numbers."""
    wrong = [share for share in bins if not (isinstance(share, int) and 1 <= share <= 100)]
    if wrong or not bins:
        raise ValueError(f"`bins={tuple(bins)}` must be whole numbers of percent from 1 to 100.")
    share = torch.tensor(bins, device=counts.device)
    return (share[:, None] * counts.sum(dim=1) + 99) // 100


def lost(counts: Tensor, present: Tensor, kept: Kept, chunk: int) -> Tensor:
    """Return p(x) − p of each of K masks ``(K, N, T)``: ``(N, K)``.

    Args:
        counts: Bool ``(N, T)``, the units that count.
        present: The masks; units that do not count are present.
        kept: The model, given which units are present.
        chunk: Masks in one call of ``kept``.
    """
    masks = torch.cat([torch.ones_like(counts)[None], present]).flatten(0, 1)
    rows = torch.arange(len(counts), device=counts.device).repeat(len(present) + 1)
    values = ask(kept, masks, rows, counts, chunk).view(len(present) + 1, len(counts))
    return (values[0] - values[1:]).T


def ask(kept: Kept, masks: Tensor, rows: Tensor, counts: Tensor, chunk: int) -> Tensor:
    """Return what ``kept`` says of masks ``(M, T)`` of rows ``(M,)``: ``(M,)``.

    Equal questions are asked once, and those of texts of like length side by side, so that a model that leaves padding
    out has little of it.
    """
    by_length = counts.sum(dim=1).argsort(stable=True)
    asked = torch.cat([by_length.argsort()[rows][:, None], masks.long()], dim=1)
    asked, answer = asked.unique(dim=0, return_inverse=True)
    return in_chunks(kept, asked[:, 1:].bool(), by_length[asked[:, 0]], chunk)[answer]


def in_chunks(function: Callable[[Tensor, Tensor], Tensor], points: Tensor, rows: Tensor, chunk: int) -> Tensor:
    """Return what a function says of points and their rows, so many in one call.

    Raises:
        ValueError: If it does not return one value, or row of values, a point.
    """
    if not len(points):
        return torch.zeros(0, device=points.device)
    found = []
    for some, of in zip(points.split(chunk), rows.split(chunk), strict=True):
        said = function(some, of)
        if said.dim() == 0 or len(said) != len(some):
            raise ValueError(f"The model was asked of {len(some)} points, but its answer is {tuple(said.shape)}.")
        found.append(said.to(points.device))
    return torch.cat(found)
