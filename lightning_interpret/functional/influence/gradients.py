"""Per-example gradients by hooks: weights frozen, and gradients asked of the modules' outputs only.

A backward pass that ends at the outputs costs no gradient of a weight; what a weight's gradient is made of, its inputs
and the gradient at its outputs, is what the hooks keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_interpret.functional.influence.block import Block, Gradient, squares


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

    def summed(self) -> Gradient:
        """Return the gradient of the sum of all examples, ``(1, *shape)``, without those of each."""
        return self.block.gradient(self.inputs.flatten(0, 1)[None], self.outputs.flatten(0, 1)[None])

    def scores(self, queries: Gradient) -> Tensor:
        """Return the products of queries and examples, ``(M, B)``."""
        return self.block.scores(queries, self.inputs, self.outputs)

    def squares(self) -> Tensor:
        """Return the squared norm of each example's gradient, ``(B,)``."""
        return self.block.squares(self.inputs, self.outputs)


class Recording:
    """The calls of some blocks in one forward pass."""

    def __init__(self, blocks: Sequence[Block], examples: int) -> None:
        self._blocks, self._examples = list(blocks), examples
        self._calls: list[list[tuple[Block, Tensor, int, Tensor]]] = [[] for _ in blocks]
        self._order: list[int] = []
        self._grads, self._hooked, self._backward = torch.is_grad_enabled(), False, False

    def called(self) -> list[Block]:
        """Return the blocks that were used, each once, in the order of their first call."""
        return [self._blocks[i] for i in self._order]

    def gradients(self, summed: Tensor, *, retain_graph: bool = False) -> list[Uses]:
        """Return what each block that was used read, and the gradients of a scalar at what it returned.

        Args:
            summed: A sum over the examples, of which each depends on its own example alone.
            retain_graph: Whether another gradient is to follow.

        Raises:
            ValueError: If what a block read was changed in place before it could be used, or if the module checkpoints
                its activations in the way that hides them.
        """
        calls = [(i, call) for i, several in enumerate(self._calls) for call in several]
        if not calls:
            return []
        found = self._backwards(summed, [output for _, (_, _, _, output) in calls], retain_graph)
        uses: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        for (i, (part, read, version, output)), grad in zip(calls, found, strict=True):
            if read._version != version:
                raise ValueError(
                    f"What layer {part.name!r} reads is changed in place after it was read (`x += ...`): write "
                    "`x = x + ...` there, or leave the layer out with `layers=`."
                )
            back = torch.zeros_like(output) if grad is None else grad
            for kept, value in zip(
                uses.setdefault(i, ([], [])),
                part.use(self._by_example(part, read.detach()), self._by_example(part, back)),
                strict=True,
            ):
                kept.append(value)
        return [Uses(self._blocks[i], _along(inputs), _along(outputs)) for i, (inputs, outputs) in uses.items()]

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Watch the blocks' modules while the block lasts, with attention in plain mathematics."""
        if self._hooked:
            yield
            return
        token = _RECORDING.set({id(part.module): self for block in self._blocks for part in block.parts})
        handles = []
        try:
            for number, block in enumerate(self._blocks):
                for part in block.parts:
                    if part.copied:
                        own = partial(_copying, self)
                        handles.append(part.module.register_forward_pre_hook(own, with_kwargs=True))
                    kept = partial(_keeping, self, number, part)
                    handles.append(part.module.register_forward_hook(kept, with_kwargs=True))
            self._hooked = True
            with sdpa_kernel(SDPBackend.MATH):
                yield
        finally:
            self._hooked = False
            for handle in handles:
                handle.remove()
            _RECORDING.reset(token)

    def keep(self, number: int, part: Block, read: Tensor, output: Tensor) -> Tensor:
        """Keep one call of a block, and return what takes its output's place."""
        if self._grads and not torch.is_grad_enabled() and not self._backward:
            raise ValueError(
                f"Layer {part.name!r} runs without gradients (`torch.no_grad`, or a checkpoint of activations with "
                "`use_reentrant=True`): call `checkpoint(..., use_reentrant=False)`, or name the other layers in "
                "`layers=`."
            )
        count = self._examples
        if part.layout == "shared":
            read, output = (each.expand(count, *each.shape) for each in (read, output))
        elif part.layout == "batch" and len(read) == 1 < count:  # positions, added to each example
            read, output = (each.expand(count, *each.shape[1:]) for each in (read, output))
        size = read.shape[1] if part.layout == "second" else len(read)
        if size != count and not (part.layout == "flat" and size % count == 0):
            raise ValueError(
                f"Layer {part.name!r} reads {tuple(read.shape)} of {count} examples: its first dimension is not the "
                "batch. Leave it out: name the other layers in `layers=`."
            )
        if not output.requires_grad:
            output = output.detach().requires_grad_()
        if not self._backward:  # else a checkpoint runs the forward again
            if not self._calls[number]:
                self._order.append(number)
            self._calls[number].append((part, read, read._version, output))
        return output.clone()  # what is kept is not what the module goes on to change in place

    def _by_example(self, part: Block, values: Tensor) -> Tensor:
        if values.dtype in (torch.float16, torch.bfloat16):
            values = values.float()  # autocast reads in one precision and returns in another
        if part.layout == "second":
            return values.transpose(0, 1)
        return values.unflatten(0, (self._examples, -1)) if part.layout == "flat" else values

    def _backwards(self, summed: Tensor, outputs: list[Tensor], retain_graph: bool) -> Sequence[Tensor | None]:
        self._backward = True
        try:
            with self.hooks():
                return torch.autograd.grad(summed, outputs, retain_graph=retain_graph, allow_unused=True)
        except RuntimeError as error:
            if "use_reentrant" not in str(error):
                raise
            raise ValueError(
                "The module checkpoints activations with `use_reentrant=True`, which hides its layers from gradients: "
                "call `checkpoint(..., use_reentrant=False)`."
            ) from error
        finally:
            self._backward = False


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
        ValueError: In the forward, if the first dimension of what a block reads is not the batch, or if a block runs
            without gradients.
    """
    record = Recording(blocks, examples)
    with record.hooks():
        yield record


def _along(places: list[Tensor]) -> Tensor:
    return torch.cat(places, dim=1) if len(places) > 1 else places[0]


def _watched(record: Recording, module: nn.Module) -> bool:
    active = _RECORDING.get()
    return active is not None and active.get(id(module)) is record  # else another thread runs the module


def _keeping(
    record: Recording, number: int, part: Block, module: nn.Module, args: Any, kwargs: dict[str, Any], output: Tensor
) -> Tensor | None:
    read = args[0] if args else next(iter(kwargs.values()))
    return record.keep(number, part, read, output) if _watched(record, module) else None


def _copying(record: Recording, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
    if not _watched(record, module):
        return None
    if args:
        return (args[0].clone(), *args[1:]), kwargs
    first = next(iter(kwargs))
    return args, {**kwargs, first: kwargs[first].clone()}


Known = TypeVar("Known")


def by_block(blocks: Sequence[Block], values: Sequence[Known | None]) -> dict[int, Known]:
    """Return what is known of each block by its ``id``; None is of no use and left out."""
    return {id(block): value for block, value in zip(blocks, values, strict=True) if value is not None}


def products(queries: Mapping[int, Gradient], uses: Sequence[Uses]) -> Tensor:
    """Return ⟨query m, gradient of example b⟩ over all blocks, ``(M, B)``.

    Args:
        queries: The queries' gradients :func:`by_block`, without blocks that they do not use.
        uses: What the examples' batch made of each block that it used.
    """
    met = [each.scores(queries[id(each.block)]) for each in uses if id(each.block) in queries]
    if met:
        return torch.stack(met).sum(dim=0)
    count = len(next(iter(queries.values())))
    return uses[0].outputs.new_zeros(count, len(uses[0].outputs))


def squared_norms(uses: Sequence[Uses], diagonals: Mapping[int, Tensor | float]) -> Tensor:
    """Return Σ d g² of each example over all blocks, ``(B,)``.

    Args:
        uses: What the examples' batch made of each block that it used.
        diagonals: d :func:`by_block`: of the block's shape, or one number.
    """
    pairs = [(each, diagonals[id(each.block)]) for each in uses]
    found = [squares(each.gradient(), d) if isinstance(d, Tensor) else d * each.squares() for each, d in pairs]
    return torch.stack(found).sum(dim=0)
