"""What a layer returns: the tensor that it stands for, another one in its place, and values that go with token ids."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor


class LayerError(ValueError):
    """A layer that does not exist, does not run, or cannot be attributed to."""


def first_tensor(output: Any, layer: str) -> Tensor:
    """Return what a layer's output stands for: the tensor that it is, or the first in it.

    Raises:
        LayerError: If there is none.
    """
    if isinstance(output, Tensor):
        return output
    values = list(output.values()) if hasattr(output, "values") else list(output) if isinstance(output, tuple) else []
    for value in values:
        if isinstance(value, Tensor):
            return value
    raise LayerError(f"`layer={layer!r}` returns {type(output).__name__}, which holds no tensor to attribute to.")


def with_first_tensor(output: Any, value: Tensor) -> Any:
    """Return a layer's output with another value in the place of its first tensor."""
    if isinstance(output, Tensor):
        return value
    if hasattr(output, "items"):
        name = next(name for name, item in output.items() if isinstance(item, Tensor))
        if hasattr(output, "__dataclass_fields__"):  # transformers' ModelOutput
            return replace(output, **{name: value})
        return type(output)({**output, name: value})
    place = next(i for i, item in enumerate(output) if isinstance(item, Tensor))
    items = (*output[:place], value, *output[place + 1 :])
    return type(output)(*items) if hasattr(output, "_fields") else items


def followed(ids: Tensor | None, again: Tensor | None, value: Tensor, first: Tensor) -> Tensor | None:
    """Return values at some ids for a call with the same ones, or shifted right by one, as a decoder reads the text.

    Args:
        ids: Token ids ``(B, T)``.
        again: Those of the later call.
        value: The values ``(B, T, ...)``.
        first: Of the same shape: what the first place has, where the ids are shifted.

    Returns:
        The values, or None where the ids are others.
    """
    if ids is None or again is None or again.shape != ids.shape:
        return None
    if torch.equal(again, ids):
        return value
    if torch.equal(again[:, 1:], ids[:, :-1]):
        return torch.cat([first[:, :1], value[:, :-1].to(first.dtype)], dim=1)
    return None
