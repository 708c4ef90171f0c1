"""Whether an attribution says what happens at inputs nearby: infidelity, and how far it is itself moved by noise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_interpret.functional.erasure import Kept, in_chunks, lost


def infidelity(
    attributions: Tensor,
    inputs: Tensor,
    perturbations: Tensor,
    score: Callable[[Tensor, Tensor], Tensor],
    *,
    normalized: bool = False,
    chunk: int = 64,
) -> Tensor:
    """Return the mean of (I·Φ − (F(x) − F(x − I)))² over perturbations I, ``(N,)`` (Yeh et al., 2019, definition 2.1).

    Φ is a rate, per unit of input. What is an amount already (integrated gradients, gradient × input) is divided by
    x − x' first. The law that I is drawn from is a baseline too: name it.

    Args:
        attributions: Φ, ``(N, *shape)``.
        inputs: x, ``(N, *shape)``.
        perturbations: I, ``(S, N, *shape)``.
        score: F at points ``(M, *shape)`` of rows ``(M,)``.
        normalized: Whether Φ is first scaled by the factor that makes the result least, so that a scale of Φ is free.
        chunk: Points in one call of ``score``.
    """
    size, every = len(perturbations), torch.arange(len(inputs), device=inputs.device)
    points = torch.cat([inputs[None], inputs - perturbations])
    values = in_chunks(score, points.flatten(0, 1), every.repeat(size + 1), chunk).view(size + 1, -1)
    expected = (attributions * perturbations).flatten(2).sum(dim=2)
    return _misfit(expected, values[0] - values[1:], normalized)


def set_infidelity(
    scores: Tensor, counts: Tensor, kept: Kept, absent: Tensor, *, normalized: bool = False, chunk: int = 64
) -> Tensor:
    """Return the mean of (Σ of the scores in S − (F(x) − F(x without S)))² over sets S of units, ``(N,)``.

    It is :func:`infidelity` of scores that are amounts, with I the step from x to the baseline at the units of S. Where
    S is everything it is the attribution error squared. NaN where a score that counts is not finite, or none counts.

    Args:
        scores: ``(N, T)``; or ``(..., N, T)``, several of the same rows, whose values are ``(..., N)``.
        counts: Bool ``(N, T)``, the units that count; others are always present.
        kept: The scalar that the scores explain, given which units are present.
        absent: The sets, bool ``(S, N, T)``.
        normalized: Whether the scores are first scaled by the factor that makes the result least.
        chunk: Masks in one call of ``kept``.

    Raises:
        ValueError: If shapes differ.
    """
    if scores.shape[-2:] != counts.shape or absent.shape[1:] != counts.shape:
        shapes = ", ".join(str(tuple(each.shape)) for each in (scores, counts, absent))
        raise ValueError(f"`scores` (N, T), `counts` (N, T) and `absent` (S, N, T) do not fit: they are {shapes}.")
    absent = absent & counts
    seen = lost(counts, ~absent, kept, chunk).T.double()
    known = (scores.isfinite() | ~counts).all(dim=-1) & counts.any(dim=-1)
    amounts = scores.double().masked_fill(~(counts & scores.isfinite()), 0)
    expected = torch.einsum("...nt,snt->s...n", amounts, absent.double())
    seen = seen.view(len(seen), *[1] * (scores.dim() - 2), -1).expand_as(expected)
    return _misfit(expected, seen, normalized).where(known, torch.nan)


def _misfit(expected: Tensor, seen: Tensor, normalized: bool) -> Tensor:
    if normalized:
        least = expected.square().mean(dim=0)
        scale = (expected * seen).mean(dim=0) / least.where(least != 0, torch.ones_like(least))
        expected = scale * expected
    return (expected - seen).square().mean(dim=0)


def uniform_noise(inputs: Tensor, radius: float, samples: int, seed: int = 0, counts: Tensor | None = None) -> Tensor:
    """Return noise for :func:`max_sensitivity`, uniform within ± ``radius`` times the root mean square of each example.

    Each sample is the same for every example, and for the first units of a text whatever comes after them.

    Args:
        inputs: x, ``(N, *shape)``.
        radius: Largest change of an element, as a share of that size.
        samples: How many, S: the noise is ``(S, N, *shape)``.
        seed: Seed of the draw.
        counts: Bool ``(N, T)``, the units of x ``(N, T, ...)`` that the size is of: else padding is among them, and a
            text that has more of it in its batch is moved by less or more. One without any such unit is not moved.
    """
    drawn = torch.rand(inputs.shape[1], samples, *inputs.shape[2:], generator=torch.Generator().manual_seed(seed))
    squares, ends = inputs.square(), [1] * (inputs.dim() - 1)
    if counts is None:
        mean = squares.flatten(1).mean(dim=1)
    else:
        of_units = squares.flatten(2).mean(dim=2) * counts.to(inputs)
        mean = of_units.sum(dim=1) / counts.to(inputs).sum(dim=1).clamp(min=1)
    return radius * mean.sqrt().view(-1, *ends) * (2 * drawn.movedim(1, 0).to(inputs)[:, None] - 1)


def max_sensitivity(
    explain: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, perturbations: Tensor, *, chunk: int = 64
) -> Tensor:
    """Return the largest ‖Φ(x + δ) − Φ(x)‖ / ‖Φ(x)‖ over perturbations δ, ``(N,)`` (Yeh et al., 2019, equation 6).

    Where Φ(x) is 0 it is not divided. A lower bound of the supremum over the ball that the δ are drawn from.

    Args:
        explain: Φ at points ``(M, *shape)`` of rows ``(M,)``: ``(M, ...)``.
        inputs: x, ``(N, *shape)``.
        perturbations: δ, ``(S, N, *shape)``.
        chunk: Points in one call of ``explain``.
    """
    size, every = len(perturbations), torch.arange(len(inputs), device=inputs.device)
    points = torch.cat([inputs[None], inputs + perturbations])
    found = in_chunks(explain, points.flatten(0, 1), every.repeat(size + 1), chunk)
    found = found.flatten(1).unflatten(0, (size + 1, len(inputs)))
    norm = found[0].norm(dim=1)
    return ((found[1:] - found[0]).norm(dim=2) / norm.where(norm != 0, torch.ones_like(norm))).amax(dim=0)
