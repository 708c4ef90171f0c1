"""Modules whose per-example gradients are known in closed form from what they read and what comes back to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_interpret.functional.scope import trains
from lightning_interpret.names import choose, unknown


@dataclass(frozen=True)
class Rows:
    """Gradients of a table of which only some rows were read.

    Attributes:
        index: Long ``(U,)``, the rows, each once, in order.
        values: ``(B, U, d)``, their gradients; all other rows have none.
    """

    index: Tensor
    values: Tensor

    def __len__(self) -> int:
        return len(self.values)


Gradient = Tensor | Rows
"""Gradients of B examples in one block: ``(B, *shape)``, or rows of it."""


class Block(ABC):
    """One module with parameters, and the gradient of a sum of losses by example.

    The gradient of example b is a sum over the places s at which the module was used for it: over time steps, and over
    calls of a module that is used more than once. :meth:`inputs` and :meth:`outputs` bring what one call read, and the
    gradient at what it returned, into the form ``(B, S, ...)`` that the other methods take.

    Attributes:
        name: Name of the module.
        module: The module.
        shape: Shape of one example's gradient; of a weight with its bias, ``(out, in + 1)``.
        weight: Whether the weight trains.
        bias: Whether the bias trains.
    """

    shape: tuple[int, ...]

    def __init__(self, name: str, module: nn.Module) -> None:
        self.name, self.module = name, module
        self.weight = trains(getattr(module, "weight", None))
        self.bias = trains(getattr(module, "bias", None))

    @property
    def numel(self) -> int:
        """Number of parameters covered."""
        return torch.Size(self.shape).numel()

    @abstractmethod
    def inputs(self, read: Tensor) -> Tensor:
        """Return what a call read as ``(B, S, ...)``."""

    @abstractmethod
    def outputs(self, returned: Tensor) -> Tensor:
        """Return the gradient at what a call returned as ``(B, S, ...)``."""

    @abstractmethod
    def gradient(self, inputs: Tensor, outputs: Tensor) -> Gradient:
        """Return the gradient of each example, ``(B, *shape)``."""

    @abstractmethod
    def scores(self, queries: Gradient, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return ⟨query m, gradient of example b⟩, ``(M, B)``."""

    def flat(self, gradient: Gradient) -> Tensor:
        """Return gradients as ``(B, numel)``."""
        assert isinstance(gradient, Tensor)
        return gradient.flatten(1)

    def unflat(self, flat: Tensor) -> Gradient:
        """Return gradients that :meth:`flat` made flat."""
        return flat.reshape(len(flat), *self.shape)


class Outer(Block):
    """A linear map of the last dimension: its gradient is a sum of outer products, out × (in, 1)."""

    def __init__(self, name: str, module: nn.Module, features: int, out: int) -> None:
        super().__init__(name, module)
        self.shape = (out, features * self.weight + self.bias)

    def inputs(self, read: Tensor) -> Tensor:
        """Return ``(B, S, in + 1)``: a 1 at the end stands for the bias."""
        values = read.reshape(len(read), -1, read.shape[-1])
        ones = [values.new_ones(*values.shape[:2], 1)] if self.bias else []
        return torch.cat([*([values] if self.weight else []), *ones], dim=2) if ones or not self.weight else values

    def outputs(self, returned: Tensor) -> Tensor:
        """Return ``(B, S, out)``."""
        return returned.reshape(len(returned), -1, returned.shape[-1])

    def gradient(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return ``(B, out, in + 1)``."""
        return outputs.transpose(1, 2) @ inputs

    def scores(self, queries: Gradient, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return ``(M, B)``: over places or over whole gradients, whichever is less work."""
        assert isinstance(queries, Tensor)
        count, places = len(queries), inputs.shape[1]
        if count * places <= count + places:
            moved = torch.einsum("bsi,moi->mbso", inputs, queries)
            return (moved * outputs).sum(dim=(2, 3))
        return queries.flatten(1) @ self.gradient(inputs, outputs).flatten(1).T


class Lookup(Block):
    """An embedding: only the rows that were read have a gradient."""

    def __init__(self, name: str, module: nn.Embedding) -> None:
        super().__init__(name, module)
        self.shape = tuple(module.weight.shape)
        self._padding = module.padding_idx

    def inputs(self, read: Tensor) -> Tensor:
        """Return the ids ``(B, S)``."""
        return read.reshape(len(read), -1)

    def outputs(self, returned: Tensor) -> Tensor:
        """Return ``(B, S, d)``."""
        return returned.reshape(len(returned), -1, returned.shape[-1])

    def gradient(self, inputs: Tensor, outputs: Tensor) -> Rows:
        """Return the rows that any of the examples read."""
        index, place = inputs.unique(return_inverse=True)
        values = outputs.new_zeros(len(inputs), len(index), outputs.shape[2])
        values.scatter_add_(1, place[:, :, None].expand_as(outputs), outputs * self._kept(inputs))
        return Rows(index, values)

    def scores(self, queries: Gradient, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return ``(M, B)``: each id that was read meets the query's row of it."""
        own = self.gradient(inputs, outputs)
        if isinstance(queries, Rows):
            place = torch.searchsorted(queries.index, own.index).clamp(max=len(queries.index) - 1)
            met = queries.index[place] == own.index
            picked, values = queries.values[:, place[met]], own.values[:, met]
        else:
            picked, values = queries[:, own.index], own.values
        return picked.flatten(1) @ values.flatten(1).T

    def flat(self, gradient: Gradient) -> Tensor:
        """Return ``(B, V * d)``, rows that were not read as zeros."""
        if isinstance(gradient, Tensor):
            return gradient.flatten(1)
        whole = gradient.values.new_zeros(len(gradient), *self.shape)
        whole[:, gradient.index] = gradient.values
        return whole.flatten(1)

    def _kept(self, ids: Tensor) -> Tensor | float:
        return 1.0 if self._padding is None else (ids != self._padding)[:, :, None]


class Scale(Block):
    """Layer normalisation: a weight that multiplies, and a bias, element by element; shape ``(2, d)``."""

    def __init__(self, name: str, module: nn.LayerNorm) -> None:
        super().__init__(name, module)
        self.shape = (self.weight + self.bias, torch.Size(module.normalized_shape).numel())
        self._normalised = len(module.normalized_shape)

    def inputs(self, read: Tensor) -> Tensor:
        """Return what the weight multiplies, ``(B, S, d)``."""
        module = self.module
        assert isinstance(module, nn.LayerNorm)
        normed = nn.functional.layer_norm(read, module.normalized_shape, None, None, module.eps)
        return normed.reshape(len(read), -1, self.shape[1])

    def outputs(self, returned: Tensor) -> Tensor:
        """Return ``(B, S, d)``."""
        return returned.reshape(len(returned), -1, self.shape[1])

    def gradient(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return ``(B, 2, d)``, or one row where only one of the two trains."""
        parts = [(outputs * inputs).sum(dim=1)] if self.weight else []
        return torch.stack([*parts, *([outputs.sum(dim=1)] if self.bias else [])], dim=1)

    def scores(self, queries: Gradient, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return ``(M, B)``."""
        assert isinstance(queries, Tensor)
        return queries.flatten(1) @ self.gradient(inputs, outputs).flatten(1).T


def block_of(name: str, module: nn.Module) -> Block | None:
    """Return the block of a module that has trainable parameters of its own and is of a kind that is known."""
    if not any(trains(value) for value in module._parameters.values()):
        return None
    if isinstance(module, nn.Linear):
        return Outer(name, module, module.in_features, module.out_features)
    if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):  # of `transformers`: a linear map, transposed
        features, out = module._parameters["weight"].shape  # type: ignore[union-attr]
        return Outer(name, module, features, out)
    if isinstance(module, nn.Embedding):
        return Lookup(name, module)
    if isinstance(module, nn.LayerNorm):
        return Scale(name, module)
    return None


def find_blocks(module: nn.Module, layers: str | Sequence[str] = "all") -> list[Block]:
    """Return the blocks of a module in its own order.

    Args:
        module: The module.
        layers: ``"all"``, or names of modules: of one that has parts, all blocks in it.

    Raises:
        ValueError: If a name does not exist, or holds nothing that is covered.
    """
    found = {name: block for name, part in module.named_modules() if (block := block_of(name, part)) is not None}
    if layers == "all":
        chosen: Iterable[str] = found
    else:
        names = [layers] if isinstance(layers, str) else list(layers)
        every = dict(module.named_modules())
        chosen = []
        for name in names:
            choose("layers", name, every)
            inside = [other for other in found if other == name or other.startswith(f"{name}.")]
            if not inside:
                raise ValueError(unknown("layers", name, found))
            chosen += [each for each in inside if each not in chosen]
    blocks = [found[name] for name in chosen]
    if not blocks:
        raise ValueError(f"{type(module).__name__} has no layer with trainable parameters that influence can cover.")
    return blocks


def coverage(module: nn.Module, blocks: Sequence[Block]) -> float:
    """Return the share of the module's trainable parameters that blocks cover."""
    trainable = {id(p): p.numel() for p in module.parameters() if trains(p)}
    covered = {id(p) for block in blocks for p in block.module._parameters.values() if trains(p)}
    return sum(size for key, size in trainable.items() if key in covered) / max(1, sum(trainable.values()))
