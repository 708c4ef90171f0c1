"""A trial of blocks on a few examples: where each finds the examples in what it reads, and whether it is right.

Gradients by hooks rest on three things that no shape says: which dimension is the batch, that a weight is used by its
module's call alone, and that examples do not meet. Two forward passes of different size tell the first; one backward
pass of one example's loss, with the weights' own gradients beside it, tells the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.influence.block import Block, Layout, Rows
from lightning_interpret.functional.influence.gradients import recording

Losses = Callable[[int], Tensor]
"""Runs the module on so many examples, and returns their losses ``(n,)``."""

_ELSEWHERE = "its gradient is not made of what it reads and returns: its weight is used elsewhere, or examples meet"
_UNCLEAR = "where the examples are in what it reads is not clear, {}"
_ALONE = "what it returns once for all examples is not just added to each of them"
_NO_GRADIENTS = "it runs without gradients: `torch.no_grad`, or a checkpoint of activations with `use_reentrant=True`"


def settle(blocks: Sequence[Block], losses: Losses) -> tuple[list[Block], dict[str, str]]:
    """Return the blocks that a forward uses, in the order of their first call, and why which others cannot be.

    Called inside the explaining scope. Sets ``layout`` and ``copied`` of each block.

    Args:
        blocks: Blocks of :func:`find_blocks`.
        losses: What runs the module on 2, and on 3 examples.
    """
    left: dict[str, str] = {}
    first, second = _watch(blocks, losses, 2), _watch(blocks, losses, 3)
    order = list(dict.fromkeys(block for block, *_ in [*second, *first]))
    for block in order:
        for part in block.parts:
            calls = [[call for _, own, *call in each if own is part] for each in (first, second)]
            if reason := _placed(part, *calls):
                left[block.name] = reason
    return [block for block in order if block.name not in left], left


def check(blocks: Sequence[Block], losses: Losses) -> dict[str, str]:
    """Return which blocks give a gradient that is not the weights' own, by name, and why.

    Called inside the explaining scope, of blocks that are settled. Costs a backward pass in which these weights require
    a gradient.

    Args:
        blocks: The blocks.
        losses: What runs the module on 3 examples.

    Raises:
        ValueError: If the module cannot be recorded at all.
    """
    left: dict[str, str] = {}
    if not _same(blocks, losses):  # something that was read once for all examples is used in another way
        left = {block.name: _ALONE for block in blocks if not _same([block], losses)}
    rest = [block for block in blocks if block.name not in left]
    with _unfrozen(rest), recording(rest, 3) as record:
        values = losses(3)
        picked = int(values.detach().nan_to_num().argmax())
        uses = record.gradients(values[picked], retain_graph=True)
        wanted = [p for each in uses for p in each.block.parameters.values()]
        own = iter(torch.autograd.grad(values[picked], wanted, allow_unused=True))
        for each in uses:
            parameters = each.block.parameters
            true = {
                key: torch.zeros_like(p) if grad is None else grad.to_dense()
                for (key, p), grad in zip(parameters.items(), own, strict=False)
            }
            if not _agrees(each, each.block.stacked(true), picked):
                left[each.block.name] = _ELSEWHERE
    return left


def _watch(blocks: Sequence[Block], losses: Losses, count: int) -> list[tuple[Any, ...]]:
    """Return each call: block, part, shapes read and returned, whether in place changed later, and with gradients."""
    calls: list[tuple[Block, Block, Tensor, int, torch.Size, bool]] = []

    def watching(block: Block, part: Block) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Tensor) -> None:
            read = args[0] if args else next(iter(kwargs.values()))
            calls.append((block, part, read, read._version, output.shape, torch.is_grad_enabled()))

        return hook

    with ExitStack() as stack:
        for block in blocks:
            for part in block.parts:
                handle = part.module.register_forward_hook(watching(block, part), with_kwargs=True)
                stack.callback(handle.remove)
        losses(count)
    return [(block, part, r.shape, returned, r._version != v, on) for block, part, r, v, returned, on in calls]


def _placed(part: Block, first: list[Any], second: list[Any]) -> str | None:
    """Set where the examples are in what a part reads; return why it cannot be said."""
    if not all(with_gradients for *_, with_gradients in [*first, *second]):
        return _NO_GRADIENTS
    part.copied = any(changed for *_, changed, _ in [*first, *second])
    layouts = set()
    for (read, returned, *_), (more, returned_more, *_) in zip(first, second, strict=False):
        layouts.add(_layout(read, more) if _layout(read, more) == _layout(returned, returned_more) else None)
    if len(layouts) > 1 or None in layouts:
        return _UNCLEAR.format(f"{tuple(second[0][0])} of 3 examples, {tuple(first[0][0])} of 2")
    if layouts:
        part.layout = layouts.pop()
    return None


def _layout(two: torch.Size, three: torch.Size) -> Layout | None:
    """Return where the examples are in a tensor that has these shapes of two and of three examples."""
    if not two or len(two) != len(three):
        return None
    if (two[0], three[0]) == (2, 3):
        return "batch"
    if two == three:
        return "batch" if two[0] == 1 else "shared"
    if two[0] == three[0] and (*two[1:2], *three[1:2]) == (2, 3):
        return "second"
    return "flat" if 3 * two[0] == 2 * three[0] and two[1:] == three[1:] else None


def _same(blocks: Sequence[Block], losses: Losses) -> bool:
    """Return whether a module says the same with blocks recorded as without."""
    with torch.no_grad():
        plain = losses(3)
        try:
            with recording(blocks, 3):
                found = losses(3)
        except (IndexError, RuntimeError, TypeError, ValueError):
            return False
    return found.shape == plain.shape and torch.allclose(found, plain, rtol=1e-3, atol=1e-4, equal_nan=True)


def _agrees(uses: Any, true: Tensor, picked: int) -> bool:
    """Return whether one example's gradient is the true one, and that of the others nothing, next to their terms."""
    gradient, terms = uses.gradient(), uses.block.gradient(uses.inputs.abs(), uses.outputs.abs())
    if isinstance(gradient, Rows):
        assert isinstance(terms, Rows)
        gradient, terms, true = gradient.values, terms.values, true.clone()
        true[uses.gradient().index] -= gradient[picked]
        rest = true
    else:
        rest = true - gradient[picked]
    others = torch.cat([gradient[:picked], gradient[picked + 1 :]])
    limit = (0.05 if true.dtype in (torch.float16, torch.bfloat16) else 1e-3) * terms.norm()
    return not bool(rest.norm() + others.norm() > limit + torch.finfo(true.dtype).tiny)


@contextmanager
def _unfrozen(blocks: Sequence[Block]) -> Iterator[None]:
    parameters = [p for block in blocks for p in block.parameters.values()]
    try:
        for p in parameters:
            p.requires_grad_()
        yield
    finally:
        for p in parameters:
            p.requires_grad_(False)
