"""Curvature of a block in an eigenbasis: K-FAC, its corrected form EK-FAC, and the diagonal where neither applies.

The generalised Gauss-Newton matrix of the mean loss in one block is the mean over examples of Σ_r g gᵀ, where g is the
gradient of an example by one root of the loss's Hessian in the logits (:mod:`.outputs`). Of a linear map
g = Σ_s δ_s a_sᵀ, a sum over places s. K-FAC takes the matrix for S ⊗ A: A the mean of a aᵀ over places and examples,
S the mean over examples of Σ_r Σ_s δ δᵀ (Martens and Grosse, 2015; over places: Eschenhagen et al., 2023, "expand").
EK-FAC keeps their eigenvectors and measures the mean of the squared gradient along each of them, which is the best
diagonal in that basis (George et al., 2018, section 3; Grosse et al., 2023, section 2.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_interpret.functional.influence.blocks import Block, Gradient, Lookup, Outer, Rows, Table
from lightning_interpret.functional.influence.gradients import Uses
from lightning_interpret.functional.influence.outer import outer_parts

WIDEST = 8192
"""Features past which a side of a linear map keeps its own axes: 8,192² numbers are 256 MiB."""


class Curvature:
    """Curvature of one block as a diagonal Λ in some basis; in this class the parameters' own axes.

    One or two passes over the data measure it: :meth:`gather` each batch, and where :meth:`diagonalise` says so,
    :meth:`measure` each again and :meth:`close`. A batch is the uses of the block, one for each root.

    Attributes:
        block: The block.
        values: Λ, of the block's shape.
    """

    def __init__(self, block: Block) -> None:
        self.block, self.values = block, _like(block).new_zeros(block.shape)

    def gather(self, roots: Sequence[Uses]) -> None:
        """Add a batch in the first pass."""
        for uses in roots:
            _add_squares(self.values, uses)

    def diagonalise(self, examples: int, *, corrected: bool) -> bool:
        """Find the basis after the first pass over so many examples; return whether a second one is needed."""
        self.values /= examples
        return False

    def measure(self, roots: Sequence[Uses]) -> None:
        """Add a batch in the second pass."""

    def close(self, examples: int) -> None:
        """Take the mean over the examples, after the second pass."""

    def rotated(self, uses: Uses) -> Uses:
        """Return uses whose gradients have their coordinates in the basis."""
        return uses

    def preconditioned(self, gradient: Gradient, damping: float) -> Gradient:
        """Return (curvature + damping)⁻¹ times gradients, in the parameters' own axes."""
        return _times(gradient, self.inverse(damping))

    def inverse(self, damping: float) -> Tensor:
        """Return 1 / (Λ + damping); along what has no curvature at all, and no damping, 0."""
        values = self.values + damping
        return values.reciprocal().masked_fill_(values == 0, 0)

    def own(self, uses: Uses, damping: float) -> Tensor:
        """Return gᵀ (curvature + damping)⁻¹ g of each example, ``(B,)``."""
        uses, inverse = self.rotated(uses), self.inverse(damping)
        if isinstance(uses.block, Outer | Table):
            if uses.inputs.shape[1] == 1:
                return ((uses.outputs[:, 0] ** 2 @ inverse) * uses.inputs[:, 0] ** 2).sum(dim=1)
            parts = outer_parts(uses.inputs, uses.outputs)
            return torch.stack([(part.square_() * inverse[rows]).sum(dim=(1, 2)) for rows, part in parts]).sum(dim=0)
        gradient = uses.gradient()
        if isinstance(gradient, Rows):
            return (gradient.values.square() * inverse[gradient.index]).sum(dim=(1, 2))
        return (gradient.square() * inverse).flatten(1).sum(dim=1)


class KroneckerCurvature(Curvature):
    """Curvature of a linear map, a convolution or a tied table in the eigenvectors of S and of A."""

    def __init__(self, block: Block) -> None:
        super().__init__(block)
        out, into = block.shape
        self.inputs, self.outputs = Side(_like(block), into), Side(_like(block), out)

    @property
    def wide(self) -> bool:
        """Whether a side of the map keeps its own axes, as it is too long."""
        return any(not side.full and not side.counts for side in (self.inputs, self.outputs))

    def gather(self, roots: Sequence[Uses]) -> None:
        """Add a batch to S, and to A at the places on which the loss depends: there is none where there is padding."""
        anywhere: Tensor | None = None
        for uses in roots:
            there = _there(uses.outputs)
            if isinstance(self.block, Table):  # an embedding's gradient stands on the side of the inputs
                there = there & _there(uses.inputs)
                self.inputs.add(uses.inputs[there])
            self.outputs.add(uses.outputs[there])
            anywhere = there if anywhere is None else anywhere | there
        if not isinstance(self.block, Table):
            self.inputs.add(roots[0].inputs[anywhere])

    def diagonalise(self, examples: int, *, corrected: bool) -> bool:
        """Find the eigenvectors of A and S; Λ of K-FAC is the products of their eigenvalues."""
        of_inputs, of_outputs = self.inputs.diagonalise(self.inputs.count), self.outputs.diagonalise(examples)
        self.values = self._outer(of_outputs, of_inputs)
        if corrected:
            self.values.zero_()
        return corrected

    def measure(self, roots: Sequence[Uses]) -> None:
        """Add the squares of the gradients' coordinates in the basis."""
        for uses in roots:
            _add_squares(self.values, self.rotated(trimmed(uses)))

    def close(self, examples: int) -> None:
        """Take the mean over the examples, after the second pass."""
        self.values /= examples

    def rotated(self, uses: Uses) -> Uses:
        """Return the uses with inputs and outputs rotated, which is less work than to rotate their product."""
        return Uses(uses.block, self.inputs.rotated(uses.inputs), self.outputs.rotated(uses.outputs))

    def preconditioned(self, gradient: Gradient, damping: float) -> Gradient:
        """Return (curvature + damping)⁻¹ times gradients: into the basis, divided by Λ + damping, and back."""
        assert isinstance(gradient, Tensor)
        turned = self.inputs.rotated(self.outputs.rotated(gradient.transpose(1, 2)).transpose(1, 2))
        turned = turned * self.inverse(damping)
        return self.inputs.returned(self.outputs.returned(turned.transpose(1, 2)).transpose(1, 2))

    def _outer(self, of_outputs: Tensor, of_inputs: Tensor) -> Tensor:
        return of_outputs[:, None] * of_inputs


class LookupCurvature(KroneckerCurvature):
    """Curvature of an embedding (:class:`Lookup`): A is how often each row is read, so that rows stay rows."""

    def __init__(self, block: Block) -> None:
        super().__init__(block)
        rows, width = block.shape
        self.inputs, self.outputs = Side(_like(block), rows, counts=True), Side(_like(block), width)

    def preconditioned(self, gradient: Gradient, damping: float) -> Gradient:
        """Return (curvature + damping)⁻¹ times gradients, of the rows that have any."""
        inverse = self.inverse(damping)
        if isinstance(gradient, Rows):
            turned = self.outputs.rotated(gradient.values) * inverse[gradient.index]
            return Rows(gradient.index, self.outputs.returned(turned))
        return self.outputs.returned(self.outputs.rotated(gradient) * inverse)

    def rotated(self, uses: Uses) -> Uses:
        """Return the uses with rotated outputs."""
        return Uses(uses.block, uses.inputs, self.outputs.rotated(uses.outputs))

    def _outer(self, of_outputs: Tensor, of_inputs: Tensor) -> Tensor:
        return of_inputs[:, None] * of_outputs


class Side:
    """Second moment of the vectors on one side of a linear map, and its eigenvectors.

    Args:
        like: A tensor of the type and on the device that is wanted.
        size: Length of the vectors. Past :data:`WIDEST` the moment is a diagonal, in their own axes.
        counts: Whether they are one-hot vectors, given as ids: the moment is how often each id came.
    """

    def __init__(self, like: Tensor, size: int, *, counts: bool = False) -> None:
        self.counts, self.full, self.count = counts, size <= WIDEST and not counts, 0
        self._sum = like.new_zeros((size, size) if self.full else (size,))
        self._basis: Tensor | None = None

    def add(self, vectors: Tensor) -> None:
        """Add vectors ``(N, size)``, or ids ``(N,)``."""
        self.count += len(vectors)
        if self.full:
            self._sum.addmm_(vectors.T, vectors)
        else:
            self._sum += vectors.bincount(minlength=len(self._sum)) if self.counts else vectors.square().sum(dim=0)

    def diagonalise(self, count: int) -> Tensor:
        """Return the eigenvalues of the mean over ``count``, found in double precision."""
        moment = self._sum / max(1, count)
        del self._sum
        if not self.full:
            return moment
        home = "cpu" if moment.device.type == "mps" else moment.device  # no double precision there
        values, vectors = torch.linalg.eigh(moment.to(home, torch.float64))
        self._basis = vectors.to(moment)
        return values.clamp(min=0).to(moment)

    def rotated(self, vectors: Tensor) -> Tensor:
        """Return the coordinates of vectors ``(..., size)`` in the basis."""
        return vectors if self._basis is None else vectors @ self._basis

    def returned(self, coordinates: Tensor) -> Tensor:
        """Return the vectors of these coordinates."""
        return coordinates if self._basis is None else coordinates @ self._basis.T


@dataclass(frozen=True)
class LowRank:
    """Gradients of a linear map as products of two thin matrices.

    Attributes:
        left: ``(M, out, rank)``.
        right: ``(M, rank, in + 1)``.
    """

    left: Tensor
    right: Tensor

    @classmethod
    def of(cls, gradient: Tensor, rank: int, seed: int) -> LowRank:
        """Return nearly the best approximation of gradients ``(M, out, in + 1)``: subspace iteration, then a cut.

        Source: Halko, Martinsson and Tropp (2011), algorithms 4.4 and 5.1, with 8 directions to spare.
        """
        generator, wide = torch.Generator().manual_seed(seed), min(rank + 8, *gradient.shape[1:])
        start = torch.randn(gradient.shape[2], wide, generator=generator).to(gradient)
        basis = torch.linalg.qr(gradient @ start).Q
        for _ in range(2):
            basis = torch.linalg.qr(gradient @ torch.linalg.qr(gradient.mT @ basis).Q).Q
        small = basis.mT @ gradient
        first = torch.linalg.eigh(small @ small.mT).eigenvectors[:, :, -rank:]
        return cls(basis @ first, first.mT @ small)

    def scores(self, uses: Uses) -> Tensor:
        """Return the products with the gradient of each example, ``(M, B)``, none of which is formed."""
        left = torch.einsum("bso,mor->mbsr", uses.outputs, self.left)
        right = torch.einsum("bsi,mri->mbsr", uses.inputs, self.right)
        return (left * right).sum(dim=(2, 3))


def curvature_of(block: Block) -> Curvature:
    """Return what will hold the curvature of a block of this kind."""
    if isinstance(block, Outer | Table):
        return KroneckerCurvature(block)
    return LookupCurvature(block) if isinstance(block, Lookup) else Curvature(block)


def trimmed(uses: Uses) -> Uses:
    """Return uses without the places at which no example of the batch has a gradient."""
    there = _there(uses.outputs).any(dim=0)
    return uses if there.all() else Uses(uses.block, uses.inputs[:, there], uses.outputs[:, there])


def _add_squares(total: Tensor, uses: Uses) -> None:
    """Add Σ_b g², the gradient of each example squared element by element."""
    if isinstance(uses.block, Outer | Table):
        if uses.inputs.shape[1] == 1:
            total.addmm_(uses.outputs[:, 0].square().T, uses.inputs[:, 0].square())
            return
        for rows, part in outer_parts(uses.inputs, uses.outputs):
            total[rows] += part.square_().sum(dim=0)
        return
    gradient = uses.gradient()
    if isinstance(gradient, Rows):
        total.index_add_(0, gradient.index, gradient.values.square().sum(dim=0))
    else:
        total += gradient.square().sum(dim=0)


def _times(gradient: Gradient, factors: Tensor) -> Gradient:
    if isinstance(gradient, Rows):
        return Rows(gradient.index, gradient.values * factors[gradient.index])
    return gradient * factors


def _there(vectors: Tensor) -> Tensor:
    return vectors.flatten(2).abs().amax(dim=2) != 0  # what is not a number is there too


def _like(block: Block) -> Tensor:
    return next(value for value in block.module._parameters.values() if value is not None)
