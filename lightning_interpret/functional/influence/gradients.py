"""Per-example gradients by hooks: weights frozen, and gradients asked of the modules' outputs only.

A backward pass that ends at the outputs costs no gradient of a weight; what a weight's gradient is made of, its inputs
and the gradient at its outputs, is what the hooks keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_interpret.functional.influence.blocks import Block, Gradient


@dataclass(frozen=True)
class Uses:
    """What one block read and what came back to it in one batch; all its uses stand along the second dimension.

    Attributes:
        block: The block.
        inputs: ``(B, S, ...)``.
        outputs: ``(B, S, ...)``, gradients of what was summed over the examples.
    """

    block: Block
    inputs: Tensor
    outputs: Tensor

    def gradient(self) -> Gradient:
        """Return the gradient of each example."""
        return self.block.gradient(self.inputs, self.outputs)

    def scores(self, queries: Gradient) -> Tensor:
        """Return the products of queries and examples, ``(M, B)``."""
        return self.block.scores(queries, self.inputs, self.outputs)


class Recording:
    """The calls of some blocks in one forward pass."""

    def __init__(self, blocks: Sequence[Block], examples: int) -> None:
        self._blocks, self._examples = list(blocks), examples
        self._calls: list[list[tuple[Tensor, int, Tensor]]] = [[] for _ in blocks]
        self._order: list[int] = []

    def called(self) -> list[Block]:
        """Return the blocks that were used, each once, in the order of their first call."""
        return [self._blocks[i] for i in self._order]

    def gradients(self, summed: Tensor, *, retain_graph: bool = False) -> list[Uses]:
        """Return what each block that was used read, and the gradients of a scalar at what it returned.

        Args:
            summed: A sum over the examples, of which each depends on its own example alone.
            retain_graph: Whether another gradient is to follow.

        Raises:
            ValueError: If what a block read was changed in place before it could be used.
        """
        calls = [(i, call) for i, several in enumerate(self._calls) for call in several]
        outputs = [output for _, (_, _, output) in calls]
        found = torch.autograd.grad(summed, outputs, retain_graph=retain_graph, allow_unused=True)
        parts: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        for (i, (read, version, output)), grad in zip(calls, found, strict=True):
            block = self._blocks[i]
            if read._version != version:
                raise ValueError(
                    f"What layer {block.name!r} reads is changed in place after it was read (`x += ...`): write "
                    "`x = x + ...` there, or leave the layer out with `layers=`."
                )
            inputs, back = parts.setdefault(i, ([], []))
            inputs.append(block.inputs(read.detach()))
            back.append(block.outputs(torch.zeros_like(output) if grad is None else grad))
        return [Uses(self._blocks[i], torch.cat(a, dim=1), torch.cat(g, dim=1)) for i, (a, g) in parts.items()]

    def _keep(self, number: int, read: Tensor, output: Tensor) -> Tensor:
        if not self._calls[number]:
            self._order.append(number)
        if len(read) == 1 < self._examples:  # read once for all examples (positions), and added to each of them
            read, output = (
                read.expand(self._examples, *read.shape[1:]),
                output.expand(self._examples, *output.shape[1:]),
            )
        if len(read) != self._examples:
            raise ValueError(
                f"Layer {self._blocks[number].name!r} reads {tuple(read.shape)} of {self._examples} examples: its "
                "first dimension is not the batch. Leave it out: name the other layers in `layers=`."
            )
        if not output.requires_grad:
            output = output.detach().requires_grad_()
        self._calls[number].append((read, read._version, output))
        return output.clone()  # what is kept is not what the module goes on to change in place


_RECORDING: ContextVar[dict[int, Recording] | None] = ContextVar("lightning_interpret_recording", default=None)


@contextmanager
def recording(blocks: Sequence[Block], examples: int) -> Iterator[Recording]:
    """Record one forward pass of a module inside the explaining scope; nothing is left on it afterwards.

    Attention runs in the kernel that is plain mathematics: the fused ones have other gradients on padded rows, or none
    a second time.

    Args:
        blocks: The blocks to record, of :func:`find_blocks`.
        examples: How many examples the batch has.

    Raises:
        ValueError: In the forward, if the first dimension of what a block reads is not the batch.
    """
    record = Recording(blocks, examples)
    token = _RECORDING.set({id(block.module): record for block in blocks})
    handles = []

    def kept(number: int) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Tensor) -> Tensor | None:
            active = _RECORDING.get()
            if active is None or active.get(id(module)) is not record:  # another thread runs the module
                return None
            read = args[0] if args else next(iter(kwargs.values()))
            return record._keep(number, read, output)

        return hook

    try:
        for number, block in enumerate(blocks):
            handles.append(block.module.register_forward_hook(kept(number), with_kwargs=True))
        with sdpa_kernel(SDPBackend.MATH):
            yield record
    finally:
        for handle in handles:
            handle.remove()
        _RECORDING.reset(token)
