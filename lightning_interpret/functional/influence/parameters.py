"""The parameters of some blocks as one vector: what a curvature that couples layers is a matrix of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_interpret.functional.influence.block import Block, Gradient
from lightning_interpret.functional.influence.gradients import Uses


class Parameters:
    """The trainable parameters of some blocks as a vector: their gradients laid flat, one after the other.

    Args:
        blocks: The blocks; those of :func:`find_blocks` share no parameters.

    Attributes:
        blocks: The blocks.
        size: Number of parameters P.
        starts: Where each block begins, by its ``id``.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = list(blocks)
        self._sizes = [block.numel for block in blocks]
        self.size = sum(self._sizes)
        self.starts = {id(block): sum(self._sizes[:i]) for i, block in enumerate(blocks)}

    def vectors(self, gradients: Sequence[Gradient | None]) -> Tensor:
        """Return the gradients of B examples in each block, None where it was not used, as ``(B, P)``."""
        known = next(each for each in gradients if each is not None)
        like = known if isinstance(known, Tensor) else known.values
        parts = [
            like.new_zeros(len(like), block.numel) if each is None else block.flat(each)
            for block, each in zip(self.blocks, gradients, strict=True)
        ]
        return torch.cat(parts, dim=1)

    def of(self, uses: Sequence[Uses]) -> Tensor:
        """Return the gradients of recorded uses as ``(B, P)``."""
        found = {id(each.block): each for each in uses}
        return self.vectors([found[id(b)].gradient() if id(b) in found else None for b in self.blocks])

    def split(self, vectors: Tensor) -> dict[int, Tensor]:
        """Return vectors ``(M, P)`` by block (its ``id``), as views ``(M, *block.shape)``."""
        parts = vectors.split(self._sizes, dim=1)
        return {id(block): part.unflatten(1, block.shape) for block, part in zip(self.blocks, parts, strict=True)}

    def current(self) -> Tensor:
        """Return the parameters as they are, ``(P,)``."""
        return torch.cat([block.stacked(block.parameters).detach().flatten() for block in self.blocks])

    def tensors(self, module: nn.Module, vector: Tensor) -> dict[str, Tensor]:
        """Return a vector ``(P,)`` as the tensors that it stands for, by their names in the module."""
        found: dict[int, tuple[int, torch.Size]] = {}
        numbers, count = [], 0
        for block in self.blocks:
            laid = {}
            for key, p in block.parameters.items():
                found[id(p)] = count, p.shape
                laid[key] = count + torch.arange(p.numel()).reshape(p.shape)
                count += p.numel()
            numbers.append(block.stacked(laid).flatten())
        place = torch.cat(numbers).argsort().to(vector.device)  # of each parameter's numbers in the vector
        tensors = {}
        for name, p in module.named_parameters():
            if id(p) in found:
                start, shape = found[id(p)]
                tensors[name] = vector[place[start : start + shape.numel()]].reshape(shape)
        return tensors
