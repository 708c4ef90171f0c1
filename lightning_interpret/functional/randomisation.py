"""A module as it was before training, or partly so: what an explanation still says then, training has not put there.

Adebayo et al. (2018), *Sanity Checks for Saliency Maps*: the rank correlation of explanations of the trained module
with those of the module with other weights. The weights are the ones of step 0 where they were kept, those of a module
that was trained on random labels, or drawn anew by :func:`reinitialised`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.scope import explaining, frozen_weights, saved_tensors

#: How the tensors of :class:`Reinitialised` were made.
OWN, MODEL, SHUFFLED = "reset_parameters", "_init_weights", "shuffled"


@dataclass(frozen=True)
class Reinitialised:
    """Weights drawn anew.

    Attributes:
        values: By the names of ``saved_tensors``.
        how: For each name ``reset_parameters`` of the layer that it is of, ``_init_weights`` of the `transformers`
            model around it, or ``shuffled`` where neither had changed it: its own entries in an order drawn at random.
    """

    values: dict[str, Tensor]
    how: dict[str, str]


def reinitialised(module: nn.Module, seed: int = 0) -> Reinitialised:
    """Return weights as the module's layers draw them before training; the module itself stays as it is.

    A layer inside a `transformers` model, or another module with an ``_init_weights(layer)``, is initialised by that,
    another one by its own ``reset_parameters``. What neither changes and is not the same number throughout (a parameter
    of a user's own layer without such a method) is shuffled. Tied weights stay tied, and buffers follow where those
    methods set them.

    Args:
        module: The module.
        seed: Seed of the draw; PyTorch's own random state is left alone.
    """
    before = {name: value.detach().clone() for name, value in saved_tensors(module).items()}
    parameters = {id(value) for value in module.parameters()}
    trained = {name for name, value in saved_tensors(module).items() if id(value) in parameters}
    with explaining(module), frozen_weights(module, values=before), torch.no_grad():
        torch.manual_seed(seed)
        made = dict[int, str]()
        around = dict[str, nn.Module | None]()
        for name, part in module.named_modules():
            parent = around.get(name.rpartition(".")[0]) if name else None
            model = around[name] = part if _of_any_layer(getattr(part, "_init_weights", None)) else parent
            # by its class: what is compiled answers for the part inside it, which would be drawn twice
            resets = (n for n in ("reset_parameters", "_reset_parameters") if hasattr(type(part), n))
            reset = getattr(part, next(resets, ""), None)
            if model is not None:
                model._init_weights(part)  # type: ignore[operator]
            elif callable(reset):
                reset()
            way = MODEL if model is not None else OWN
            made |= {
                id(value): way for value in (*part._parameters.values(), *part._buffers.values()) if value is not None
            }
        after = saved_tensors(module)
        values, how, drawn = dict[str, Tensor](), dict[str, str](), dict[int, Tensor]()
        for name, value in after.items():
            found = value.detach().clone()
            how[name] = made.get(id(value), OWN)
            if name in trained and bool((found == before[name]).all()) and bool((found != found.flatten()[0]).any()):
                if id(value) not in drawn:
                    order = torch.randperm(found.numel()).to(found.device)
                    drawn[id(value)] = found.flatten()[order].view_as(found)
                found, how[name] = drawn[id(value)], SHUFFLED
            values[name] = found
    return Reinitialised(values, how)


def blocks(module: nn.Module) -> dict[str, list[str]]:
    """Return the names of the saved tensors by block, in the order of definition: embeddings first, the head last.

    Each member of an outermost ``ModuleList`` or ``Sequential`` is a block, and so is the largest part beside them that
    holds none; in a module without such containers, each layer that has tensors of its own.
    """
    parts = dict(module.named_modules(remove_duplicate=False))
    lists = {name for name, part in parts.items() if isinstance(part, nn.ModuleList | nn.Sequential) and len(part) > 1}
    found: dict[str, list[str]] = {}
    for name in saved_tensors(module):
        path = name.rpartition(".")[0].split(".") if "." in name else []
        above = [".".join(path[:depth]) for depth in range(len(path) + 1)]  # from the module itself to the layer
        inside = next((above[i + 1] for i, each in enumerate(above[:-1]) if each in lists), None)
        beside = next((each for each in above if not any(_holds(each, other) for other in lists)), above[-1])
        found.setdefault(inside or (beside if lists else above[-1]), []).append(name)
    return found


def cascade(module: nn.Module, initial: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield each block's name and the weights with it and all above it at their initial values, the head first.

    Blocks of which ``initial`` has nothing are passed over.
    """
    values: dict[str, Tensor] = {}
    for block, names in reversed(blocks(module).items()):
        some = {name: initial[name] for name in names if name in initial}
        if some:
            values = values | some
            yield block, values


def randomised(
    explain: Callable[[], Tensor], module: nn.Module, initial: Mapping[str, Tensor], *, cascading: bool = False
) -> dict[str, Tensor]:
    """Return what ``explain()`` says with other weights in the module, by what was replaced; the module stays as it is.

    Args:
        explain: Explains the module as it then is: scores ``(N, T)``. The classes are for the caller to hold fast.
        module: The module.
        initial: Weights by name, as of a ``state_dict``: of step 0, of :func:`reinitialised`, or of a module that was
            trained on random labels.
        cascading: Whether blocks are replaced one after another from the head down, each with all above it; else all
            are at once (``"all"``).

    Raises:
        ValueError: If a name is not in the module, or none is given.
    """
    known = saved_tensors(module)
    wrong = sorted(set(initial) - set(known))
    if wrong or not initial:
        which = f"has {wrong[0]!r}, which the module has not" if wrong else "is empty"
        raise ValueError(f"`initial` {which}: give weights by the names of `module.state_dict()`.")
    steps = cascade(module, initial) if cascading else [("all", dict(initial))]
    found = {}
    for name, values in steps:
        with frozen_weights(module, values=values):
            found[name] = explain()
    return found


def _of_any_layer(initialise: Any) -> bool:
    """Whether it is asked of one layer at a time; a module's own ``_init_weights()`` of all it has is not."""
    if not callable(initialise):
        return False
    asked = [each for each in signature(initialise).parameters.values() if each.default is Parameter.empty]
    return [each.kind for each in asked] in ([Parameter.POSITIONAL_OR_KEYWORD], [Parameter.POSITIONAL_ONLY])


def _holds(outer: str, inner: str) -> bool:
    return outer == "" or inner == outer or inner.startswith(outer + ".")
