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


def last_linear(module: nn.Module) -> str | None:
    """Return the name of the linear layer that is defined last, which is a classifier's head; None without one."""
    names = [plain_name(name) for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    return names[-1] if names else None


def feed_forward_ends(module: nn.Module) -> list[str]:
    """Return the names of the layers that end a feed-forward block: those that lead from a wider one back to a block.

    Where the module has no repeated blocks with such layers, it is every linear layer but the last one.
    """
    linear = {plain_name(name): sizes for name, part in module.named_modules() if (sizes := _sizes(part)) is not None}
    parts = {plain_name(name): part for name, part in module.named_modules()}
    inside = [
        name
        for name, (given, returned) in linear.items()
        if given > returned and any(isinstance(parts.get(outer), nn.ModuleList) for outer in _outer(name))
    ]
    return inside or [name for name in linear if name != last_linear(module)]


def _sizes(part: nn.Module) -> tuple[int, int] | None:
    """Return how many numbers a linear layer reads and returns, or None of another layer."""
    if isinstance(part, nn.Linear):
        return part.in_features, part.out_features
    weight = getattr(part, "weight", None)
    if type(part).__name__ == "Conv1D" and weight is not None and weight.dim() == 2:  # GPT-2's, of `transformers`
        return weight.shape[0], weight.shape[1]
    return None


def _outer(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]
