"""Curvature of the mean loss in the parameters: the generalised Gauss-Newton matrix, and the Hessian.

With roots r of the loss's Hessian in an example's logits (Σ r rᵀ), and J the Jacobian of the logits, the Gauss-Newton
matrix is the mean over examples of Σ (Jᵀr)(Jᵀr)ᵀ: a backward pass of each root is all that it takes (Schraudolph, 2002;
Martens, 2020, section 8.1). It is the Hessian where the logits are linear in the parameters, and never has negative
eigenvalues.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from lightning_interpret.functional.influence.block import squares
from lightning_interpret.functional.influence.blocks import Outer, Rows
from lightning_interpret.functional.influence.gradients import Uses
from lightning_interpret.functional.influence.parameters import Parameters

Roots = Sequence[Sequence[Uses]]
"""What a batch's blocks read and the gradients at what they returned, for each root."""

_AT_ONCE = 2**24  # numbers that a step of the sums below holds


def add_ggn(total: Tensor, parameters: Parameters, roots: Roots) -> None:
    """Add the Gauss-Newton matrices of a batch's examples to ``total`` ``(P, P)``.

    Linear layers that an example uses once need no gradient of an example: with inputs x, and gradients g at the
    outputs, the part of layers a and b is Σ_examples (Σ_roots g_a g_bᵀ) ⊗ x_a x_bᵀ, in which roots cost nothing.
    """
    first = roots[0]
    if not all(isinstance(u.block, Outer) and u.inputs.shape[1] == 1 for u in first):
        for uses in roots:
            vectors = parameters.of(uses).to(total.dtype)
            total.addmm_(vectors.T, vectors)
        return
    inputs = [each.inputs[:, 0].to(total.dtype) for each in first]
    outputs = [torch.stack([uses[i].outputs[:, 0] for uses in roots]).to(total.dtype) for i in range(len(first))]
    for a, b in combinations_with_replacement(range(len(first)), 2):
        row, column = (parameters.starts[id(first[i].block)] for i in (a, b))
        part = _coupling(inputs[a], inputs[b], torch.einsum("rbo,rbp->bop", outputs[a], outputs[b]))
        total[row : row + len(part), column : column + part.shape[1]] += part
        if a != b:
            total[column : column + part.shape[1], row : row + len(part)] += part.T


def add_ggn_product(total: Tensor, parameters: Parameters, roots: Roots, vectors: Tensor) -> None:
    """Add the sum of a batch's Gauss-Newton matrices, times each of the vectors ``(M, P)``, to ``total`` ``(M, P)``.

    Linear layers move a vector through their inputs once for all roots.
    """
    widest = max(each.outputs.numel() for each in roots[0])
    some = vectors.to(roots[0][0].outputs.dtype)
    rows = max(1, _AT_ONCE // widest)
    for into, each in zip(total.split(rows), some.split(rows), strict=True):
        _add_product(parameters.split(into), parameters.split(each), roots)


def ggn_trace(roots: Roots) -> Tensor:
    """Return the trace of the sum of a batch's Gauss-Newton matrices."""
    return torch.stack([squares(each.gradient()).sum() for uses in roots for each in uses]).sum()


def hessian(gradient: Tensor, point: Tensor, at_once: int = 64) -> Tensor:
    """Return the Jacobian ``(P, P)`` of a gradient ``(P,)``, itself taken with ``create_graph=True``.

    Args:
        gradient: The gradient of a scalar.
        point: What it is a gradient in, ``(P,)``.
        at_once: Rows of one backward pass.
    """
    if not gradient.requires_grad:
        return point.new_zeros(len(point), len(point))
    rows = torch.eye(len(point), dtype=point.dtype, device=point.device).split(at_once)
    return torch.cat(
        [
            torch.autograd.grad(
                gradient, point, each, retain_graph=True, is_grads_batched=True, materialize_grads=True
            )[0]
            for each in rows
        ]
    )


def without_example(solved: Tensor, gradients: Tensor, roots: Tensor, solved_roots: Tensor, total: int) -> Tensor:
    """Return what the leverage of each example adds to its influence, ``(M, B)``.

    Removal takes the example's curvature U Uᵀ / n away too. By Woodbury's identity
    qᵀ(H − U Uᵀ/n)⁻¹g = qᵀH⁻¹g + qᵀH⁻¹U (I − Uᵀ H⁻¹ U / n)⁻¹ UᵀH⁻¹g / n; with one root, qᵀH⁻¹g / (1 − h). That is one
    Newton step from the optimum of all examples to that without one (Pregibon, 1981; Koh et al., 2019), the exact
    difference where the loss is quadratic in the parameters and they are at their optimum.

    Args:
        solved: H⁻¹q of the queries, ``(M, P)``.
        gradients: g of the examples, ``(B, P)``.
        roots: U, ``(R, B, P)``.
        solved_roots: H⁻¹U, ``(R, B, P)``.
        total: Training examples n.
    """
    leverage = torch.einsum("rbp,sbp->brs", roots, solved_roots) / total
    leverage = leverage.where(leverage.isfinite().all(dim=2).all(dim=1)[:, None, None], 0.0)
    left = torch.eye(len(roots), dtype=roots.dtype, device=roots.device) - leverage
    own = torch.einsum("rbp,bp->br", solved_roots, gradients)
    moved = (torch.linalg.pinv(left, hermitian=True) @ own[:, :, None])[:, :, 0]
    return torch.einsum("mbr,br->mb", torch.einsum("mp,rbp->mbr", solved, roots), moved) / total


def _add_product(total: dict[int, Tensor], parts: dict[int, Tensor], roots: Roots) -> None:
    outputs = [torch.stack([uses[i].outputs for uses in roots]) for i in range(len(roots[0]))]
    count = len(next(iter(parts.values())))
    along = outputs[0].new_zeros(len(roots), count, outputs[0].shape[1])
    for i, first in enumerate(roots[0]):
        part = parts[id(first.block)]
        if isinstance(first.block, Outer):
            moved = torch.einsum("bsi,moi->mbso", first.inputs, part)
            along += torch.einsum("rbso,mbso->rmb", outputs[i], moved)
        else:
            along += torch.stack([uses[i].scores(part) for uses in roots])
    for i, first in enumerate(roots[0]):
        into = total[id(first.block)]
        if isinstance(first.block, Outer):
            weighted = torch.einsum("rmb,rbso->mbso", along, outputs[i])
            into += torch.einsum("mbso,bsi->moi", weighted, first.inputs)
            continue
        for weights, uses in zip(along, roots, strict=True):
            found = uses[i].gradient()
            if isinstance(found, Rows):
                into.index_add_(1, found.index, torch.tensordot(weights, found.values, dims=1).to(into.dtype))
            else:
                into += torch.tensordot(weights, found, dims=1)


def _coupling(left: Tensor, right: Tensor, weights: Tensor) -> Tensor:
    """Return Σ_b weights_b ⊗ left_b right_bᵀ as ``(o i, p j)``, for ``(B, i)``, ``(B, j)`` and ``(B, o, p)``."""
    pairs, width = weights[0].numel(), right.shape[1]
    total = left.new_zeros(weights.shape[1], left.shape[1], weights.shape[2], width)
    rows = max(1, _AT_ONCE // (min(pairs, width) * left.shape[1]))
    for x, y, w in zip(left.split(rows), right.split(rows), weights.split(rows), strict=True):
        if pairs < width:  # the smaller of the two goes into what is held
            total += torch.einsum("bopi,bj->oipj", w[:, :, :, None] * x[:, None, None], y)
        else:
            total += torch.einsum("bop,bij->oipj", w, x[:, :, None] * y[:, None])
    return total.flatten(2).flatten(0, 1)
