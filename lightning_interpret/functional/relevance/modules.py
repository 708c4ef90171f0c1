"""What the scope meets as modules: activations made of several functions, and parts with a rule of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.features import find_layer
from lightning_interpret.functional.relevance import rules
from lightning_interpret.functional.relevance.rule import Rule
from lightning_interpret.functional.relevance.scope import Scope

SAMPLE = 64  # elements of the input on which a module is tried


@contextmanager
def follow_layers(scope: Scope, module: nn.Module, layers: Mapping[str, Rule]) -> Iterator[None]:
    """Let the rules of ``layers`` hold while these parts of the module run."""
    with ExitStack() as stack:
        outer: list[Rule] = []
        for name, rule in layers.items():

            def enter(_: nn.Module, args: Any, rule: Rule = rule) -> None:
                if scope.here:
                    outer.append(scope.rule)
                    scope.rule = rule

            def leave(*_: Any) -> None:
                if scope.here:
                    scope.rule = outer.pop()

            part = find_layer(module, name)
            stack.callback(part.register_forward_pre_hook(enter).remove)
            stack.callback(part.register_forward_hook(leave, always_call=True).remove)
        yield


@contextmanager
def meet_activations(scope: Scope, module: nn.Module) -> Iterator[None]:
    """Give the modules that are functions of each element (as a trial on the input tells) one rule as a whole.

    Candidates have no parameters and no buffers; those of ``torch.nn`` are single functions and are met as such.
    """
    waiting: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def before(part: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Any:
        if not scope.here or len(args) != 1 or kwargs or not isinstance(args[0], Tensor) or not args[0].requires_grad:
            return None
        with torch._C.DisableTorchFunction():
            x = args[0].detach()
            places = torch.arange(0, x.numel(), max(1, x.numel() // SAMPLE), device=x.device)[:SAMPLE]
            values = _tried(part, x.reshape(-1)[places])
            if values is None:
                return None
            waiting[id(part)] = (args[0], places, values)
            return (x,), {}

    def after(part: nn.Module, args: tuple, output: Any) -> Any:
        if not scope.here or id(part) not in waiting:
            return None
        x, places, values = waiting.pop(id(part))
        if isinstance(output, Tensor) and output.requires_grad:
            return None  # another hook has put something else there
        with torch._C.DisableTorchFunction():
            whole = isinstance(output, Tensor) and output.shape == x.shape
            met = whole and torch.allclose(output.reshape(-1)[places], values, rtol=1e-4, atol=1e-6)
            if met:
                found = rules.elementwise(scope, part.forward, x, value=output)
                scope.mark(found)
                return found
        return part.forward(x)  # it looks beyond the element: its functions are met one by one

    with ExitStack() as stack:
        for part in module.modules():
            if part is not module and _candidate(part):
                stack.callback(part.register_forward_pre_hook(before, with_kwargs=True).remove)
                stack.callback(part.register_forward_hook(after).remove)
        yield


def _candidate(part: nn.Module) -> bool:
    own = not type(part).__module__.startswith("torch.nn.")
    return own and next(part.parameters(), None) is None and next(part.buffers(), None) is None


def _tried(part: nn.Module, sample: Tensor) -> Tensor | None:
    """Return the module's values at ``sample``, or None if they are not those of each element alone."""
    try:
        with torch.no_grad():
            values = part.forward(sample.clone())
            turned = part.forward(sample.flip(0)).flip(0)
            alone = part.forward(sample[:1].clone())
            again = part.forward(sample[None, :, None].clone())[0, :, 0]
        pairs = ((turned, values), (alone, values[:1]), (again, values))
        same = all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in pairs)
    except Exception:  # it takes no vector: it says so as it likes
        return None
    return values if same and values.shape == sample.shape else None
