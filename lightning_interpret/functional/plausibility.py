"""How what a model selected agrees with what people selected: the scores of ERASER (DeYoung et al., 2020, section 4.1).

All are of N examples at once, bool ``(N, T)`` of T tokens. Tokens that do not count (padding, special ones) are as if
they were not there, but that they part what is on either side. Neither do those whose ``gold`` is −100, as in the
``rationale`` of a batch where it is not known. An example with nothing to compare is NaN, which the metrics of
:mod:`lightning_interpret.metrics` leave out. That a rationale is plausible does not say that the model went
by it: read these beside sufficiency and comprehensiveness.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_interpret.functional.character_spans import UNKNOWN

#: What an example is of which people selected nothing: 0 where the model selected something, or left out.
EMPTY = ("zero", "skip")


def overlap(selected: Tensor, gold: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return how many tokens are selected by both, by the model, and by people, each ``(N,)``.

    Raises:
        ValueError: If the three are not ``(N, T)`` of one shape.
    """
    if not (selected.shape == gold.shape == counts.shape) or selected.dim() != 2:
        shapes = ", ".join(str(tuple(each.shape)) for each in (selected, gold, counts))
        raise ValueError(f"`selected`, `gold` and `counts` must be of one shape (N, T), but are {shapes}.")
    counts = _known(gold, counts)
    selected, gold = selected.bool() & counts, gold.bool() & counts
    return (selected & gold).sum(dim=1), selected.sum(dim=1), gold.sum(dim=1)


def token_f1(selected: Tensor, gold: Tensor, counts: Tensor, *, empty: str = "zero") -> Tensor:
    """Return F1 of the tokens of each example, ``(N,)``; ERASER's is the mean of it over examples.

    The mean of F1 is not F1 of the mean precision and recall. Where people selected nothing it is 0, as in ERASER's
    code, or NaN with ``empty="skip"``; NaN where nobody selected anything, which that code leaves out as well.

    Args:
        selected: What the model selected.
        gold: What people selected.
        counts: Which tokens count.
        empty: One of :data:`EMPTY`.
    """
    both, predicted, true = overlap(selected, gold, counts)
    return f1(both, predicted, true).masked_fill(_left_out(predicted, true, empty), torch.nan)


def f1(both: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
    """Return F1 of counts: 2·both / (predicted + true), 0 where both of them are 0."""
    return 2 * both.double() / (predicted + true).clamp(min=1)


def span_matches(
    selected: Tensor, gold: Tensor, counts: Tensor, *, threshold: float = 0.5, strict: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Return how many of the model's spans match one of people's, how many it has, and how many they have: ``(N,)``.

    A span is a stretch of neighbouring tokens. It matches a span of people's where the tokens in both, as a share of
    those in either, are at least ``threshold``, as in ERASER's code; its paper says more than that (``strict=True``).
    Matches are counted on the model's side, as there: up to a threshold of one half several may match the same one.

    Raises:
        ValueError: If shapes differ, or the threshold is not in (0, 1].
    """
    check_threshold(threshold)
    overlap(selected, gold, counts)  # shapes
    counts = _known(gold, counts)
    ours, spans = _spans(selected.bool() & counts)
    theirs, true = _spans(gold.bool() & counts)
    together = (ours >= 0) & (theirs >= 0)
    pairs, shared = torch.stack([ours[together], theirs[together]]).unique(dim=1, return_counts=True)
    sizes, true_sizes = (ids[ids >= 0].bincount() for ids in (ours, theirs))
    union = sizes[pairs[0]] + true_sizes[pairs[1]] - shared
    iou = shared.double() / union
    best = iou.new_zeros(len(sizes)).scatter_reduce(0, pairs[0], iou, "amax")
    matches = best > threshold if strict else best >= threshold
    rows = ours.new_full((len(sizes),), 0)
    where = ours >= 0
    rows[ours[where]] = where.nonzero()[:, 0]
    found = torch.zeros(len(selected), dtype=torch.long, device=ours.device)
    return found.index_add(0, rows, matches.long()), spans, true


def check_threshold(threshold: float) -> None:
    """Raise a ValueError for an intersection over union that is not in (0, 1]."""
    if not 0 < threshold <= 1:
        raise ValueError(f"`threshold={threshold}` must lie in (0, 1].")


def auprc(scores: Tensor, gold: Tensor, counts: Tensor, *, step: bool = False) -> Tensor:
    """Return the area under the precision-recall curve of each example's tokens by their scores, ``(N,)``.

    By trapezoids from recall 0 at precision 1, as ERASER's code; ``step=True`` is the average precision, which does not
    interpolate. Tokens of equal scores come in at once. NaN where people selected nothing, as recall has no meaning
    there: ERASER's code gives 1/2 or NaN for it, by the version of scikit-learn; NaN too where a score of a token that
    counts is. All selected is 1.

    Args:
        scores: Float ``(N, T)``, the higher the more selected: a gate's probabilities, or attributions.
        gold: What people selected.
        counts: Which tokens count.
        step: Whether to take the average precision.

    Raises:
        ValueError: If shapes differ.
    """
    overlap(gold, gold, counts)
    if scores.shape != gold.shape:
        raise ValueError(f"`scores` {tuple(scores.shape)} must be of the shape of `gold` {tuple(gold.shape)}.")
    counts = _known(gold, counts)
    order = scores.double().masked_fill(~counts, -torch.inf).argsort(dim=1, descending=True, stable=True)
    order = order.gather(1, (~counts).gather(1, order).int().argsort(dim=1, stable=True))  # those that count come first
    ranked, true = scores.double().gather(1, order), (gold.bool() & counts).gather(1, order)
    inside = counts.gather(1, order)
    here = torch.arange(order.shape[1], device=order.device).expand_as(order)
    changes = torch.ones_like(inside)
    changes[:, :-1] = (ranked[:, :-1] != ranked[:, 1:]) | ~inside[:, 1:]
    ends = changes & inside  # the last of those with one score
    found = true.cumsum(dim=1).double()
    precision, recall = found / (here + 1), found / true.sum(dim=1, keepdim=True)
    before = torch.where(ends, here + 1, 0).cummax(dim=1).values.roll(1, dims=1)  # one past the end before
    before[:, :1] = 0
    start = precision.new_ones(len(precision), 1)
    earlier = torch.cat([start, precision], dim=1).gather(1, before)
    gained = recall - torch.cat([0 * start, recall], dim=1).gather(1, before)
    height = precision if step else (precision + earlier) / 2
    area = torch.where(ends, gained * height, 0.0).sum(dim=1)
    return area.masked_fill(~true.any(dim=1) | (scores.isnan() & counts).any(dim=1), torch.nan)


def selection_rate(selected: Tensor, counts: Tensor) -> Tensor:
    """Return the share of the tokens that count which are selected, ``(N,)``; NaN where none counts."""
    _, chosen, _ = overlap(selected, selected, counts)
    return chosen.double() / counts.bool().sum(dim=1)


def _known(gold: Tensor, counts: Tensor) -> Tensor:
    return counts.bool() & (gold != UNKNOWN)


def _left_out(predicted: Tensor, true: Tensor, empty: str) -> Tensor:
    if empty not in EMPTY:
        raise ValueError(f"`empty={empty!r}` must be one of {', '.join(map(repr, EMPTY))}.")
    return true == 0 if empty == "skip" else (true == 0) & (predicted == 0)


def _spans(flags: Tensor) -> tuple[Tensor, Tensor]:
    """Return the number of the span that each token is in, over all rows, −1 in none; and how many each row has."""
    starts = flags.clone()
    starts[:, 1:] &= ~flags[:, :-1]
    numbers = starts.flatten().cumsum(dim=0).view_as(flags) - 1
    return numbers.masked_fill(~flags, -1), starts.sum(dim=1)
