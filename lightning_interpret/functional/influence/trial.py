"""A trial of blocks on a few examples: where each finds the examples in what it reads, and whether it is right.

Gradients by hooks rest on three things that no shape says: which dimension is the batch, that a weight is used by its
module's call alone, and that examples do not meet. Two forward passes of different size tell the first; one backward
pass of one example's loss, with the weights' own gradients beside it, tells the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.influence.block import Block, Rows
from lightning_interpret.functional.influence.gradients import recording

Losses = Callable[[int], Tensor]
"""Runs the module on so many examples, and returns their losses ``(n,)``."""

_Key = tuple[Block, Block]  # a block, and one of its parts

_ELSEWHERE = "its gradient is not made of what it reads and returns: its weight is used elsewhere, or examples meet"
_UNCLEAR = "where the examples are in what it reads and returns is not clear"
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
    spread: list[Block] = []  # parts that read something once for all examples, given to each of them from then on
    tried: list[Block] = []
    plain = None
    while True:
        calls, found = _watch(blocks, losses, spread)
        plain = found if plain is None else plain
        reasons = {key: _placed(key[1], own) for key, own in calls.items() if key[1] not in tried}
        once = (key for key, reason in reasons.items() if reason is None and calls[key].once())
        if (fresh := next(once, None)) is None:
            break
        block, part = fresh
        tried.append(part)
        if not _adds(part, blocks, losses, spread, plain):
            left[block.name] = _ALONE
    left |= {block.name: reason for (block, _), reason in reasons.items() if reason}
    order = dict.fromkeys(block for block, _ in calls)
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
    with unfrozen(blocks), recording(blocks, 3) as record:
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


@dataclass
class _Calls:
    """What a part read and returned in its calls, of two and of three examples; both lists are of shapes."""

    read: list[list[torch.Size]] = field(default_factory=lambda: [[], []])
    returned: list[list[torch.Size]] = field(default_factory=lambda: [[], []])
    changed: bool = False
    gradients: bool = True

    def layouts(self) -> set[str | None]:
        """Return where the examples are in what was read, for each call; None for one where that is not clear."""
        pairs = zip(zip(*self.read, strict=False), zip(*self.returned, strict=False), strict=False)
        found = [(_layout(*read), _layout(*returned)) for read, returned in pairs]
        return {read if read == returned else None for read, returned in found}

    def once(self) -> bool:
        """Return whether something was read that does not grow with the examples."""
        return any(shape == more for shape, more in zip(*self.read, strict=False))


def _watch(blocks: Sequence[Block], losses: Losses, spread: Sequence[Block]) -> tuple[dict[_Key, _Calls], Tensor]:
    """Return the calls of each part of each block, in order, and the losses of the larger run."""
    calls: dict[_Key, _Calls] = {}
    for run, count in enumerate((2, 3)):
        seen: list[tuple[_Calls, Tensor, int]] = []

        with recording(spread, count), ExitStack() as stack:
            for block in blocks:
                for part in block.parts:
                    hook = partial(_seeing, calls, (block, part), run, seen)
                    stack.callback(part.module.register_forward_hook(hook, with_kwargs=True).remove)
            values = losses(count).detach()
        for own, read, version in seen:
            own.changed |= read._version != version
    return calls, values


def _seeing(
    calls: dict[_Key, _Calls],
    key: _Key,
    run: int,
    seen: list[Any],
    module: nn.Module,
    args: Any,
    kwargs: dict[str, Any],
    output: Any,
) -> None:
    read = args[0] if args else next(iter(kwargs.values()), None)
    own = calls.setdefault(key, _Calls())
    own.gradients &= torch.is_grad_enabled()
    for shapes, value in ((own.read, read), (own.returned, output)):  # of what is no tensor nothing is known
        shapes[run].append(value.shape if isinstance(value, Tensor) else torch.Size())
    if isinstance(read, Tensor):
        seen.append((own, read, read._version))


def _adds(part: Block, blocks: Sequence[Block], losses: Losses, spread: list[Block], plain: Tensor) -> bool:
    """Return whether all is the same when what a part returns once is given to each example; if so, let it be."""
    alone = copy(part)
    alone.parts = (alone,)
    try:
        _, found = _watch(blocks, losses, [*spread, alone])
    except (IndexError, RuntimeError, TypeError, ValueError):
        return False
    if found.shape != plain.shape or not torch.allclose(found, plain, rtol=1e-3, atol=1e-4, equal_nan=True):
        return False
    spread.append(alone)
    return True


def _placed(part: Block, calls: _Calls) -> str | None:
    """Set where the examples are in what a part reads; return why it cannot be said."""
    if not calls.gradients:
        return _NO_GRADIENTS
    part.copied = calls.changed
    layouts = {"batch" if each == "single" else each for each in calls.layouts()}
    if len(layouts) > 1 or None in layouts:
        return _UNCLEAR
    part.layout = layouts.pop() if layouts else "batch"  # type: ignore[assignment]
    return None


def _layout(two: torch.Size, three: torch.Size) -> str | None:
    """Return the layout of a tensor with these shapes of two and of three examples; ``single`` is one row of all."""
    if not two or len(two) != len(three):
        return None
    if (two[0], three[0]) == (2, 3):
        return "batch"
    if two == three:
        return "single" if two[0] == 1 else "shared"
    if two[0] == three[0] and (*two[1:2], *three[1:2]) == (2, 3):
        return "second"
    return "flat" if 3 * two[0] == 2 * three[0] and two[1:] == three[1:] else None


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
    half = true.dtype in (torch.float16, torch.bfloat16) or torch.is_autocast_enabled(true.device.type)
    limit = (0.05 if half else 1e-3) * terms.norm()
    return not bool(rest.norm() + others.norm() > limit + torch.finfo(true.dtype).tiny)


@contextmanager
def unfrozen(blocks: Sequence[Block]) -> Iterator[None]:
    """Let the parameters of blocks require gradients; inside the explaining scope those are not the module's own."""
    parameters = [p for block in blocks for p in block.parameters.values()]
    try:
        for p in parameters:
            p.requires_grad_()
        yield
    finally:
        for p in parameters:
            p.requires_grad_(False)
        torch.clear_autocast_cache()  # of copies that do
