"""The gradient at a point, and the first-order expansion it gives around that point."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_interpret.functional.path import Score, score_and_gradient


def gradient(score: Score, inputs: Tensor, *, chunk: int = 64) -> Tensor:
    """Return ∂F/∂x at ``inputs`` ``(N, *shape)``: a rate of change, not an attribution (Simonyan et al., 2014).

    Args:
        score: The scalar explained, at points of given rows.
        inputs: x, ``(N, *shape)``.
        chunk: Points in one pass.
    """
    rows = torch.arange(len(inputs), device=inputs.device).split(chunk)
    return torch.cat([score_and_gradient(score, inputs[part], part)[1] for part in rows])


def gradient_times_input(score: Score, inputs: Tensor, baselines: Tensor, *, chunk: int = 64) -> Tensor:
    """Return (x − x') ⊙ ∇F(x), ``(N, *shape)``: the Taylor expansion at x, evaluated at x', without its higher orders.

    With x' = 0 it is the usual gradient × input. Its error is everything of second and higher order.

    Args:
        score: The scalar explained, at points of given rows.
        inputs: x, ``(N, *shape)``.
        baselines: x', ``(N, *shape)``.
        chunk: Points in one pass.
    """
    return (inputs - baselines) * gradient(score, inputs, chunk=chunk)
