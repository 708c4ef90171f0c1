"""Random projections of per-example gradients that are made from a layer's factors: no gradient is ever whole.

A block's gradient G is a matrix, rows × columns, and most are a sum of outer products δ aᵀ; both projections here are
bilinear in it, so that they are applied to δ and a. Both keep products in expectation: E⟨φ, φ'⟩ = ⟨G, G'⟩.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from math import isqrt

import torch
from torch import Tensor

from lightning_interpret.functional.influence.blocks import Block, Outer, Rows, Table
from lightning_interpret.functional.influence.gradients import Uses

PROJECTIONS = ("rademacher", "lowrank")


class Projection:
    """The projection of some blocks' gradients to ``dimension`` numbers, the same for the same seed everywhere.

    ``"rademacher"``: number j is Σ over blocks of uⱼᵀ G vⱼ / √k, with uⱼ and vⱼ random signs (tensorised projections;
    Rakhshan and Rabusseau, 2020). ``"lowrank"``: of each block L G Rᵀ, with random orthonormal rows in L and R
    (Choe et al., 2024, section 3), one after the other; the numbers are shared out evenly, and a block that is smaller
    than its share is kept whole, turned.

    Args:
        blocks: The blocks.
        method: One of these two.
        dimension: Numbers kept in all; ``"lowrank"`` keeps as many of them as fit its matrices, at least one a block.
        seed: What is drawn depends on it, on each block's name and on its shape, and on nothing else.
    """

    def __init__(self, blocks: Sequence[Block], method: str, dimension: int, seed: int) -> None:
        self.method = method
        self._blocks = list(blocks)
        shapes = [(block.shape[0], block.numel // block.shape[0]) for block in blocks]
        if method == "rademacher":
            sizes = [(dimension, dimension)] * len(blocks)
            self.dimension = dimension
        else:
            sizes = [_matrix(shape, share) for shape, share in zip(shapes, _shares(shapes, dimension), strict=True)]
            self.dimension = sum(a * b for a, b in sizes)
        self._sides = [
            (
                _drawn(method, left, shape[0], f"{seed}/{block.name}/left"),
                _drawn(method, right, shape[1], f"{seed}/{block.name}/right"),
            )
            for block, (left, right), shape in zip(blocks, sizes, shapes, strict=True)
        ]

    def __call__(self, uses: Sequence[Uses]) -> Tensor:
        """Return the projected gradients of a batch, ``(B, dimension)``."""
        found = {id(each.block): each for each in uses}
        count, like = len(uses[0].outputs), uses[0].outputs
        parts = []
        for number, block in enumerate(self._blocks):
            left, right = self._on(number, like)
            if id(block) in found:
                parts.append(self._project(found[id(block)], left, right).flatten(1))
            elif self.method == "lowrank":
                parts.append(like.new_zeros(count, len(left) * len(right)))
        if self.method == "lowrank":
            return torch.cat(parts, dim=1)
        return torch.stack(parts).sum(dim=0) / self.dimension**0.5

    def _project(self, uses: Uses, left: Tensor, right: Tensor) -> Tensor:
        if isinstance(uses.block, Outer | Table):
            behind, before = uses.outputs @ left.T, uses.inputs @ right.T
            return (behind * before).sum(dim=1) if self.method == "rademacher" else behind.mT @ before
        gradient = uses.gradient()
        if isinstance(gradient, Rows):
            values, left = gradient.values, left[:, gradient.index]
        else:
            values = gradient.reshape(len(gradient), left.shape[1], -1)
        moved = values @ right.T
        return torch.einsum("bik,ki->bk", moved, left) if self.method == "rademacher" else left @ moved

    def _on(self, number: int, like: Tensor) -> tuple[Tensor, Tensor]:
        left, right = self._sides[number]
        if left.device != like.device or left.dtype != like.dtype:
            left, right = left.to(like), right.to(like)
            self._sides[number] = left, right
        return left, right


def _drawn(method: str, size: int, of: int, key: str) -> Tensor:
    """Return ``(size, of)``: random signs, or random orthonormal rows times √(of / size)."""
    number = int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "little", signed=True)
    if method == "rademacher":
        return signs(size * of, number).reshape(size, of)
    generator = torch.Generator().manual_seed(number)  # on the CPU: the same whatever the device
    rows = torch.linalg.qr(torch.randn(of, size, generator=generator, dtype=torch.float64)).Q.T
    return rows * (of / size) ** 0.5


def signs(count: int, seed: int) -> Tensor:
    """Return random signs ``(count,)``: the top bits of SplitMix64 (Steele et al., 2014), the same on every machine."""
    state = torch.arange(1, count + 1) * -0x61C8864680B583EB + seed  # int64 wraps, as is meant
    state = (state ^ _shifted(state, 30)) * -0x40A7B892E31B1A47
    state = (state ^ _shifted(state, 27)) * -0x6B2FB644ECCEEE15
    state ^= _shifted(state, 31)
    return torch.where(state < 0, 1.0, -1.0)


def _shifted(state: Tensor, places: int) -> Tensor:
    return (state >> places) & ((1 << (64 - places)) - 1)  # as of an unsigned number


def _shares(shapes: Sequence[tuple[int, int]], dimension: int) -> list[int]:
    """Return how many numbers each block gets: as many each, and what the small ones leave goes to the others."""
    sizes = [a * b for a, b in shapes]
    shares, left = [0] * len(sizes), dimension
    for done, number in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        shares[number] = max(1, min(sizes[number], left // (len(sizes) - done)))
        left -= shares[number]
    return shares


def _matrix(shape: tuple[int, int], share: int) -> tuple[int, int]:
    """Return the largest matrix of at most ``share`` numbers that fits a shape and is nearest to a square."""
    small = min(*shape, max(1, isqrt(share)))
    large = min(max(shape), share // small)
    return (small, large) if shape[0] <= shape[1] else (large, small)
