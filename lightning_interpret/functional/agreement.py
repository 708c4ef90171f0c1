"""How far two attributions of the same units say the same.

Of all of them 1 is agreement, of :func:`drift` 0. Two of N examples at once are ``(N, T)`` with bool ``counts`` of the
same shape: the units that count, as opposed to padding and special tokens. An example that cannot be compared is NaN:
nothing in it counts, a score that counts is not finite, or, for correlations, one side is all the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_interpret.functional.ranks import average_ranks, kendall
from lightning_interpret.names import check_whole, choose

#: Agreement of the k highest (Krishna et al., 2022), and correlations over all units.
TOP = ("feature", "rank", "sign", "signed_rank")
CORRELATIONS = ("pearson", "kendall", "spearman", "cosine")


def drift(scores: Tensor, before: Tensor) -> Tensor:
    """Return 1 − cos(scores, before) along the last dimension, in [0, 2].

    0 where the direction is the same, whatever the scale; 2 where every sign has turned. Two vectors of zeros are the
    same (0), one vector of zeros and another have nothing in common (1).

    Args:
        scores: Attributions now, ``(..., T)``.
        before: Attributions before, same shape.
    """
    scores, before = scores.double(), before.double()
    norms = scores.norm(dim=-1) * before.norm(dim=-1)
    cosine = (scores * before).sum(dim=-1) / norms.clamp(min=torch.finfo(torch.float64).tiny)
    both_nothing = (scores == 0).all(dim=-1) & (before == 0).all(dim=-1)
    return 1 - torch.where(both_nothing, torch.ones_like(cosine), cosine.clamp(-1, 1))


def method_agreement(first: Tensor, second: Tensor, counts: Tensor, measure: str, *, k: int = 5) -> Tensor:
    """Return how far two attributions agree by one measure, ``(N,)``.

    Args:
        first: ``(N, T)``.
        second: Same shape.
        counts: Bool, same shape.
        measure: One of :data:`TOP`: with the k units of largest size on each side, the share of k that both name
            (``feature``), at the same rank (``rank``), with the same sign (``sign``), or both (``signed_rank``); of
            equal ones the first in the text comes first. Or one of :data:`CORRELATIONS`, of signed scores.
        k: Units on each side; where fewer count, all of those.

    Raises:
        ValueError: If shapes differ, or the measure does not exist.
    """
    choose("measure", measure, (*TOP, *CORRELATIONS))
    if measure in CORRELATIONS:
        return correlation(first, second, counts, measure)
    return top_agreement(first, second, counts, k=k)[measure]


def top_agreement(first: Tensor, second: Tensor, counts: Tensor, *, k: int = 5) -> dict[str, Tensor]:
    """Return the four agreements of the k units of largest size, each ``(N,)``, by the names of :data:`TOP`."""
    check_whole(k=k)
    known = _comparable(first, second, counts)
    places = [_places(each, counts) for each in (first, second)]
    chosen = (places[0] < k) & (places[1] < k) & counts
    same = {
        "feature": chosen,
        "rank": chosen & (places[0] == places[1]),
        "sign": chosen & (first.sign() == second.sign()),
    }
    same["signed_rank"] = same["rank"] & same["sign"]
    size = counts.sum(dim=1).clamp(max=k)
    return {name: (same[name].sum(dim=1).double() / size).where(known, torch.nan) for name in TOP}


def correlation(first: Tensor, second: Tensor, counts: Tensor, kind: str = "spearman") -> Tensor:
    """Return the correlation of two attributions over the units that count, ``(N,)``.

    Raises:
        ValueError: If shapes differ, or there is no such kind in :data:`CORRELATIONS`.
    """
    choose("kind", kind, CORRELATIONS)
    known = _comparable(first, second, counts)
    if kind == "kendall":
        return kendall(first, second, counts)
    a, b = (each.double().masked_fill(~counts, 0) for each in (first, second))
    if kind == "spearman":  # what does not count ranks behind, where it is taken out
        a, b = (average_ranks(each.masked_fill(~counts, torch.inf).T).T.masked_fill(~counts, 0) for each in (a, b))
    if kind != "cosine":
        a, b = (each - (each.sum(dim=1) / counts.sum(dim=1))[:, None] for each in (a, b))
        a, b = (each.masked_fill(~counts, 0) for each in (a, b))
        # a mean of equal numbers is off by a rounding, and what is left is no variation
        a, b = (_no_rounding(each, raw, counts) for each, raw in ((a, first), (b, second)))
    norms = a.norm(dim=1) * b.norm(dim=1)
    found = ((a * b).sum(dim=1) / norms).clamp(-1, 1)
    return found.where(known & (norms > 0), torch.nan)


def _no_rounding(centred: Tensor, values: Tensor, counts: Tensor) -> Tensor:
    lowest = values.masked_fill(~counts, torch.inf).amin(dim=1)
    constant = lowest == values.masked_fill(~counts, -torch.inf).amax(dim=1)
    return centred.masked_fill(constant[:, None], 0)


def _comparable(first: Tensor, second: Tensor, counts: Tensor) -> Tensor:
    if not (first.shape == second.shape == counts.shape) or first.dim() != 2:
        shapes = ", ".join(str(tuple(each.shape)) for each in (first, second, counts))
        raise ValueError(f"Two attributions and `counts` must be of one shape (N, T), but are {shapes}.")
    return ((first.isfinite() & second.isfinite()) | ~counts).all(dim=1) & counts.any(dim=1)


def _places(scores: Tensor, counts: Tensor) -> Tensor:
    """Return the place of each unit by the size of its score, the largest 0; those that do not count come last."""
    order = scores.abs().masked_fill(~counts, -1).argsort(dim=1, descending=True, stable=True)
    return order.argsort(dim=1)
