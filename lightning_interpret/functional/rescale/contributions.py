"""Contributions (x − x') ⊙ m, by one forward pass at x' and one at x."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_interpret.functional.passes import Score, score_and_gradient
from lightning_interpret.functional.rescale.scope import Rescale


def deep_lift(
    score: Score, inputs: Tensor, baselines: Tensor, *, chunk: int = 64, order: Tensor | None = None
) -> Tensor:
    """Return (x − x') ⊙ m, ``(N, *shape)``, with Σ = F(x) − F(x') but for rounding (Shrikumar et al., 2017).

    A forward pass at x' keeps what its operations met. One at x gives each a line through the two, and a backward
    chains the slopes, the multipliers m.

    Args:
        score: The scalar explained, at points of given rows.
        inputs: x, ``(N, *shape)``.
        baselines: x', ``(N, *shape)``.
        chunk: Examples in one pass.
        order: The rows, in the order in which passes take them.

    Raises:
        RescaleError: If an operation has no rule, or the forward at x is not, operation by operation, that at x'.
        ValueError: If no gradient of the score reaches the points.
    """
    order = torch.arange(len(inputs)) if order is None else order
    contributions = torch.empty_like(inputs)
    for rows in order.to(inputs.device).split(chunk):
        contributions[rows] = (inputs[rows] - baselines[rows]) * _multipliers(
            score, inputs[rows], baselines[rows], rows
        )
    return contributions


def _multipliers(score: Score, inputs: Tensor, baselines: Tensor, rows: Tensor) -> Tensor:
    reference = Rescale()
    with reference:
        score(reference.track(baselines.detach().requires_grad_()), rows)
    scope = Rescale(reference)

    def inside(points: Tensor, rows: Tensor) -> Tensor:
        with scope:
            values = score(scope.track(points), rows)
        scope.finish(values)
        return values

    return score_and_gradient(inside, inputs, rows)[1]
