"""What influence is held to: models that were trained without some examples (Ilyas et al., 2022).

Masks say which of n training examples each of S trainings saw; outcomes are what came of it at M queries: minus the
loss, or a margin, so that more is better. Scores are positive where an example helps: a subset is predicted to do as
well at a query as the sum of the scores of the examples that it has.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_interpret.functional.ranks import spearman
from lightning_interpret.names import check_whole


def subsets(n: int, fraction: float, count: int, seed: int = 0) -> Tensor:
    """Return ``count`` random subsets of n examples, all of one size, as masks ``(count, n)``.

    The first ones are the same whatever the count, so that more can be trained later.

    Args:
        n: Number of training examples.
        fraction: Share of them in each subset, rounded to whole examples.
        count: Number of subsets.
        seed: Seed of the draw; the global random state is left alone.

    Raises:
        ValueError: If a subset would be empty or whole, or there is to be none.
    """
    size = round(n * fraction) if math.isfinite(fraction) else 0
    if not 0 < size < n:
        raise ValueError(f"`fraction={fraction!r}` of n={n} examples is {size}: a subset has some of them and not all.")
    check_whole(count=count)
    generator, masks = torch.Generator().manual_seed(seed), torch.zeros(count, n, dtype=torch.bool)
    for mask in masks:
        mask[torch.randperm(n, generator=generator)[:size]] = True
    return masks


def leave_one_out(n: int, without: Tensor | None = None) -> Tensor:
    """Return masks ``(K, n)`` that each lack one example: those at the places ``without``, by default every one."""
    places = torch.arange(n) if without is None else without
    masks = torch.ones(len(places), n, dtype=torch.bool)
    return masks.scatter_(1, places[:, None], False)


def removal_effects(outcomes: Tensor, without: Tensor) -> Tensor:
    """Return by how much each removal lowers the outcome at each query, ``(M, K)``: positive where it helped.

    Args:
        outcomes: Outcomes of training on all examples, ``(M,)`` or, of several seeds, ``(R, M)``.
        without: Outcomes of K trainings that each lack something, ``(K, M)`` or ``(K, R, M)``.
    """
    whole = outcomes.mean(dim=0) if outcomes.dim() == 2 else outcomes
    return (whole - _over_seeds(without)).T


def linear_datamodeling_score(scores: Tensor, masks: Tensor, outcomes: Tensor) -> Tensor:
    """Return for each query how well sums of scores order the outcomes of subsets, ``(M,)`` (Park et al., 2023, §2).

    Spearman's rank correlation over the subsets of predicted and actual outcomes. NaN where a query's outcomes are all
    the same, or a number is not finite; 0 where they are not, and the predictions are.

    Args:
        scores: Score of each training example for each query, ``(M, n)``, positive where it helps.
        masks: Which examples each training saw, bool ``(S, n)``.
        outcomes: Outcomes of the trainings at the queries, ``(S, M)``; or ``(S, R, M)`` of R seeds, which are averaged.

    Raises:
        ValueError: If the shapes do not fit.
    """
    shapes = f"scores {tuple(scores.shape)}, masks {tuple(masks.shape)}, outcomes {tuple(outcomes.shape)}"
    fits = scores.dim() == masks.dim() == 2 and outcomes.dim() in (2, 3) and scores.shape[1] == masks.shape[1]
    if not fits or (len(outcomes), outcomes.shape[-1]) != (len(masks), len(scores)):
        raise ValueError(f"Expected scores (M, n), masks (S, n) and outcomes (S, M) or (S, R, M), but got {shapes}.")
    return spearman(predicted_outcomes(scores, masks), _over_seeds(outcomes))


def predicted_outcomes(scores: Tensor, masks: Tensor) -> Tensor:
    """Return the sum of the scores of each subset's examples at each query, ``(S, M)`` in double precision."""
    return masks.to(scores.device, torch.float64) @ scores.double().T


def _over_seeds(outcomes: Tensor) -> Tensor:
    return outcomes.double().mean(dim=1) if outcomes.dim() == 3 else outcomes.double()
