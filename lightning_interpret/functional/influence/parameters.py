"""The parameters of some blocks as one vector: what a curvature that couples layers is a matrix of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_interpret.functional.influence.blocks import Block, Gradient
from lightning_interpret.functional.influence.gradients import Uses


class Parameters:
    """The trainable parameters of some blocks in one order; those that blocks share (tied weights) stand once.

    Args:
        blocks: The blocks; without shared parameters the vector is theirs, laid flat, one after the other.

    Attributes:
        blocks: The blocks.
        size: Number of parameters P.
        tied: Whether blocks share parameters.
        starts: Where each block begins in the vector; only without shared parameters.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = list(blocks)
        first: dict[int, int] = {}
        numbers, self._names = [], {}
        count = 0
        for block in self.blocks:
            parts = {}
            for kind in ("weight", "bias"):
                if getattr(block, kind):
                    tensor = block.module._parameters[kind]
                    assert tensor is not None
                    if id(tensor) not in first:
                        first[id(tensor)], count = count, count + tensor.numel()
                        self._names[f"{block.path}.{kind}".lstrip(".")] = (first[id(tensor)], tensor.shape)
                    parts[kind] = first[id(tensor)] + torch.arange(tensor.numel()).reshape(tensor.shape)
            numbers.append(block.stacked(parts).flatten())
        index = torch.cat(numbers)
        self.size, self.tied = count, count < len(index)
        self._sizes = [len(each) for each in numbers]
        self.starts = [sum(self._sizes[:i]) for i in range(len(numbers))]
        self._index = index if self.tied else None
        self._place = torch.arange(count) if self.tied else index.argsort()

    def vectors(self, gradients: Sequence[Gradient | None]) -> Tensor:
        """Return the gradients of B examples in each block, None where it was not used, as ``(B, P)``."""
        known = next(each for each in gradients if each is not None)
        like = known if isinstance(known, Tensor) else known.values
        flat = torch.cat(
            [
                like.new_zeros(len(like), block.numel) if each is None else block.flat(each)
                for block, each in zip(self.blocks, gradients, strict=True)
            ],
            dim=1,
        )
        if self._index is None:
            return flat
        return flat.new_zeros(len(flat), self.size).index_add_(1, self._index.to(flat.device), flat)

    def of(self, uses: Sequence[Uses]) -> Tensor:
        """Return the gradients of recorded uses as ``(B, P)``."""
        found = {id(each.block): each for each in uses}
        return self.vectors([found[id(b)].gradient() if id(b) in found else None for b in self.blocks])

    def split(self, vectors: Tensor) -> dict[int, Gradient]:
        """Return vectors ``(M, P)`` by block (its ``id``), ``(M, *block.shape)``."""
        flat = vectors if self._index is None else vectors[:, self._index.to(vectors.device)]
        parts = flat.split(self._sizes, dim=1)
        return {id(block): block.unflat(part) for block, part in zip(self.blocks, parts, strict=True)}

    def tensors(self, vector: Tensor) -> dict[str, Tensor]:
        """Return a vector ``(P,)`` as the tensors that the module has, by name."""
        place = self._place.to(vector.device)
        return {
            name: vector[place[start : start + shape.numel()]].reshape(shape)
            for name, (start, shape) in self._names.items()
        }

    def current(self) -> Tensor:
        """Return the parameters as they are, ``(P,)``."""
        tensors = {}
        for block in self.blocks:
            for kind in ("weight", "bias"):
                if getattr(block, kind):
                    tensors[f"{block.path}.{kind}".lstrip(".")] = block.module._parameters[kind]
        flat = torch.cat([tensors[name].detach().flatten() for name in self._names])  # type: ignore[union-attr]
        return torch.empty_like(flat).index_copy_(0, self._place.to(flat.device), flat)


def scores(uses: Sequence[Uses], parts: dict[int, Gradient]) -> Tensor:
    """Return ⟨vector m, gradient of example b⟩ ``(M, B)``, for vectors as :meth:`Parameters.split` returns them."""
    return torch.stack([each.scores(parts[id(each.block)]) for each in uses]).sum(dim=0)
