"""How a model answers where units that an attribution ranks are absent.

These are the "marginal effect" family: each compares scores with what the model does *elsewhere*, at inputs with holes
or noise, so that a bad value may be the scores' fault or that of the way units are made absent. They do not say whether
an attribution adds up; the attribution error does, and comes first (after Cui and Fan, *The Neglected Baseline in Model
Interpretation*, arXiv 2605.22417). Read them beside a random order, with the baseline named.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_interpret.functional.aopc import MOST_UNITS, aopc, aopc_limits, normalized_aopc
from lightning_interpret.functional.erasure import BINS, Kept, ask, highest, lost
from lightning_interpret.functional.infidelity import infidelity, max_sensitivity, set_infidelity

__all__ = [
    "BINS",
    "MOST_UNITS",
    "Kept",
    "aopc",
    "aopc_limits",
    "comprehensiveness",
    "highest",
    "infidelity",
    "leave_one_out",
    "log_odds",
    "max_sensitivity",
    "normalized_aopc",
    "probability_drop",
    "set_infidelity",
    "sufficiency",
]


def comprehensiveness(
    scores: Tensor, counts: Tensor, kept: Kept, *, bins: Sequence[int] = BINS, chunk: int = 64
) -> Tensor:
    """Return p(x) − p(x ∖ r), ``(N, bins)``: how much is lost without the highest units r (DeYoung et al., 2020).

    High is good. The class is the one predicted at x. Units rank by signed score, evidence for the target first; of
    equal ones the first in the text comes first. r has ⌈q·n⌉ units of the n that count, computed in whole numbers: at
    least one, and 7 of 10 at 70 %, where 0.7 · 10 may be above 7 in floating point. Rounding down, as some codes do,
    gives other values. Bins that take the same units of a row are one question to the model. NaN where a score that
    counts is.

    Args:
        scores: ``(N, T)``; or ``(..., N, T)``, several rankings of the same rows, whose values are ``(..., N, bins)``.
        counts: Bool ``(N, T)``, the units that count; others (special tokens, padding) are always present.
        kept: The model, given which units are present.
        bins: Shares of the units, whole percent.
        chunk: Masks in one call of ``kept``.

    Raises:
        ValueError: If a bin is no whole percent from 1 to 100, or shapes differ.
    """
    return _of_rankings(scores, counts, ~highest(scores, counts, bins), kept, chunk)


def sufficiency(scores: Tensor, counts: Tensor, kept: Kept, *, bins: Sequence[int] = BINS, chunk: int = 64) -> Tensor:
    """Return p(x) − p(r), ``(N, bins)``: how much is lost with the highest units r alone (DeYoung et al., 2020).

    Low is good. Ranks, rounding, arguments and errors are those of :func:`comprehensiveness`.
    """
    return _of_rankings(scores, counts, highest(scores, counts, bins) | ~counts, kept, chunk)


def log_odds(scores: Tensor, counts: Tensor, kept: Kept, *, share: int = 20, chunk: int = 64) -> Tensor:
    """Return log p(x) − log p(x ∖ r), ``(N,)``: the drop without the highest ``share`` percent of the units.

    High is good: it is the log-odds score of Chen et al. (2020, HEDGE) with the other sign. A probability
    of 0 stands as the least number of its kind. Ranks, rounding and errors are those of :func:`comprehensiveness`.

    Raises:
        ValueError: If what ``kept`` returns is negative, as a logarithm or a difference of probabilities is.
    """

    def logarithm(masks: Tensor, rows: Tensor) -> Tensor:
        likely = kept(masks, rows)
        if bool((likely < 0).any()):
            raise ValueError(
                f"`kept` must return probabilities, but {float(likely.min()):.3g} is among its answers: it is not for "
                "a contrast of two classes, and not for `output='log_prob'`."
            )
        return likely.clamp(min=torch.finfo(likely.dtype).tiny).log()

    return comprehensiveness(scores, counts, logarithm, bins=[share], chunk=chunk).squeeze(-1)


def leave_one_out(counts: Tensor, kept: Kept, *, chunk: int = 64) -> Tensor:
    """Return p(x) − p(x without one unit) for each, ``(N, T)``; 0 for units that do not count."""
    row, unit = counts.nonzero(as_tuple=True)
    present = torch.ones(len(row), counts.shape[1], dtype=torch.bool, device=counts.device)
    present[torch.arange(len(row)), unit] = False
    masks, rows = torch.cat([torch.ones_like(counts), present]), torch.arange(len(counts), device=counts.device)
    values = ask(kept, masks, torch.cat([rows, row]), counts, chunk)
    found = values.new_zeros(counts.shape)
    found[row, unit] = values[row] - values[len(counts) :]
    return found


def probability_drop(full: Tensor, other: Tensor, classes: Tensor | None = None) -> Tensor:
    """Return p(x) − p(x') of one class, ``(N,)`` (DeYoung et al., 2020).

    Sufficiency where x' is the rationale alone, comprehensiveness where it is what the rationale leaves.

    Args:
        full: Probabilities at x, ``(N, C)``.
        other: Probabilities at x', ``(N, C)``.
        classes: Class of each, ``(N,)``; by default the one predicted at x, as there. Of a model that predicts from its
            rationale it is the one that it predicts: give that.

    Raises:
        ValueError: If shapes differ.
    """
    if full.shape != other.shape or full.dim() != 2:
        raise ValueError(
            f"`full` {tuple(full.shape)} and `other` {tuple(other.shape)} must be probabilities of one shape (N, C)."
        )
    which = full.argmax(dim=1) if classes is None else classes.to(full.device)
    if which.shape != full.shape[:1]:
        raise ValueError(f"`classes` must be ({len(full)},), but is {tuple(which.shape)}.")
    return (full.double() - other.double()).gather(1, which[:, None]).squeeze(1)


def _of_rankings(scores: Tensor, counts: Tensor, present: Tensor, kept: Kept, chunk: int) -> Tensor:
    """Return what is lost of masks ``(bins, ..., N, T)``, as ``(..., N, bins)``."""
    between = present.shape[1:-2]
    values = lost(counts, present.flatten(0, -3), kept, chunk).T.unflatten(0, (len(present), *between)).movedim(0, -1)
    unknown = (scores.isnan() & counts).any(dim=-1)
    return values.masked_fill(unknown[..., None], torch.nan) if unknown.any() else values
