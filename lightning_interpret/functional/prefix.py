"""What a module's forward does before certain points of it, done once for many forwards that differ after them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

ELEMENTS = 2**26  # of what is kept; more is made again each time

Point = tuple[nn.Module, bool]
"""A layer, and whether the point is what it is given (else what it returns)."""


@dataclass
class Prefix:
    """Calls of a module's parts that are complete before the first of some points, with what they returned.

    Attributes:
        calls: What each part returned in its calls, in order; parts inside of these parts are not among them.
        values: What stands at each point that the forward comes to, by name.
        largest: Elements of the largest tensor that a part returned after the first point.
    """

    calls: dict[nn.Module, list[Any]] = field(default_factory=dict)
    values: dict[str, Tensor] = field(default_factory=dict)
    largest: int = 0

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Let the parts return what they did in their calls, once, while the block lasts."""
        before = [(part, vars(part).get("forward")) for part in self.calls]
        try:
            for part, outputs in self.calls.items():
                vars(part)["forward"] = _Replay(outputs, part.forward)
            yield
        finally:
            for part, own in before:
                vars(part).pop("forward", None)
                if own is not None:
                    vars(part)["forward"] = own


def prefix_of(module: nn.Module, points: Mapping[str, Point], forward: Callable[[], Any]) -> tuple[Any, Prefix]:
    """Return what ``forward()`` returns, and what of it comes before the points.

    Args:
        module: The module that runs.
        points: The points by name; what stands there is one tensor, the first that is given.
        forward: Runs it; no gradients are kept.
    """
    found, watch = Prefix(), _Watch()
    with ExitStack() as stack:
        for part in module.modules():
            own = {name: before for name, (layer, before) in points.items() if layer is part}
            stack.callback(part.register_forward_pre_hook(_Before(watch, found, own)).remove)
            stack.callback(part.register_forward_hook(_After(watch, found, own)).remove)
        stack.enter_context(torch.no_grad())
        result = forward()
    kept = [(part, tree_map(_copied, output)) for part, output in watch.complete]
    if sum(_size(output) for _, output in kept) <= ELEMENTS:
        for part, output in kept:
            found.calls.setdefault(part, []).append(output)
    return result, found


@dataclass
class _Watch:
    begun: bool = False  # whether the first point is reached
    complete: list[tuple[nn.Module, Any]] = field(default_factory=list)  # before it, outermost calls only
    open: list[int] = field(default_factory=list)  # how many were complete when each call that runs was made


@dataclass
class _Before:
    watch: _Watch
    found: Prefix
    points: dict[str, bool]

    def __call__(self, part: nn.Module, args: Any) -> None:
        for name, before in self.points.items():
            if before and args and isinstance(args[0], Tensor):
                self.watch.begun = True
                self.found.values[name] = args[0].detach().clone()
        self.watch.open.append(len(self.watch.complete))


@dataclass
class _After:
    watch: _Watch
    found: Prefix
    points: dict[str, bool]

    def __call__(self, part: nn.Module, args: Any, output: Any) -> None:
        watch, start = self.watch, self.watch.open.pop()
        for name, before in self.points.items():
            if not before and isinstance(output, Tensor):
                watch.begun = True
                self.found.values[name] = output.detach().clone()
        if watch.begun:
            self.found.largest = max([self.found.largest, *(leaf.numel() for leaf in _tensors(output))])
        else:
            watch.complete[start:] = [(part, tree_map(_copied, output))]


class _Replay:
    def __init__(self, outputs: list[Any], forward: Callable[..., Any]) -> None:
        self._outputs, self._forward = iter(outputs), forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for output in self._outputs:
            return tree_map(_copied, output)  # what follows may change it in place
        return self._forward(*args, **kwargs)


def _tensors(nest: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(nest) if isinstance(leaf, Tensor)]


def _size(nest: Any) -> int:
    return sum(leaf.numel() for leaf in _tensors(nest))


def _copied(leaf: Any) -> Any:
    return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf
