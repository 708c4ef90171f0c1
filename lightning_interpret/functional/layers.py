"""Which layers a module has, from the outside in, and what they return in one forward pass."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.features import Forward, LayerError, find_layer, first_tensor

_CONTAINERS = (nn.ModuleList, nn.Sequential)


def levels(module: nn.Module) -> list[list[str]]:
    """Return names of layers, coarse to fine: what stands in one container, in two, and so on; at last the leaves.

    The containers are ``ModuleList`` and ``Sequential``, so that the first level is a model's blocks or stages. The
    names of compiled modules are those of what was compiled.
    """
    parts, depth, found, leaves = dict(module.named_modules()), {"": 0}, {}, []  # type: ignore[var-annotated]
    for name, part in parts.items():
        if name:  # parents come first
            parent = name.rpartition(".")[0]
            inside = isinstance(parts[parent], _CONTAINERS)
            depth[name] = depth[parent] + inside
            known = name.replace("_orig_mod.", "").removesuffix("._orig_mod")
            if inside:
                found.setdefault(depth[name], []).append(known)
            if next(part.children(), None) is None:
                leaves.append(known)
    return [*(found[level] for level in sorted(found)), leaves]


def outputs(module: nn.Module, layers: Iterable[str], forward: Forward) -> dict[str, Tensor]:
    """Return what layers return in ``forward()``, in the order in which they do; of a tuple its first tensor.

    Layers that do not run, run more than once, or return no tensor are left out: they cannot be attributed to.

    Args:
        module: The module that contains the layers.
        layers: Their names.
        forward: Runs the module.

    Raises:
        LayerError: If there is no layer of a name.
    """
    thread, seen = get_ident(), {}  # type: ignore[var-annotated]

    def keeps(layer: str) -> Any:
        def keep(part: nn.Module, args: Any, output: Any) -> None:
            if get_ident() == thread:  # another may be training the module
                seen.setdefault(layer, []).append(output)

        return keep

    with ExitStack() as stack, torch.no_grad():
        for layer in dict.fromkeys(layers):
            stack.callback(find_layer(module, layer).register_forward_hook(keeps(layer)).remove)
        forward()
    found = {}
    for layer, calls in seen.items():
        try:
            value = first_tensor(calls[0], layer)
        except LayerError:
            continue
        if len(calls) == 1:
            found[layer] = value
    return found
