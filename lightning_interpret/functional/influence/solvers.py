"""Solvers of H x = b for a symmetric curvature H: factorised, by conjugate gradients, by a stochastic recursion."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
"""Vectors ``(M, P)`` → H times each of them."""


def check_damping(damping: float | None) -> None:
    """Raise a ``ValueError`` for a damping that is no number of at least 0, nor None."""
    if damping is not None and not (math.isfinite(damping) and damping >= 0):
        raise ValueError(f"`damping={damping!r}` must be a number of at least 0, or None to have it chosen.")


def check_tolerance(tolerance: float) -> None:
    """Raise a ``ValueError`` for a relative residual that is not between 0 and 1."""
    if not 0 < tolerance < 1:
        raise ValueError(f"`tolerance={tolerance!r}` must lie between 0 and 1.")


def chosen_damping(damping: float | None, weight_decay: float, mean_eigenvalue: float) -> float:
    """Return the damping: that given; else 0 where the loss has a weight decay, else a tenth of the mean eigenvalue."""
    if damping is not None:
        return float(damping)
    return 0.0 if weight_decay > 0 else 0.1 * max(0.0, mean_eigenvalue)


class Inverse:
    """The inverse of a symmetric matrix by its Cholesky factor, or by its eigenvalues where it has none.

    Eigenvalues of zero are left out (the pseudo-inverse); negative ones are inverted as they are.

    Args:
        matrix: ``(P, P)``.

    Attributes:
        notes: What the reader of a solution should know: that, and how many eigenvalues there were of either kind.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.notes: tuple[str, ...] = ()
        factor, failed = torch.linalg.cholesky_ex(matrix)
        floor = len(matrix) * torch.finfo(matrix.dtype).eps
        self._factor = factor
        # a pivot of rounding error: the matrix is singular, though the factor exists
        if not failed and factor.diagonal().square().min() > floor * matrix.diagonal().max():
            return
        values, self._vectors = torch.linalg.eigh(matrix)
        kept = values.abs() > floor * values.abs().max()
        self._inverse = torch.where(kept, values.reciprocal(), 0.0)
        negative, count = int((kept & (values < 0)).sum()), len(values)
        if negative:
            self.notes += (
                f"{negative} of {count} eigenvalues of the damped curvature are negative (the lowest "
                f"{float(values.min()):.3g}): this is no minimum of the loss; raise `damping`, or use curvature 'ggn'.",
            )
        if not kept.all():
            self.notes += (
                f"{int((~kept).sum())} of {count} eigenvalues of the damped curvature are zero and were left out: what "
                "a query asks in their directions counts nothing; give a `damping` above 0.",
            )
        del self._factor

    def solve(self, vectors: Tensor) -> Tensor:
        """Return H⁻¹ times each vector ``(M, P)``."""
        if hasattr(self, "_factor"):
            return torch.cholesky_solve(vectors.T, self._factor).T
        return (vectors @ self._vectors * self._inverse) @ self._vectors.T

    def squares(self, vectors: Tensor) -> Tensor:
        """Return vᵀ H⁻¹ v of each vector, ``(M,)``."""
        if hasattr(self, "_factor"):
            white = torch.linalg.solve_triangular(self._factor, vectors.T, upper=False)
            return white.square().sum(dim=0)
        return ((vectors @ self._vectors).square() * self._inverse).sum(dim=1)


@dataclass(frozen=True)
class Solution:
    """What an iterative solver found.

    Attributes:
        values: ``(M, P)``; zero for a right-hand side whose recursion diverged.
        residual: ‖H x − b‖ / ‖b‖ of each, ``(M,)``, measured with H itself.
        steps: Steps taken.
        diverged: Whether the recursion of each grew beyond all bounds, ``(M,)``.
    """

    values: Tensor
    residual: Tensor
    steps: int
    diverged: Tensor


def conjugate_gradient(product: Product, targets: Tensor, *, tolerance: float, max_steps: int) -> Solution:
    """Solve H x = b for several b at once, a product with all of them a step (Hestenes and Stiefel, 1952).

    Each b has its own steps; no preconditioner. The residual of the recurrence drifts from the true one by rounding:
    that is measured once the recurrence says that all are solved, and if they are not it starts again from there.

    Args:
        product: Vectors ``(M, P)`` → H times each.
        targets: b, ``(M, P)``.
        tolerance: Relative residual at which b is solved.
        max_steps: Products at most, beside those that measure.
    """
    sizes = targets.norm(dim=1).clamp(min=torch.finfo(targets.dtype).tiny)
    values, residual, steps, before = torch.zeros_like(targets), targets.clone(), 0, torch.inf
    while True:
        direction, square = residual.clone(), residual.square().sum(dim=1)
        while steps < max_steps and bool((active := square.sqrt() > tolerance * sizes).any()):
            moved = product(direction)
            curved = (direction * moved).sum(dim=1)
            length = torch.where(active & (curved > 0), square / curved, 0.0)[:, None]
            values = values + length * direction
            residual = residual - length * moved
            after = residual.square().sum(dim=1)
            direction = residual + (after / square.clamp(min=torch.finfo(square.dtype).tiny))[:, None] * direction
            square, steps = after, steps + 1
        residual = targets - product(values)
        relative = residual.norm(dim=1) / sizes
        worst = float(relative.max())
        if worst <= tolerance or steps >= max_steps or not worst < before:
            return Solution(values, relative, steps, torch.zeros_like(sizes, dtype=torch.bool))
        before = worst


def stochastic_recursion(
    draw: Callable[[], Product],
    full: Product,
    targets: Tensor,
    *,
    scale: float,
    depth: int,
    bound: float,
    repeats: int = 1,
) -> Solution:
    """Solve H x = b by x ← b + x − H_t x / s, with H_t of some examples: LiSSA (Agarwal et al., 2017).

    It converges while no H_t has an eigenvalue of 2 s or more; a right-hand side that does not is given up.

    Args:
        draw: Returns the product with the H_t of a step.
        full: The product with H itself, for the residual.
        targets: b, ``(M, P)``.
        scale: s.
        depth: Steps of each recursion.
        bound: What ‖x‖ / ‖b‖ cannot pass, were it to converge.
        repeats: Recursions whose mean is taken.
    """
    sizes = targets.norm(dim=1)
    diverged, mean, steps = torch.zeros_like(sizes, dtype=torch.bool), torch.zeros_like(targets), 0
    for _ in range(repeats):
        values = targets
        for _ in range(depth):
            if bool(diverged.all()):
                break
            values = targets + values - draw()(values) / scale
            diverged |= ~(values.norm(dim=1) <= bound * scale * sizes)  # a NaN is not below
            values = values.masked_fill(diverged[:, None], 0.0)
            steps += 1
        mean = mean + values / (scale * repeats)
    mean = mean.masked_fill(diverged[:, None], 0.0)
    residual = (full(mean) - targets).norm(dim=1) / sizes.clamp(min=torch.finfo(targets.dtype).tiny)
    return Solution(mean, residual, steps, diverged)


def largest_eigenvalue(product: Product, like: Tensor, generator: torch.Generator, steps: int = 20) -> float:
    """Return an estimate, from below, of the largest eigenvalue of H by power iteration; ``like`` is ``(1, P)``."""
    vector = torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)
    value = 0.0
    for _ in range(steps):
        vector = product(vector / vector.norm().clamp(min=torch.finfo(vector.dtype).tiny))
        value = float(vector.norm())
    return value
