"""Operations of several steps, as those steps: their multipliers are the steps' multipliers, chained.

Each function is written with functions that have rules of their own. Its value is not used: the operation's own is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.functional.rescale.recurrent import RECURRENT
from lightning_interpret.functional.rescale.rules import RescaleError


def _standardised(x: Tensor, dims: list[int], eps: float) -> Tensor:
    """Return (x − μ)/σ over some dimensions."""
    return _scaled(x - x.mean(dim=dims, keepdim=True), dims, eps)


def _scaled(x: Tensor, dims: list[int], eps: float) -> Tensor:
    return x / ((x * x).mean(dim=dims, keepdim=True) + eps).sqrt()


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _last(count: int) -> list[int]:
    return list(range(-count, 0))


def layer_norm(
    input: Tensor, shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Tensor:
    """(x − μ)/σ: quotient rule, σ² the mean of squares by the product rule."""
    return _affine(_standardised(input, _last(len(shape)), eps), weight, bias)


def rms_norm(input: Tensor, shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Tensor:
    """x/σ, with σ² the mean of x²."""
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    return _affine(_scaled(input, _last(len(shape)), eps), weight, None)


def group_norm(input: Tensor, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any) -> Tensor:
    """A layer norm of each group of channels."""
    grouped = _standardised(input.reshape(len(input), groups, -1), [-1], eps).reshape(input.shape)
    return _affine(grouped, *_per_channel(input, weight, bias))


def instance_norm(
    input: Tensor, weight: Any, bias: Any, mean: Any, var: Any, own: bool, momentum: float, eps: float, *_: Any
) -> Tensor:
    """A layer norm of each channel, or where it keeps statistics, an affine function."""
    if not own:
        return batch_norm(input, weight, bias, mean, var, False, momentum, eps)
    return group_norm(input, input.shape[1], weight, bias, eps)


def batch_norm(
    input: Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, momentum: float, eps: float, *_: Any
) -> Tensor:
    """An affine function, in evaluation mode."""
    if training:
        raise RescaleError("`batch_norm` with the statistics of the batch mixes the examples: put it in eval mode.")
    mean, var, weight, bias = _per_channel(input, mean, var, weight, bias)
    return _affine((input - mean) / (var + eps).sqrt(), weight, bias)


def _per_channel(input: Tensor, *values: Any) -> list[Any]:
    shape = [1, -1, *[1] * (input.dim() - 2)]
    return [None if value is None else value.reshape(shape) for value in values]


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(QKᵀ)V: products and a softmax."""
    refuse_dropout(query, dropout_p)
    if enable_gqa:
        key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], dim=-3) for t in (key, value))
    weights = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-2, -1)
    if is_causal:
        attn_mask = torch.ones(weights.shape[-2:], dtype=torch.bool, device=weights.device).tril()
    if attn_mask is None:
        return weights.softmax(dim=-1) @ value
    if attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=weights.dtype).masked_fill(~attn_mask, -torch.inf)
    sees_nothing = (attn_mask == -torch.inf).all(dim=-1, keepdim=True)  # 0 there, where a softmax is not a number
    return (weights + attn_mask).softmax(dim=-1).masked_fill(sees_nothing, 0.0) @ value


def refuse_dropout(input: Tensor, p: float = 0.5, train: bool = True) -> None:
    """Raise where dropout is at work."""
    if train and p > 0:
        raise RescaleError(f"Dropout (p={p}) is random, so that x and x' cannot be compared: put it in eval mode.")


def _added(product: Callable) -> Callable:
    """Return the function of ``beta * input + alpha * product(a, b)``."""

    def function(input: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        return beta * input + alpha * product(a, b)

    return function


def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """The first, plus a part of the way to the second."""
    return input + weight * (end - input)


def largest(input: Tensor, dim: Any = None, keepdim: bool = False, **_: Any) -> Tensor:
    """The largest of a tensor, along a dimension, or of each pair of elements of two."""
    if isinstance(dim, Tensor):
        return maximum(input, dim)
    return input.amax(dim=() if dim is None else dim, keepdim=keepdim)


def smallest(input: Tensor, dim: Any = None, keepdim: bool = False, **_: Any) -> Tensor:
    """The smallest, as :func:`largest`."""
    return -largest(-input, -dim if isinstance(dim, Tensor) else dim, keepdim)


def maximum(input: Tensor, other: Tensor) -> Tensor:
    """The larger of each two, b + relu(a − b)."""
    return other + (input - other).relu()


def minimum(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of each two, b − relu(b − a)."""
    return other - (other - input).relu()


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half, times the sigmoid of the second."""
    a, b = input.chunk(2, dim=dim)
    return a * b.sigmoid()


def var(input: Tensor, dim: Any = None, *, correction: int = 1, keepdim: bool = False) -> Tensor:
    """The mean of squares."""
    dims = list(range(input.dim())) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    size = torch.Size([input.shape[d] for d in dims]).numel()
    centred = input - input.mean(dim=dims, keepdim=True)
    return (centred * centred).sum(dim=dims, keepdim=keepdim) / (size - correction)


def std(input: Tensor, dim: Any = None, *, correction: int = 1, keepdim: bool = False) -> Tensor:
    """The root of :func:`var`."""
    return var(input, dim, correction=correction, keepdim=keepdim).sqrt()


def vector_norm(input: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, **_: Any) -> Tensor:
    """(Σ |x|ᵖ)^(1/p)."""
    dims = list(range(input.dim())) if dim is None else dim
    if ord in (float("inf"), 0):
        raise RescaleError(f"DeepLIFT has no rule for `vector_norm` with ord={ord}.")
    return input.abs().pow(ord).sum(dim=dims, keepdim=keepdim).pow(1 / ord)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The scalar product of the two, each of length 1."""
    norms = [(x * x).sum(dim=dim).sqrt().clamp(min=eps) for x in (x1, x2)]
    return (x1 * x2).sum(dim=dim) / (norms[0] * norms[1])


COMPOSITES: dict[str, Callable] = {
    **RECURRENT,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "batch_norm": batch_norm,
    "scaled_dot_product_attention": scaled_dot_product_attention,
    "addmm": _added(torch.mm),
    "baddbmm": _added(torch.bmm),
    "addmv": _added(torch.mv),
    "addcmul": lambda input, a, b, *, value=1: input + value * (a * b),
    "addcdiv": lambda input, a, b, *, value=1: input + value * (a / b),
    "lerp": lerp,
    "max": largest,
    "min": smallest,
    "maximum": maximum,
    "minimum": minimum,
    "glu": glu,
    "var": var,
    "std": std,
    "vector_norm": vector_norm,
    "cosine_similarity": cosine_similarity,
}
