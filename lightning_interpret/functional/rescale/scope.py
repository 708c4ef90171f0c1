"""The scope in which an operation keeps its forward and has multipliers for its backward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from lightning_interpret.functional.operations import (
    AFFINE,
    DROPOUTS,
    ELEMENTWISE,
    LINEAR,
    PRODUCTS,
    Meeting,
    operation,
    out_of_place,
    substitute,
    tensors_in,
)
from lightning_interpret.functional.rescale.composites import COMPOSITES, refuse_dropout
from lightning_interpret.functional.rescale.rules import RULES, Call, Pair, RescaleError, elementwise, product

_LINEAR = LINEAR | AFFINE | DROPOUTS
_RULES: dict[str, Callable[..., Tensor]] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(PRODUCTS, product),
    **RULES,
}


@dataclass(frozen=True)
class Met:
    """One operation at x': its name, its arguments (those that are tracked as copies) and its result."""

    name: str
    leaves: list[Any]
    tracked: list[int]
    value: Any = None


class Rescale(Meeting):
    """Runs a forward at x' and keeps what its operations met; with that, runs it at x with multipliers for a backward.

    Every value is what the operation itself returns. A tensor is *tracked* if it was computed from the features by
    operations that were met; all other tensors are constants, and must be the same at x and at x'.

    Args:
        reference: The scope that ran at x', or None for that scope itself.

    Raises:
        RescaleError: Inside the scope, if an operation has no rule, or the forward at x is another than that at x'.
    """

    def __init__(self, reference: Rescale | None = None) -> None:
        super().__init__()
        self.tape: list[Met] = []
        self._mark = object()
        self._left = None if reference is None else iter(reference.tape)

    def track(self, features: Tensor) -> Tensor:
        """Return ``features``, from now on tracked."""
        features._lightning_interpret_scope = self._mark  # type: ignore[attr-defined]
        return features

    def is_tracked(self, value: Any) -> bool:
        """Return whether a value was computed from the features by operations that were met."""
        return isinstance(value, Tensor) and getattr(value, "_lightning_interpret_scope", None) is self._mark

    def finish(self, values: Tensor) -> None:
        """Refuse a forward at x that ended before the one at x' did, or whose values come from elsewhere."""
        if values.requires_grad and not self.is_tracked(values):
            raise RescaleError(
                "The score was computed from the layer by functions that cannot be met (of `torch.jit`, or an "
                "`autograd.Function`): attribute to a layer after them, or use IntegratedGradients."
            )
        if self._left is not None and (rest := next(self._left, None)) is not None:
            raise _another_way(rest.name, "nothing")

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run one operation."""
        kwargs = kwargs or {}
        leaves, form = tree_flatten((args, kwargs))
        tracked = [i for i, leaf in enumerate(leaves) if self.is_tracked(leaf)]
        if not tracked:
            return func(*args, **kwargs)
        if (run := self.opened(func)) is not None:
            return run(*args, **kwargs)
        name, in_place = operation(func)
        if name in DROPOUTS:
            refuse_dropout(*args, **kwargs)
        linear = name in _LINEAR or (name in PRODUCTS and len(tracked) == 1 and not in_place)
        if linear or (name == "grid_sampler" and tracked == [0]):  # in what is sampled, not in where
            # what is overwritten may be memory as it was found
            self._meet(name, [_NOT_KEPT, *leaves[1:]] if in_place else leaves, tracked)
            result = func(*args, **kwargs)
            if in_place:
                self._track_all([args[0], args[0]._base])
            return self._track_all(result)
        if name in _RULES or name in COMPOSITES:
            if in_place:
                func, leaves[0] = out_of_place(name), args[0] if 0 in tracked else args[0].clone()
            with torch.no_grad():
                value = func(*args, **kwargs)
            if name in _RULES:
                line = self._line(func, name, leaves, tracked, form, value)
            else:
                with self:
                    line = COMPOSITES[name](*args, **kwargs)
            result = self._track_all(_carried(value, line))
            if not in_place:
                return result
            return self._track_all(args[0].copy_(result))
        result = func(*args, **kwargs)
        if any(tensor.requires_grad for tensor in tensors_in(result)):
            raise RescaleError(
                f"DeepLIFT has no rule for `{name}`, which the model applies to what it computed from the layer. "
                "Attribute to a layer after it, write it with functions that have one, or use IntegratedGradients."
            )
        return result

    def _line(self, func: Callable, name: str, leaves: list, tracked: list[int], form: Any, value: Any) -> Tensor:
        """Return a linear function of the tracked arguments, of which the gradient are the multipliers."""
        met = self._meet(name, leaves, tracked, value)
        if self._left is None:
            return leaves[tracked[0]]  # at x' there is no backward

        def put(tensors: Any) -> Any:
            places = dict(zip(tracked, tensors, strict=True))
            return tree_unflatten([places.get(i, leaf) for i, leaf in enumerate(leaves)], form)

        def at(*tensors: Tensor) -> Any:
            args, kwargs = put(tensors)
            return func(*args, **kwargs)

        pairs = [Pair(leaves[i], met.leaves[i]) for i in tracked]
        args, kwargs = put(pairs)
        call = Call(name, at, pairs, *(_first(v).detach() for v in (value, met.value)))
        return _RULES[name](call, *args, **kwargs)

    def _meet(self, name: str, leaves: list, tracked: list[int], value: Any = None) -> Met:
        """Keep what an operation meets at x'; at x, return what it met there."""
        if self._left is None:
            needed = value is not None  # a linear operation is its own rule
            kept = {i: leaves[i].detach().clone() if needed else _NOT_KEPT for i in tracked}
            values = tree_map(lambda v: v.clone() if isinstance(v, Tensor) else v, value)
            self.tape.append(Met(name, [kept.get(i, leaf) for i, leaf in enumerate(leaves)], tracked, values))
            return self.tape[-1]
        met = next(self._left, None)
        if met is None or (met.name, met.tracked, len(met.leaves)) != (name, tracked, len(leaves)):
            raise _another_way("nothing" if met is None else met.name, name)
        for i, (now, before) in enumerate(zip(leaves, met.leaves, strict=True)):
            if i not in tracked and not _same(now, before):
                raise RescaleError(
                    f"`{name}` is given other constants at x than at x': something that was computed from the layer "
                    "without a gradient (a comparison, a rounding, `detach`, `no_grad`, a function of `torch.jit` or "
                    "`autograd.Function`), or at random. Its share of F(x) − F(x') cannot be attributed: attribute to "
                    "a layer after it, or use IntegratedGradients."
                )
            if i in tracked and before is not _NOT_KEPT and now.shape != before.shape:
                raise _another_way(f"{name} of shape {tuple(before.shape)}", f"one of shape {tuple(now.shape)}")
        return met

    def _track_all(self, values: Any) -> Any:
        for tensor in tensors_in(values):
            if tensor.requires_grad:  # under `no_grad` it is a constant
                self.track(tensor)
        return values


_NOT_KEPT = object()


def _carried(value: Any, line: Any) -> Any:
    """Return ``value`` with the gradients of ``line``; of several values, as many as there are lines."""
    if isinstance(value, Tensor):
        return substitute(value, line)
    lines = line if isinstance(line, tuple) else (line,)
    rest = value[len(lines) :]
    carried = [*(_carried(v, part) for v, part in zip(value, lines, strict=False)), *rest]
    return tuple(carried) if type(value) is tuple else type(value)(carried)


def _first(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else value[0]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a is b or (a.dtype == b.dtype and a.device == b.device and torch.equal(a, b))
    return a is b or bool(a == b)


def _another_way(before: str, now: str) -> RescaleError:
    return RescaleError(
        f"The forward pass goes another way at x than at x' ({now} where there was {before}): it depends on the values "
        "of the layer, so that the two cannot be compared operation by operation. Attribute to a layer after that "
        "place, or use IntegratedGradients."
    )
