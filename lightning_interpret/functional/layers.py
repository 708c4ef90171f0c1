"""Which layers a module has, from the outside in."""

from __future__ import annotations

from torch import nn

_CONTAINERS = (nn.ModuleList, nn.Sequential)


def plain_name(name: str) -> str:
    """Return a module's name without what `torch.compile` puts into it."""
    return name.replace("_orig_mod.", "").removesuffix("._orig_mod")


def levels(module: nn.Module) -> list[list[str]]:
    """Return names of layers, coarse to fine: what stands in one container, in two, and so on; at last the leaves.

    The containers are ``ModuleList`` and ``Sequential``, so that the first level is a model's blocks or stages. The
    names of compiled modules are those of what was compiled.
    """
    parts = dict(module.named_modules())
    depth, found, leaves = {"": 0}, dict[int, list[str]](), list[str]()
    for name, part in parts.items():  # parents come before what is in them
        if name:
            parent = name.rpartition(".")[0]
            inside = isinstance(parts[parent], _CONTAINERS)
            depth[name] = depth[parent] + inside
            known = plain_name(name)
            if inside:
                found.setdefault(depth[name], []).append(known)
            if next(part.children(), None) is None:
                leaves.append(known)
    return [*(found[level] for level in sorted(found)), leaves]
