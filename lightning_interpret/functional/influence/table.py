"""Blocks of tables that are read by row: embeddings, and embeddings whose weight is a linear map's too."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.influence.block import KEYS, Block, Gradient, Rows
from lightning_interpret.functional.influence.outer import outer_scores


class Lookup(Block):
    """An embedding: only the rows that were read have a gradient."""

    module: nn.Embedding

    def __init__(self, name: str, module: nn.Embedding, keys: Collection[str] = KEYS) -> None:
        super().__init__(name, module, keys)
        self.shape = tuple(module.weight.shape)

    def inputs(self, read: Tensor) -> Tensor:
        """Return the ids ``(B, S)``."""
        return read.reshape(len(read), -1).long()

    def outputs(self, returned: Tensor) -> Tensor:
        """Return ``(B, S, d)``."""
        return returned.reshape(len(returned), -1, returned.shape[-1])

    def use(self, read: Tensor, returned: Tensor) -> tuple[Tensor, Tensor]:
        """Return both of one call; the padding row has no gradient."""
        ids, back = self.inputs(read), self.outputs(returned)
        return ids, _kept(self.module, ids, back)

    def gradient(self, inputs: Tensor, outputs: Tensor) -> Rows:
        """Return the rows that any of the examples read."""
        index, place = inputs.unique(return_inverse=True)
        values = outputs.new_zeros(len(inputs), len(index), outputs.shape[2])
        values.scatter_add_(1, place[:, :, None].expand_as(outputs), outputs)
        return Rows(index, values)

    def scores(self, queries: Gradient, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return ``(M, B)``: each id that was read meets the query's row of it, where it has one."""
        if isinstance(queries, Rows):  # of what was read, only rows that a query has read too
            place = torch.searchsorted(queries.index, inputs.contiguous()).clamp(max=len(queries.index) - 1)
            met = queries.index[place] == inputs
            inputs, outputs, queries = place * met, outputs * met[:, :, None], queries.values
        if len(queries) == 1:
            return (queries[0][inputs] * outputs).sum(dim=(1, 2))[None]
        own = self.gradient(inputs, outputs)
        return queries[:, own.index].flatten(1) @ own.values.flatten(1).T

    def stacked(self, parameters: dict[str, Tensor]) -> Tensor:
        """Return ``(V, d)``."""
        return parameters["weight"]

    def flat(self, gradient: Gradient) -> Tensor:
        """Return ``(B, V * d)``, rows that were not read as zeros."""
        if isinstance(gradient, Tensor):
            return gradient.flatten(1)
        whole = gradient.values.new_zeros(len(gradient), *self.shape)
        whole[:, gradient.index] = gradient.values
        return whole.flatten(1)


class Table(Block):
    """A weight that is an embedding and a linear map's at once: outer products, of ids as vectors of one 1 and zeros.

    A row of the embedding's gradient is 1 (at the id) ⊗ what came back; one of the map's is what came back ⊗ what was
    read. Both are ``(V, d)``.
    """

    def __init__(self, name: str, module: nn.Module, keys: Collection[str] = KEYS) -> None:
        super().__init__(name, module, keys)
        weight = module._parameters["weight"]
        assert weight is not None
        self.shape = tuple(weight.shape)

    def inputs(self, read: Tensor) -> Tensor:
        """Return ``(B, S, d)``, or ids ``(B, S)``."""
        return read.flatten(1) if isinstance(self.module, nn.Embedding) else read.reshape(len(read), -1, self.shape[1])

    def outputs(self, returned: Tensor) -> Tensor:
        """Return ``(B, S, V)``, or ``(B, S, d)`` of an embedding."""
        return returned.reshape(len(returned), -1, returned.shape[-1])

    def use(self, read: Tensor, returned: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(B, S, d)`` and ``(B, S, V)`` of one call of either module."""
        first, second = self.inputs(read), self.outputs(returned)
        if not isinstance(self.module, nn.Embedding):
            return first, second
        hot = nn.functional.one_hot(first.long(), self.shape[0]).to(second)
        return _kept(self.module, first, second), hot

    def gradient(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return ``(B, V, d)``."""
        return outputs.transpose(1, 2) @ inputs

    def scores(self, queries: Gradient, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return ``(M, B)``."""
        assert isinstance(queries, Tensor)
        return outer_scores(queries, inputs, outputs)

    def stacked(self, parameters: dict[str, Tensor]) -> Tensor:
        """Return ``(V, d)``."""
        return parameters["weight"]


def _kept(module: nn.Embedding, ids: Tensor, back: Tensor) -> Tensor:
    """Return the gradient at rows of the weight: none of the padding's, and scaled where the embedding scales them."""
    scale: Any = getattr(module, "embed_scale", None)
    scaled = back if scale is None else back * scale
    return scaled if module.padding_idx is None else scaled * (ids != module.padding_idx)[:, :, None]
