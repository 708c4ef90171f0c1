"""The saliency of units as a function of the weights, and gradients of what is itself made of gradients.

With F the scalar explained and h the features, a saliency is made of ∂F/∂h; removing training example z changes it, to
first order, by ∇_θ sᵀ H⁻¹ ∇_θ ℓ(z) / n (Meng et al., 2020, "Pair the dots", with the sign of a removal). In ∇_θ s the
weights act twice, in the forward and in the backward that s is made of: what a layer reads and what comes back to it in
the forward do not make its gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_interpret.functional.influence.block import Block
from lightning_interpret.functional.influence.trial import unfrozen
from lightning_interpret.names import choose

SALIENCIES = ("gradient_times_input", "l2", "mean_abs")


def saliency(score: Tensor, features: Tensor, per_unit: Callable[[Tensor], Tensor], kind: str) -> Tensor:
    """Return the saliency of each unit ``(N, *units)``, with its graph.

    Args:
        score: F, ``(N,)``, each of its own row of the features.
        features: h, ``(N, *shape)``; may itself depend on the weights.
        per_unit: Sums values at features to one a unit.
        kind: ``gradient_times_input`` for Σ h ∂F/∂h over the dimensions of a unit, ``l2`` or ``mean_abs`` for the size
            of ∂F/∂h there.
    """
    choose("saliency", kind, SALIENCIES)
    (slopes,) = torch.autograd.grad(score.sum(), features, create_graph=True, materialize_grads=True)
    if kind == "gradient_times_input":
        return per_unit(slopes * features)
    if kind == "mean_abs":
        return per_unit(slopes.abs()) / per_unit(torch.ones_like(slopes)).clamp(min=1)
    size = per_unit(slopes.square())
    return size.where(size > 0, 1.0).sqrt().where(size > 0, 0.0)  # a root has no slope at 0


def strongest(saliencies: Tensor, allowed: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return row, place and whether it is there ``(M,)`` of the k strongest units of each row, by absolute value.

    A row of fewer units has fewer; one of none has one that is not there. Equal ones go to the first.

    Args:
        saliencies: ``(N, T)``.
        allowed: Bool ``(N, T)``, which units count.
        k: How many of each row.
    """
    size = saliencies.detach().abs().nan_to_num().masked_fill(~allowed, -1.0)
    order = size.argsort(dim=1, descending=True, stable=True)[:, :k]
    there = allowed.gather(1, order)
    kept = there.clone()
    kept[:, 0] = True
    row, rank = kept.nonzero(as_tuple=True)
    return row, order[row, rank], there[row, rank]


def at_positions(allowed: Tensor, positions: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return row, place and whether it is there ``(N * P,)`` of the units at positions among those that count."""
    number = allowed.long().cumsum(dim=1) - 1
    found = allowed[:, None] & (number[:, None] == torch.tensor(positions, device=allowed.device)[:, None])
    row = torch.arange(len(allowed), device=allowed.device).repeat_interleave(len(positions))
    return row, found.int().argmax(dim=2).flatten(), found.any(dim=2).flatten()


def parameter_gradients(values: Callable[[], Tensor], blocks: Sequence[Block], *, summed: bool = False) -> list[Tensor]:
    """Return the gradients of M values in the parameters of each block, ``(M, *block.shape)``; of their sum, one.

    Called inside the explaining scope; takes a backward pass for each value. Attention runs in plain mathematics, as
    the fused kernels have no second derivative.

    Args:
        values: Returns the values ``(M,)``, with their graph.
        blocks: The blocks.
        summed: Whether the gradient of the sum is wanted alone.
    """
    parameters = [p for block in blocks for p in block.parameters.values()]
    with unfrozen(blocks), sdpa_kernel(SDPBackend.MATH):
        found = values()
        rows = found.sum()[None] if summed else found
        each = [_gradients(row, parameters) for row in rows]
    columns = iter(zip(*each, strict=True))
    stacked = []
    for block in blocks:
        by_key = [next(columns) for _ in block.parameters]
        rows_of = zip(*by_key, strict=True)
        stacked.append(torch.stack([block.stacked(dict(zip(block.parameters, row, strict=True))) for row in rows_of]))
    return stacked


def _gradients(value: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradient of a scalar in each parameter: zeros where it does not depend on it."""
    if not value.requires_grad:
        return [torch.zeros_like(p) for p in parameters]
    found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if own is None else own.to_dense() for p, own in zip(parameters, found, strict=True)]
