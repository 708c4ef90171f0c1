"""What a block is: a module whose per-example gradients follow from what it reads and what comes back to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_interpret.functional.layers import plain_name
from lightning_interpret.functional.scope import trains

KEYS = ("weight", "bias")


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

Layout = Literal["batch", "shared", "second", "flat"]


class Block(ABC):
    """Parameters of one module, or of several that share them, and the gradient of a sum of losses by example.

    The gradient of example b is a sum over the places s at which the parameters were used for it: over time steps, over
    calls of a module that is used more than once, and over modules that share them. :meth:`inputs` and :meth:`outputs`
    bring what one call read, and the gradient at what it returned, into the form ``(B, S, ...)`` that the other
    methods take.

    Attributes:
        name: Name of the module, as it would be without `torch.compile`; of the parameter, where the module's
            parameters are in several blocks.
        path: Name of the module, with what `torch.compile` puts into it.
        module: The module.
        shape: Shape of one example's gradient; of a weight with its bias, ``(out, in + 1)``.
        weight: Whether the weight trains and belongs to this block.
        bias: Whether the bias trains and belongs to this block.
        parts: The block itself, and for tied parameters what else uses them: one for each module.
        layout: Where the examples are in what the module reads: along the first dimension (``batch``), the ``second``,
            the first together with what follows each example (``flat``), or nowhere, read once for all (``shared``).
        copied: Whether what is read is changed in place later, so that the module is given a copy.
    """

    shape: tuple[int, ...]

    def __init__(self, name: str, module: nn.Module, keys: Collection[str] = KEYS) -> None:
        self.name, self.path, self.module = plain_name(name), name, module
        self.weight, self.bias = (key in keys and trains(module._parameters.get(key)) for key in KEYS)
        self.parts: tuple[Block, ...] = (self,)
        self.layout: Layout = "batch"
        self.copied = False

    @property
    def numel(self) -> int:
        """Number of parameters covered."""
        return torch.Size(self.shape).numel()

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The parameters covered, by their names in the module."""
        own = {"weight": self.weight, "bias": self.bias}
        return {key: p for key in KEYS if own[key] and (p := self.module._parameters[key]) is not None}

    @abstractmethod
    def inputs(self, read: Tensor) -> Tensor:
        """Return what a call read as ``(B, S, ...)``."""

    @abstractmethod
    def outputs(self, returned: Tensor) -> Tensor:
        """Return the gradient at what a call returned as ``(B, S, ...)``."""

    def use(self, read: Tensor, returned: Tensor) -> tuple[Tensor, Tensor]:
        """Return both of one call."""
        return self.inputs(read), self.outputs(returned)

    @abstractmethod
    def gradient(self, inputs: Tensor, outputs: Tensor) -> Gradient:
        """Return the gradient of each example, ``(B, *shape)``."""

    def scores(self, queries: Gradient, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return ⟨query m, gradient of example b⟩, ``(M, B)``."""
        own = self.gradient(inputs, outputs)
        assert isinstance(queries, Tensor)
        assert isinstance(own, Tensor)
        return queries.flatten(1) @ own.flatten(1).T

    def squares(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return the squared norm of each example's gradient, ``(B,)``."""
        return squares(self.gradient(inputs, outputs))

    @abstractmethod
    def stacked(self, parameters: dict[str, Tensor]) -> Tensor:
        """Return tensors like :attr:`parameters` in this block's shape."""

    def laid(self, values: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what there is of each parameter (a learning rate, a second moment), in this block's shape.

        Args:
            values: parameter → a tensor of its shape.
        """
        return self.stacked({key: values(parameter) for key, parameter in self.parameters.items()})

    def flat(self, gradient: Gradient) -> Tensor:
        """Return gradients as ``(B, numel)``."""
        assert isinstance(gradient, Tensor)
        return gradient.flatten(1)


def scaled(gradient: Gradient, diagonal: Tensor | float) -> Gradient:
    """Return gradients times a number, or times a diagonal of the block's shape."""
    if not isinstance(diagonal, Tensor) and diagonal == 1:
        return gradient
    if isinstance(gradient, Rows):
        rows = diagonal[gradient.index] if isinstance(diagonal, Tensor) else diagonal
        return Rows(gradient.index, gradient.values * rows)
    return gradient * diagonal


def squares(gradient: Gradient, diagonal: Tensor | float = 1.0) -> Tensor:
    """Return the squared norm of each gradient, Σ d g², ``(B,)``."""
    first, second = (each.values if isinstance(each, Rows) else each for each in (gradient, scaled(gradient, diagonal)))
    return (first * second).flatten(1).sum(dim=1)
