"""Multipliers of single operations: Σ m Δx = Δy, exactly (Shrikumar et al., 2017, equation 1).

Each rule returns a *line*, a linear function of the arguments at x whose gradient are the multipliers. Each is the
ordinary derivative, taken at means of what there is at x and at x', so that it tends to it as x' tends to x.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class RescaleError(ValueError):
    """A forward pass that DeepLIFT has no rules for; the message names the operation."""


@dataclass(frozen=True)
class Pair:
    """An argument at x, on the graph, and at x'."""

    now: Tensor
    before: Tensor

    @property
    def mean(self) -> Tensor:
        """½(x + x')."""
        return 0.5 * self.now.detach() + 0.5 * self.before

    @property
    def change(self) -> Tensor:
        """Δx = x − x'."""
        return self.now.detach() - self.before


@dataclass(frozen=True)
class Call:
    """One operation: the function of its tracked arguments, these arguments, and its values at x and at x'."""

    name: str
    at: Callable[..., Any]
    pairs: list[Pair]
    now: Tensor
    before: Tensor

    @property
    def mean(self) -> Tensor:
        """½(y + y')."""
        return 0.5 * self.now + 0.5 * self.before


def elementwise(call: Call, *_: Any, **__: Any) -> Tensor:
    """Δy/Δx; where Δx is so small that the quotient is rounding, f'(½(x + x'))."""
    if len(call.pairs) != 1:
        raise RescaleError(f"DeepLIFT has no rule for `{call.name}` of two tensors that both depend on the layer.")
    (x,) = call.pairs
    change, moved = x.change, call.now - call.before
    rounding = torch.finfo(moved.dtype).eps ** 0.5
    # near in both: a function may have a period, and may be as steep as rsqrt at 0
    apart = moved.abs() > rounding * (call.now.abs() + call.before.abs())
    apart |= change.abs() > rounding * (1 + x.now.detach().abs() + x.before.abs())
    apart &= change != 0
    slope = moved / change
    if not bool(apart.all()):
        slope = slope.where(apart, _derivative(call.at, x.mean.expand(slope.shape)))
    return x.now * slope


def product(call: Call, *_: Any, **__: Any) -> Tensor:
    """Δ(ab) = ½(b + b')Δa + ½(a + a')Δb."""
    if len(call.pairs) == 1:
        return call.at(call.pairs[0].now)
    a, b, *more = call.pairs
    if len(more) > 1 or (more and call.name in ("einsum", "bilinear")):
        raise RescaleError(f"DeepLIFT has no rule for `{call.name}` of three tensors that all depend on the layer.")
    return call.at(a.now, b.mean, *(c.now for c in more)) + call.at(a.mean, b.now, *(c.before for c in more))


def quotient(call: Call, input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """With q = a/b, of Δa = Δ(qb): Δq = (Δa − ½(q + q')Δb) / ½(b + b')."""
    if rounding_mode is not None:
        return elementwise(call)
    if not isinstance(other, Pair):
        return call.at(input.now)
    above = input.now if isinstance(input, Pair) else 0
    return (above - call.mean * other.now) / other.mean


def softmax(call: Call, input: Pair, dim: int, dtype: Any = None, **_: Any) -> Tensor:
    """Δy_i = ℓ_i (Δz_i − Σ_k ℓ_k Δz_k / Σ_k ℓ_k), where ℓ is the logarithmic mean of y and y'.

    With L = log Σ exp z, y = exp(z − L) is rescaled by ℓ = Δy / Δ(z − L), and what ΔL is follows from Σ Δy = 0. So no
    multiplier is above 1, and what is added to all z alike has none, as in the softmax itself.
    """
    log_mean = _log_mean(input, dim, dtype)
    return log_mean * _less_its_mean(input.now.to(log_mean.dtype), log_mean, dim)


def log_softmax(call: Call, input: Pair, dim: int, dtype: Any = None, **_: Any) -> Tensor:
    """Δ(z_i − L) = Δz_i − Σ_k ℓ_k Δz_k / Σ_k ℓ_k, as in :func:`softmax`."""
    log_mean = _log_mean(input, dim, dtype)
    return _less_its_mean(input.now.to(log_mean.dtype), log_mean, dim)


def logsumexp(call: Call, input: Pair, dim: Any, keepdim: bool = False) -> Tensor:
    """ΔL = Σ_k ℓ_k Δz_k / Σ_k ℓ_k, as in :func:`softmax`."""
    log_mean = _log_mean(input, dim, None)
    return (_shares(log_mean, dim) * input.now).sum(dim=dim, keepdim=keepdim)


def extreme(call: Call, input: Pair, dim: Any = (), keepdim: bool = False) -> Tensor:
    """The largest, or smallest: :func:`_winner` takes Δy."""
    dims = [dim] if isinstance(dim, int) else list(dim) or list(range(input.now.dim()))
    last = list(range(-len(dims), 0))
    flat = Pair(*(t.movedim(dims, last).flatten(-len(dims)) for t in (input.now, input.before)))
    sign = 1 if call.name == "amax" else -1
    i, j = ((sign * t).argmax(dim=-1, keepdim=True) for t in (flat.now, flat.before))
    shape = flat.now.shape[:-1]
    line = _winner(flat, i, j, call.now.reshape(*shape, 1), call.before.reshape(*shape, 1), sign)
    return line.reshape(call.now.shape)


def max_pool(call: Call, input: Pair, *args: Any, **kwargs: Any) -> Tensor:
    """The largest of each window: :func:`_winner` takes Δy."""
    kwargs.pop("return_indices", None)
    name = call.name.removesuffix("_with_indices")
    pool = getattr(F, f"{name}_with_indices")
    i, j = (pool(t, *args, **kwargs)[1] for t in (input.now.detach(), input.before))
    depth = int(name[-2])
    flat = Pair(input.now.flatten(-depth), input.before.flatten(-depth))
    i, j, now, before = (t.flatten(-depth) for t in (i, j, call.now, call.before))
    return _winner(flat, i, j, now, before, 1).reshape(call.now.shape)


RULES: dict[str, Callable[..., Tensor]] = {
    "div": quotient,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "logsumexp": logsumexp,
    "amax": extreme,
    "amin": extreme,
    **{f"{kind}max_pool{depth}d": max_pool for kind in ("", "adaptive_") for depth in (1, 2, 3)},
    **{f"max_pool{depth}d_with_indices": max_pool for depth in (1, 2, 3)},
}


def _winner(x: Pair, i: Tensor, j: Tensor, now: Tensor, before: Tensor, sign: int) -> Tensor:
    """Return the line of y = x_i and y' = x'_j along the last dimension.

    Of the two places, the one whose own change is at least Δy takes all of it, so that its multiplier is in [0, 1].
    """
    change = now - before
    place = torch.where(sign * change >= 0, i, j)
    own = x.change.gather(-1, place)
    slope = torch.where(own == 0, torch.ones_like(own), change / own)
    return x.now.gather(-1, place) * slope


def _derivative(function: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """Return f' of a function of each element; 0 where it is not finite, as there Δx is 0."""
    with torch.enable_grad():
        points = points.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(function(points).sum(), points, materialize_grads=True)
    return torch.nan_to_num(slope, 0.0, 0.0, 0.0)


def _log_mean(z: Pair, dim: Any, dtype: Any) -> Tensor:
    """Return the logarithmic mean of y = softmax(z) and y', (y − y') / (log y − log y'); 0 where both are 0."""
    u, v = (t.to(dtype or t.dtype) for t in (z.now.detach(), z.before))
    u, v = (t - t.logsumexp(dim=dim, keepdim=True) for t in (u, v))
    high, gap = torch.maximum(u, v), (u - v).abs()
    # e^high (1 − e^−gap) / gap, without cancellation; −inf − (−inf) is what a mask leaves
    mean = high.exp() * torch.where(gap == 0, torch.ones_like(gap), -torch.expm1(-gap) / gap)
    return torch.nan_to_num(mean, 0.0, 0.0, 0.0)


def _shares(weights: Tensor, dim: Any) -> Tensor:
    total = weights.sum(dim=dim, keepdim=True)
    return weights / total.clamp(min=torch.finfo(weights.dtype).tiny)


def _less_its_mean(z: Tensor, weights: Tensor, dim: Any) -> Tensor:
    return z - (_shares(weights, dim) * z).sum(dim=dim, keepdim=True)
