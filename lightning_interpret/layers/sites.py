"""Where turn-over dropout masks: outputs and inputs of layers by name, their units, and which layers by default."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from lightning_interpret.functional.features import LayerError, find_layer
from lightning_interpret.functional.layers import (
    feed_forward_ends,
    has_attention,
    hidden_layers,
    last_linear,
    plain_name,
)
from lightning_interpret.names import unknown

INPUT = "input of "

_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.RNNBase)
_CHANNELS_FIRST = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.modules.batchnorm._NormBase, nn.GroupNorm),
)


def default_sites(module: nn.Module) -> list[str]:
    """Return where a module is masked if nothing is named; nowhere if it has no linear layer (yet).

    In repeated blocks it is the output of each feed-forward part, before it is added to what went past it, and the
    input of the head, the last linear layer. In a network without blocks it is the input of every linear layer and
    convolution but the first, so that each hidden layer is masked once, after its activation.

    The input of a head behind a kernel layer is what that layer returns. What the layer is given is not masked: kernels
    of masked features and whole landmarks are others, and accuracy falls.

    Raises:
        LayerError: If blocks with attention have no feed-forward part of linear layers (experts in one tensor).
    """
    head = last_linear(module)
    if head is None:
        return []
    if ends := feed_forward_ends(module):
        return [*ends, INPUT + head]
    if has_attention(module):
        raise LayerError(
            f"`turn_over_layers=None`: the blocks of {type(module).__name__} have no feed-forward part of linear "
            f"layers to mask. Name what is masked, such as the blocks' last layers and '{INPUT}{head}'."
        )
    return [INPUT + name for name in hidden_layers(module)[1:]] or [INPUT + head]


def find_sites(module: nn.Module, sites: Iterable[str]) -> dict[str, nn.Module]:
    """Return the layer of each site, ``NAME`` or ``"input of NAME"``.

    Raises:
        LayerError: If there is no such layer, or its output cannot be masked.
        ValueError: If there are no sites, or one comes twice.
    """
    names = [sites] if isinstance(sites, str) else list(sites)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"`turn_over_layers={names}` must name one layer at least, and each once.")
    parts = {plain_name(name): part for name, part in module.named_modules(remove_duplicate=False) if name}
    found = {}
    for site in names:
        name = site.removeprefix(INPUT)
        if name not in parts:
            raise LayerError(unknown("turn_over_layers", name, parts))
        if site == name and isinstance(parts[name], nn.RNNBase):
            raise LayerError(
                f"`turn_over_layers`: {name!r} ({type(parts[name]).__name__}) returns its states beside its outputs, "
                f"and they would stay as they are: name '{INPUT}...' of the layer that reads it."
            )
        found[site] = parts[name]
    return found


def known_units(site: str, part: nn.Module) -> int | None:
    """Return how many units a site has where its layer tells, or None."""
    given = site.startswith(INPUT)
    for name in ("in_features", "in_channels") if given else ("out_features", "out_channels"):
        if isinstance(found := getattr(part, name, None), int):
            return found or None  # 0 of a lazy layer
    return None


def units_dim(part: nn.Module, value: Tensor) -> int:
    """Return along which dimension the units of a layer's input or output lie.

    They are the channels of convolutions, of their norms, and of whatever has four dimensions or more and is not read
    or returned by a linear layer, a ``LayerNorm`` or an ``Embedding``; else the last dimension.
    """
    if isinstance(part, _CHANNELS_FIRST):
        return 1
    return 1 if value.dim() > 3 and not isinstance(part, _LAST) else -1


def time_first(module: nn.Module, name: str) -> bool:
    """Return whether a layer's values are (time, batch, units): inside of PyTorch's transformers by default, and XLNet.

    Of other layers nothing says so, and what they return is refused where its first dimension is not the batch.
    """
    pieces = plain_name(name).split(".")
    outer = [find_layer(module, ".".join(pieces[:i])) for i in range(1, len(pieces) + 1)]
    attentions = (getattr(part, "self_attn", None) for part in outer)
    return any(getattr(each, "batch_first", True) is False for each in attentions) or any(
        type(part).__name__ == "XLNetModel" for part in outer
    )
