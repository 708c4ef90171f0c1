"""The gradient at a point, and the first-order expansion it gives around that point."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_interpret.functional.passes import Score, score_and_gradient
from lightning_interpret.names import choose

ENDS = ("input", "baseline")


def gradient(score: Score, inputs: Tensor, *, chunk: int = 64) -> Tensor:
    """Return ∂F/∂x at ``inputs`` ``(N, *shape)``: a rate of change, not an attribution (Simonyan et al., 2014).

    Args:
        score: The scalar explained, at points of given rows.
        inputs: x, ``(N, *shape)``.
        chunk: Points in one pass.
    """
    rows = torch.arange(len(inputs), device=inputs.device).split(chunk)
    return torch.cat([score_and_gradient(score, inputs[part], part)[1] for part in rows])


def taylor(score: Score, inputs: Tensor, baselines: Tensor, *, at: str = "input", chunk: int = 64) -> Tensor:
    """Return (x − x') ⊙ ∇F at one end of the path, ``(N, *shape)``: the first-order part of F(x) − F(x').

    With R the orders from the second on, of the expansion at the one end as evaluated at the other, the sum misses
    F(x) − F(x') by R at the ``input`` and by −R at the ``baseline``.

    Args:
        score: The scalar explained, at points of given rows.
        inputs: x, ``(N, *shape)``.
        baselines: x', ``(N, *shape)``.
        at: The point around which F is expanded: ``input`` or ``baseline``.
        chunk: Points in one pass.

    Raises:
        ValueError: If ``at`` does not exist.
    """
    point = inputs if choose("at", at, ENDS) == "input" else baselines
    return (inputs - baselines) * gradient(score, point, chunk=chunk)


def gradient_times_input(score: Score, inputs: Tensor, baselines: Tensor, *, chunk: int = 64) -> Tensor:
    """Return :func:`taylor` at the input: with x' = 0 the usual gradient × input."""
    return taylor(score, inputs, baselines, chunk=chunk)
