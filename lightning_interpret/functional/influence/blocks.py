"""Which modules have per-example gradients that are known in closed form, and what share of a model they are."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from lightning_interpret.functional.influence.block import KEYS, Block, Gradient, Rows
from lightning_interpret.functional.influence.outer import Convolution, Grouped, Outer
from lightning_interpret.functional.influence.scale import Scale, normalises
from lightning_interpret.functional.influence.table import Lookup, Table
from lightning_interpret.functional.layers import plain_name
from lightning_interpret.functional.scope import trains
from lightning_interpret.names import choose, unknown

__all__ = [
    "Block",
    "Convolution",
    "Gradient",
    "Grouped",
    "Lookup",
    "Outer",
    "Rows",
    "Scale",
    "Table",
    "block_of",
    "coverage",
    "find_blocks",
    "uncovered",
]


def block_of(name: str, module: nn.Module, keys: Collection[str] = KEYS) -> Block | None:
    """Return the block of those of a module's own parameters that train, if it is of a kind that is known."""
    if not any(trains(module._parameters.get(key)) for key in keys):
        return None
    if isinstance(module, nn.Linear):
        return Outer(name, module, module.in_features, module.out_features, keys)
    if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):  # of `transformers`: a linear map, transposed
        features, out = module._parameters["weight"].shape  # type: ignore[union-attr]
        return Outer(name, module, features, out, keys)
    if isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd):
        return (Convolution if module.groups == 1 else Grouped)(name, module, keys)
    if isinstance(module, nn.Embedding) and not module.scale_grad_by_freq:  # else it depends on the other examples
        return Lookup(name, module, keys)
    if normalises(module):
        return Scale(name, module, keys)
    return None


def find_blocks(module: nn.Module, layers: str | Sequence[str] = "all") -> list[Block]:
    """Return the blocks of a module in its own order. Parameters that several modules share are one block.

    Args:
        module: The module.
        layers: ``"all"``, or names of modules: of one that has parts, all blocks in it.

    Raises:
        ValueError: If a name does not exist, or holds nothing that is covered.
    """
    blocks = _every(module)
    if layers != "all":
        if not layers or not isinstance(layers, str | Sequence):
            raise ValueError(f"`layers={layers!r}` must be 'all', 'last', or names of modules.")
        names = [plain_name(name) for name in ([layers] if isinstance(layers, str) else layers)]
        of = {id(part): plain_name(name) for name, part in module.named_modules()}
        places = [(block, {of[id(part.module)] for part in block.parts}) for block in blocks]
        blocks = []
        for name in names:
            choose("layers", name, filter(None, of.values()))
            inside = [block for block, at in places if any(f"{each}.".startswith(f"{name}.") for each in at)]
            if not inside:
                raise ValueError(unknown("layers", name, sorted({each for _, at in places for each in at})))
            blocks += [block for block in inside if block not in blocks]
    if not blocks:
        raise ValueError(f"{type(module).__name__} has no layer with trainable parameters that influence can cover.")
    return blocks


def coverage(module: nn.Module, blocks: Sequence[Block]) -> float:
    """Return the share of the module's trainable parameters that blocks cover."""
    trainable = {id(p): p.numel() for p in module.parameters() if trains(p)}
    covered = _covered(blocks)
    return sum(size for key, size in trainable.items() if key in covered) / max(1, sum(trainable.values()))


def uncovered(module: nn.Module, blocks: Sequence[Block]) -> list[str]:
    """Return the names of the module's trainable parameters that no block covers."""
    covered = _covered(blocks)
    return [name for name, p in module.named_parameters() if trains(p) and id(p) not in covered]


def _covered(blocks: Sequence[Block]) -> set[int]:
    return {id(p) for block in blocks for p in block.parameters.values()}


def _every(module: nn.Module) -> list[Block]:
    users: dict[int, list[tuple[str, nn.Module, str]]] = {}
    for name, part in module.named_modules():
        for key, p in part._parameters.items():
            if trains(p):
                users.setdefault(id(p), []).append((name, part, key))
    bundles: dict[tuple[int, ...], list[list[tuple[str, nn.Module, str]]]] = {}
    for found in users.values():  # parameters with the same users are one block: a weight with its bias
        bundles.setdefault(tuple(id(part) for _, part, _ in found), []).append(found)
    blocks = [_together(bundle) for bundle in bundles.values()]
    return [block for block in blocks if block is not None]


def _together(bundle: list[list[tuple[str, nn.Module, str]]]) -> Block | None:
    """Return the block of parameters that the same modules use, or None if one of those is of no kind that is known."""
    parts = []
    for uses in zip(*bundle, strict=True):
        name, module, _ = uses[0]
        keys = {key for _, _, key in uses}
        part = block_of(name, module, keys & {*KEYS})
        if part is not None and keys == {"bias"} and trains(module._parameters.get("weight")):
            part.name = f"{name}.bias"  # its weight is in another block
        parts.append(part)
    kinds = {type(part) for part in parts}
    if kinds == {Lookup, Outer} and all(isinstance(part.module, nn.Embedding | nn.Linear) for part in parts if part):
        parts = [Table(part.path, part.module) for part in parts if part is not None]
    elif len(kinds) > 1 or len({part and (part.shape, isinstance(part.module, nn.Linear)) for part in parts}) > 1:
        return None
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        return None
    found[0].parts = tuple(found)
    return found[0]
