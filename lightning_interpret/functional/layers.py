"""Which layers a module has, from the outside in."""

from __future__ import annotations

from torch import nn

_CONTAINERS = (nn.ModuleList, nn.Sequential)


def own_parts(module: nn.Module) -> dict[str, nn.Module]:
    """Return a module's parts by name, without those of methods that stand beside the model (``beside = True``)."""
    found: dict[str, nn.Module] = {}
    others: list[str] = []
    for name, part in module.named_modules():
        if getattr(part, "beside", False) is True:
            others.append(name + ".")
        elif not name.startswith(tuple(others)):
            found[name] = part
    return found


def plain_name(name: str) -> str:
    """Return a module's name without what `torch.compile` and wrappers that checkpoint activations put into it.

    A wrapper has the name of what it wraps: where both are met, the one that is wrapped is meant, as it always runs.
    """
    for prefix in ("_orig_mod", "_checkpoint_wrapped_module"):
        name = name.replace(f"{prefix}.", "").removesuffix(f".{prefix}")
    return name


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
    names = [plain_name(name) for name, part in own_parts(module).items() if isinstance(part, nn.Linear)]
    return names[-1] if names else None


def hidden_layers(module: nn.Module) -> list[str]:
    """Return the names of the linear layers and the convolutions in the order in which they are defined."""
    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    parts = own_parts(module).items()
    return [plain_name(name) for name, part in parts if _sizes(part) is not None or isinstance(part, convolutions)]


def feed_forward_ends(module: nn.Module) -> list[str]:
    """Return the names of the layers that end the feed-forward parts of blocks; none where there are no blocks.

    They lead back to the width from which another linear layer of the same block has led to theirs, or to twice as much
    where that is gated. So the keys and values of fewer heads are not among them.
    """
    parts, blocks = own_parts(module), dict[str, dict[str, tuple[int, int]]]()
    for name, part in parts.items():
        block, sizes = _block_of(name, parts), _sizes(part)
        if block is not None and sizes is not None:
            blocks.setdefault(block, {})[plain_name(name)] = sizes
    return [
        name
        for block in blocks.values()
        for name, (wide, narrow) in block.items()
        if wide > narrow and any(other in ((narrow, wide), (narrow, 2 * wide)) for other in block.values())
    ]


def has_attention(module: nn.Module) -> bool:
    """Return whether blocks of the module have a part that calls itself attention."""
    parts = own_parts(module)
    named = (name for name, part in parts.items() if "attention" in type(part).__name__.lower())
    return any(_block_of(name, parts) is not None for name in named)


def _block_of(name: str, parts: dict[str, nn.Module]) -> str | None:
    """Return the innermost part of a container that a module is in, or is, and that has parts of its own."""
    pieces = name.split(".")
    for i in range(len(pieces), 0, -1):
        path, parent = ".".join(pieces[:i]), ".".join(pieces[: i - 1])
        if name and isinstance(parts.get(parent), _CONTAINERS) and next(parts[path].children(), None) is not None:
            return path
    return None


def _sizes(part: nn.Module) -> tuple[int, int] | None:
    """Return how many numbers a linear layer reads and returns, or None of another layer."""
    if isinstance(part, nn.Linear):
        return part.in_features, part.out_features
    weight = getattr(part, "weight", None)
    if type(part).__name__ == "Conv1D" and weight is not None and weight.dim() == 2:  # GPT-2's, of `transformers`
        return weight.shape[0], weight.shape[1]
    return None
