"""A probe for leaks: how much of a prediction can be told from where tokens were selected, and not from which."""

from __future__ import annotations

import torch
from torch import Tensor

_BINS = 8
_RIDGE = 1.0  # of standardised features


def shape_of(selected: Tensor, selectable: Tensor) -> Tensor:
    """Return what a selection looks like without its tokens, double ``(B, 13)``.

    How many tokens are selected, in how many stretches; where the first, the last and the mean of them lie, as a share
    of the text, and what part of them lies in each eighth of it.

    Args:
        selected: Bool ``(B, T)``.
        selectable: Which tokens could be selected, bool ``(B, T)``.
    """
    place = (selectable.cumsum(dim=1) - 1).clamp(min=0)
    relative = (place / selectable.sum(dim=1, keepdim=True).clamp(min=1)).double()
    chosen = selected.double()
    count = chosen.sum(dim=1)
    most = count.clamp(min=1)
    before = torch.zeros_like(selected)
    before[:, 1:] = selected[:, :-1]
    runs = (selected & ~before).sum(dim=1).double()
    first = relative.masked_fill(~selected, 1.0).amin(dim=1)
    last = relative.masked_fill(~selected, 0.0).amax(dim=1)
    mean = (relative * chosen).sum(dim=1) / most
    bins = (relative * _BINS).long().clamp(max=_BINS - 1)
    shares = torch.zeros(len(selected), _BINS, dtype=torch.float64, device=selected.device)
    shares.scatter_add_(1, bins, chosen)
    return torch.cat([torch.stack([count, runs, first, last, mean], dim=1), shares / most[:, None]], dim=1)


def probe(features: Tensor, classes: Tensor) -> tuple[float, float] | None:
    """Return how often a ridge classifier tells the class from features, and the share of the commonest class.

    Trained on one half of the rows and asked the other, both ways: the rows of even and of odd place.

    Args:
        features: Double ``(N, F)``.
        classes: Long ``(N,)``.

    Returns:
        Accuracy and majority share; None of fewer than 20 rows.
    """
    if len(features) < 20:
        return None
    even = torch.arange(len(features), device=features.device) % 2 == 0
    hits = sum(_hits(features, classes, train) for train in (even, ~even))
    return hits / len(features), float(classes.bincount().max()) / len(classes)


def _hits(features: Tensor, classes: Tensor, train: Tensor) -> int:
    known = features[train]
    scale = known.std(dim=0)
    values = (features - known.mean(dim=0)) / torch.where(scale > 1e-9, scale, 1.0)
    values = torch.cat([values, torch.ones_like(values[:, :1])], dim=1)
    wanted = torch.nn.functional.one_hot(classes, int(classes.max()) + 1).double()
    penalty = _RIDGE * torch.eye(values.shape[1], dtype=values.dtype, device=values.device)
    penalty[-1, -1] = 1e-9  # the intercept is free
    gram = values[train].T @ values[train] + penalty
    weights = torch.linalg.solve(gram, values[train].T @ wanted[train])
    return int(((values[~train] @ weights).argmax(dim=1) == classes[~train]).sum())
