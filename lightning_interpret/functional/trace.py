"""What each layer returns during a forward, and whether everything that reaches the result goes through it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from lightning_interpret.functional.features import LayerError, find_layer, first_tensor, with_first_tensor
from lightning_interpret.functional.layers import plain_name

_SEEN: ContextVar[list[tuple[str, Tensor]] | None] = ContextVar("lightning_interpret_trace", default=None)


def trace(
    module: nn.Module, forward: Callable[[], Tensor], only: Sequence[str] | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what ``forward()`` returns, and the output of each layer that runs once, in the order of completion.

    A layer that returns a tuple or a mapping stands for its first tensor. The outputs are part of the graph that
    leads to the result, where there is one.

    Args:
        module: The module.
        forward: Runs it.
        only: Names of the layers that are wanted. Where gradients are enabled, those of the result can be asked of
            each of them, whatever comes before it.

    Raises:
        LayerError: If a layer that is wanted does not exist.
    """

    def hook(name: str) -> Callable:
        def keep(_: nn.Module, args: tuple, output: object) -> object:
            seen = _SEEN.get()
            if seen is None:
                return None
            try:
                found = first_tensor(output, name)
            except LayerError:
                return None
            copy = found.clone()  # a node of its own in the graph, and never overwritten by what follows in place
            if only is not None and torch.is_grad_enabled() and copy.is_floating_point():
                copy.requires_grad_()
            seen.append((name, copy))
            return with_first_tensor(output, copy.clone())

        return keep

    if only is None:
        names = list({plain_name(name): part for name, part in module.named_modules() if name}.items())
    else:
        names = [(name, find_layer(module, name)) for name in only]
    handles = [part.register_forward_hook(hook(name)) for name, part in names]
    seen: list[tuple[str, Tensor]] = []
    token = _SEEN.set(seen)
    try:
        result = forward()
    finally:
        _SEEN.reset(token)
        for handle in handles:
            handle.remove()
    calls = Counter(name for name, _ in seen)
    return result, {name: output for name, output in seen if calls[name] == 1}


def last_called(parts: Mapping[str, nn.Module], forward: Callable[[], object]) -> str | None:
    """Return the name of the part whose call is the last one in ``forward()``; None if none is called."""
    called: list[str] = []
    handles = [
        part.register_forward_pre_hook(lambda *_, name=name: called.append(name)) for name, part in parts.items()
    ]
    try:
        with torch.no_grad():
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return called[-1] if called else None


def is_cut(result: Tensor, start: Tensor, output: Tensor) -> bool:
    """Return whether every way through the graph from ``start``, a leaf, to ``result`` goes through ``output``.

    Where it does, one baseline x' gives this layer and the input the same target, F(x) − F(x').
    """
    seen, waiting, reached = {output.grad_fn}, [result.grad_fn], False
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            reached |= node is not None and node is output.grad_fn
            continue
        seen.add(node)
        if getattr(node, "variable", None) is start:
            return False
        waiting += [after for after, _ in node.next_functions]
    return reached
