"""Normalisation of several states by the deviation of one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

States = tuple[Tensor, Tensor, Tensor]


def _layer_norm(given: dict[str, Any], x: Tensor, states: States) -> States:
    dims = list(range(-len(given["normalized_shape"]), 0))
    return _scaled(_by_deviation(x, states, dims, given.get("eps", 1e-5)), given.get("weight"), given.get("bias"))


def _rms_norm(given: dict[str, Any], x: Tensor, states: States) -> States:
    eps, dims = given.get("eps"), list(range(-len(given["normalized_shape"]), 0))
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    return _scaled(_by_deviation(x, states, dims, eps, centre=False), given.get("weight"), None)


def _group_norm(given: dict[str, Any], x: Tensor, states: States) -> States:
    def grouped(value: Tensor) -> Tensor:
        return value.reshape(len(value), given["num_groups"], -1)

    found = _by_deviation(grouped(x), _each(grouped, states), [-1], given.get("eps", 1e-5))
    weight, bias = (
        None if given.get(name) is None else given[name].reshape(-1, *[1] * (x.dim() - 2))
        for name in ("weight", "bias")
    )
    return _scaled(_each(lambda value: value.reshape(x.shape), found), weight, bias)


#: Names of the arguments, and the states of the result, of each.
NORMALISATIONS: dict[str, tuple[tuple[str, ...], Callable[[dict[str, Any], Tensor, States], States]]] = {
    "layer_norm": (("input", "normalized_shape", "weight", "bias", "eps"), _layer_norm),
    "rms_norm": (("input", "normalized_shape", "weight", "eps"), _rms_norm),
    "group_norm": (("input", "num_groups", "weight", "bias", "eps"), _group_norm),
}


def _by_deviation(x: Tensor, states: States, dims: list[int], eps: float, *, centre: bool = True) -> States:
    """Return (state − its mean) / the deviation of x; without ``centre``, state / the root mean square of x."""

    def centred(value: Tensor) -> Tensor:
        return value - value.mean(dim=dims, keepdim=True) if centre else value

    scale = (centred(x).square().mean(dim=dims, keepdim=True) + eps).rsqrt()
    return _each(lambda value: centred(value) * scale, states)


def _scaled(states: States, weight: Tensor | None, bias: Tensor | None) -> States:
    def scaled(value: Tensor) -> Tensor:
        value = value if weight is None else value * weight
        return value if bias is None else value + bias

    return _each(scaled, states)


def _each(function: Callable[[Tensor], Tensor], states: States) -> States:
    constant, relevant, irrelevant = states
    return function(constant), function(relevant), function(irrelevant)
