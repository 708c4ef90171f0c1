"""Which axes of weights and of values a product pairs, and how an axis is followed through changes of shape."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from string import ascii_letters
from typing import Any

import torch
from torch import Tensor

_FREE = ascii_letters[::-1]


@dataclass(frozen=True)
class Weighing:
    """A product that sums values by weights; each axis has a letter, as in :func:`torch.einsum`.

    Attributes:
        weights: Letters of the weights' axes.
        values: Letters of the values' axes.
        key: The letter over which both are summed.
    """

    weights: str
    values: str
    key: str

    @property
    def shared(self) -> str:
        """Letters of the axes that are paired one to one: the batch, then the heads."""
        return "".join(c for c in self.weights if c in self.values and c != self.key)

    @property
    def _orders(self) -> tuple[str, str]:
        queries = "".join(c for c in self.weights if c not in self.values)
        features = "".join(c for c in self.values if c not in self.weights)
        return self.shared + queries + self.key, self.shared + self.key + features

    def opened(self, weights: Tensor, values: Tensor, heads: int | None = None) -> tuple[Tensor, Tensor]:
        """Return weights ``(B, H, Q, K)`` and values ``(B, H, K, D)``; ``heads`` are those that lie in axis 0."""
        rows, columns = self._orders
        size = dict(zip(self.weights, weights.shape, strict=True))
        batch, *rest = [size[c] for c in self.shared] or [1]
        lead = (batch // heads, heads) if heads else (batch, math.prod(rest))
        weights = weights.permute([self.weights.index(c) for c in rows])
        values = values.permute([self.values.index(c) for c in columns])
        keys = size[self.key]
        queries = math.prod(size[c] for c in rows if c not in self.values)
        features = math.prod(values.shape[len(self.shared) + 1 :])
        return weights.reshape(*lead, queries, keys), values.reshape(*lead, keys, features)

    def closed(self, weights: Tensor, values: Tensor, of: tuple[torch.Size, torch.Size]) -> tuple[Tensor, Tensor]:
        """Return what :meth:`opened` was given, of the shapes ``of``."""
        found = []
        for tensor, letters, order, shape in zip(
            (weights, values), (self.weights, self.values), self._orders, of, strict=True
        ):
            size = dict(zip(letters, shape, strict=True))
            found.append(tensor.reshape([size[c] for c in order]).permute([order.index(c) for c in letters]))
        return found[0], found[1]


def of_matmul(axis: int, weights: Tensor, values: Tensor, *, left: bool) -> Weighing | None:
    """Return how ``weights @ values`` (or, not ``left``, ``values @ weights``) weighs values; None where it does not.

    Args:
        axis: The axis over which the weights sum to 1.
        weights: ``(B, ..., Q, K)``, or ``(B, ..., K, Q)``.
        values: ``(B, ..., K, D)``, or ``(B, ..., D, K)``.
        left: Whether the weights are the left one.
    """
    if weights.dim() < 3 or weights.dim() != values.dim() or axis != weights.dim() - (1 if left else 2):
        return None
    lead = _FREE[: weights.dim() - 2]
    return Weighing(lead + ("qk" if left else "kq"), lead + ("kd" if left else "dk"), "k")


def of_einsum(equation: str, place: int, axis: int, operands: tuple[Tensor, Tensor]) -> Weighing | None:
    """Return how an ``einsum`` weighs values by its operand at ``place``, which sums to 1 over ``axis``; or None."""
    inputs, _, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != 2:
        return None
    if "..." in inputs:
        dims = [operand.dim() - len(term.replace("...", "")) for term, operand in zip(terms, operands, strict=True)]
        letters = [c for c in _FREE if c not in equation][: max(dims)]
        terms = [term.replace("...", "".join(letters[len(letters) - n :])) for term, n in zip(terms, dims, strict=True)]
        output = output.replace("...", "".join(letters))
    weights, values = terms[place], terms[1 - place]
    key = weights[axis]
    if len(set(weights)) < len(weights) or len(set(values)) < len(values) or key not in values or key in output:
        return None
    found = Weighing(weights, values, key)
    summed = (set(weights) | set(values)) - set(output) - {key} if "->" in equation else set()
    return None if summed or not found.shared else found


def of_product(axis: int, weights: Tensor, values: Tensor) -> tuple[Weighing, tuple[int, ...]] | None:
    """Return how ``(weights * values).sum(axis)`` weighs values, and the axes in which the weights have no extent.

    None where a number has no vector of its own that it weighs, as in probabilities times log-probabilities.

    Args:
        axis: The axis over which the weights sum to 1.
        weights: ``(B, ..., K, ..., 1)``, of as many axes as the values.
        values: ``(B, ..., K, ..., D)``.
    """
    if weights.dim() != values.dim() or values.dim() < 3 or axis == 0 or len(weights) != len(values):
        return None
    features = tuple(i for i, size in enumerate(weights.shape) if i not in (0, axis) and size == 1 < values.shape[i])
    kept = [i for i in range(weights.dim()) if i not in features]
    if not features or any(weights.shape[i] != values.shape[i] for i in kept):
        return None
    letters = _FREE[: values.dim()]
    return Weighing("".join(letters[i] for i in kept), letters, letters[axis]), features


def axis_after(function: Callable, args: tuple, kwargs: dict[str, Any], axis: int) -> int | None:
    """Return which axis of the result of a change of shape is the given one of its first argument; None where none is.

    The function is run on a tensor without memory whose stride is a mark in this axis and 0 in all others.
    """
    shape, mark = args[0].shape, 7
    size = shape[axis]
    strides = [mark if i == axis else 0 for i in range(len(shape))]
    probe = torch.empty(max(1, size * mark), device="meta").as_strided(shape, strides)
    try:
        moved = function(probe, *args[1:], **kwargs)
    except Exception:  # a `view` that a tensor without memory does not have, an index on another device
        return None
    found = [i for i, n in enumerate(moved.shape) if n == size and moved.stride(i) == mark]
    if not found and size == 1 and moved.dim():
        found = [i for i, n in enumerate(moved.shape) if n == 1]
    return found[-1] if found else None
