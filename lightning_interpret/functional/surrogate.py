"""Linear surrogates of a model on coalitions: which units are present, and what the score is then.

A coalition is a row of a bool matrix ``(M, n)``: true where a unit is present. Either all 2ⁿ of them are read, and the
surrogate is exact, or some are drawn in pairs, a coalition and its complement (Covert and Lee, 2021, section 3.3), and
it has standard errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Coalitions:
    """Coalitions of n units, and the weight of each in the regression.

    Attributes:
        masks: Bool ``(M, n)``; row 2k + 1 of those that are drawn is the complement of row 2k.
        weights: Float64 ``(n + 1,)``, the weight of a coalition by its size.
        drawn: Whether they are a sample, and not all there are.
    """

    masks: Tensor
    weights: Tensor
    drawn: bool


@dataclass(frozen=True)
class Fit:
    """Coefficients ``(n,)`` of a surrogate and their standard errors ``(n,)``, float64; 0 where nothing was drawn."""

    coefficients: Tensor
    standard_errors: Tensor


def coalitions(sizes: Tensor, kernel: Tensor, samples: int, generator: torch.Generator) -> Coalitions:
    """Return all coalitions where they are no more than ``samples``, else as many that are drawn.

    Args:
        sizes: Share of coalitions of each size, ``(n + 1,)``, the same for k and n − k; of one size all are as likely.
        kernel: Factor of the weight of a coalition by its size, ``(n + 1,)``.
        samples: Coalitions to have, with everything and nothing as the first two; at least four a unit are drawn, as
            pairs of fewer could not tell the units apart.
        generator: Where they are drawn from.
    """
    units = len(sizes) - 1
    samples = max(samples, 4 * units)
    if units < 31 and 2**units <= samples:
        masks = (torch.arange(2**units)[:, None] >> torch.arange(units)) & 1 == 1
        number = torch.stack([masks.sum(dim=1) == k for k in range(units + 1)]).sum(dim=1)
        return Coalitions(masks, kernel * sizes / number, drawn=False)
    picked = torch.multinomial(sizes, (samples - 1) // 2, replacement=True, generator=generator)
    place = torch.rand(len(picked), units, generator=generator, dtype=torch.float64).argsort(dim=1).argsort(dim=1)
    first = torch.cat([torch.ones(1, units, dtype=torch.bool), place < picked[:, None]])
    return Coalitions(torch.stack([first, ~first], dim=1).flatten(0, 1), kernel, drawn=True)


def shapley_sizes(units: int) -> Tensor:
    """Return the share of each size in the Shapley kernel, (n − 1) / (k(n − k)) to a factor (Lundberg and Lee, 2017).

    Everything and nothing have no share: the surrogate meets them exactly.
    """
    k = torch.arange(1, units, dtype=torch.float64)
    shares = torch.zeros(units + 1, dtype=torch.float64)
    shares[1:units] = 1 / (k * (units - k))
    return shares / shares.sum().clamp(min=torch.finfo(torch.float64).tiny)


def local_kernel(units: int, width: float) -> Tensor:
    """Return exp(−d² / 2w²) of each size, d = 1 − √(k/n) the cosine distance to everything (Ribeiro et al., 2016)."""
    distance = 1 - (torch.arange(units + 1, dtype=torch.float64) / max(units, 1)).sqrt()
    return (-distance.square() / (2 * width**2)).exp()


def shapley_values(masks: Tensor, values: Tensor, weights: Tensor, *, drawn: bool) -> Fit:
    """Return the weighted least squares φ with Σφ = v(everything) − v(nothing): Shapley values on all coalitions.

    Lundberg and Lee, 2017, theorem 2; the two ends are met by construction and not by a large weight.

    Args:
        masks: Coalitions ``(M, n)``, everything and nothing among them.
        values: v, ``(M,)``.
        weights: ``(M,)``.
        drawn: Whether the coalitions are pairs that were drawn.
    """
    size, units = masks.sum(dim=1), masks.shape[1]
    nothing = values[size == 0].mean()
    total = values[size == units].mean() - nothing
    # what is left to explain when every unit has its share of the total sums to 0 over the units
    fit = _least_squares(masks - size[:, None] / units, values - nothing - size / units * total, weights, drawn=drawn)
    return Fit(total / units + fit.coefficients, fit.standard_errors)


def local_surrogate(masks: Tensor, values: Tensor, weights: Tensor, *, drawn: bool) -> Fit:
    """Return the coefficients of weighted least squares with an intercept (Ribeiro et al., 2016, without selection).

    Args are those of :func:`shapley_values`.
    """
    fit = _least_squares(torch.cat([masks, torch.ones_like(masks[:, :1])], dim=1), values, weights, drawn=drawn)
    return Fit(fit.coefficients[:-1], fit.standard_errors[:-1])


def _least_squares(design: Tensor, values: Tensor, weights: Tensor, *, drawn: bool) -> Fit:
    """Return weighted least squares, and standard errors over the drawing of pairs.

    The values have no noise: what the surrogate does not fit is the model's, and what errs is which coalitions were
    drawn. So the errors are those of an estimating equation (Huber's sandwich), each pair one draw of it.
    """
    weighted = design * weights[:, None]
    # a design whose rows sum to 0 is singular, and how far rounding lifts that eigenvalue differs between processors
    inverse = torch.linalg.pinv(design.T @ weighted, hermitian=True, rtol=1e-10)
    coefficients = inverse @ (weighted.T @ values)
    if not drawn:
        return Fit(coefficients, torch.zeros_like(coefficients))
    misses = (weighted * (values - design @ coefficients)[:, None]).unflatten(0, (-1, 2)).sum(dim=1)
    pairs = len(misses)
    moved = misses @ inverse * (pairs / max(pairs - design.shape[1], 1)) ** 0.5
    return Fit(coefficients, moved.square().sum(dim=0).sqrt())
