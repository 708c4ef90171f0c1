"""Softmax, attention and normalisation."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.functional.operations import bind, substitute
from lightning_interpret.functional.relevance import rules
from lightning_interpret.functional.relevance.scope import Scope


def softmax(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any]) -> Tensor:
    """``softmax(input, dim, ...)`` in its three forms."""
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    if not isinstance(dim, int):
        scope.refuse("softmax", "it has no `dim`")
    return rules.softmax(scope, func(*args, **kwargs), args[0] if args else kwargs["input"], dim)


def scaled_dot_product_attention(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any]) -> Tensor:
    """The value of whatever kernel runs, with the gradient of its parts by their rules."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given = bind(args, kwargs, names)
    query, key, value, mask = given["query"], given["key"], given["value"], given.get("attn_mask")
    if given.get("dropout_p", 0.0) > 0:
        scope.refuse("scaled_dot_product_attention", "it drops attention at random (`dropout_p`); call `eval()`")
    output = rules.value_of(func, args, kwargs)
    if given.get("enable_gqa"):
        key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
    scale = given.get("scale")
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = rules.product(scope, torch.matmul, query * scale, key.transpose(-2, -1))
    if given.get("is_causal"):
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -math.inf)
    elif mask is not None:
        scores = scores + mask
        if scores.requires_grad and not mask.requires_grad:
            scope.absorb("constants", scores, mask.expand_as(scores))
    nothing = (scores.detach() == -math.inf).all(dim=-1, keepdim=True)  # a query without a key: its output is 0
    scores = scores.masked_fill(nothing, 0.0)
    weights = rules.softmax(scope, scores.softmax(-1), scores, -1, "scaled_dot_product_attention")
    return substitute(output, rules.product(scope, torch.matmul, weights.masked_fill(nothing, 0.0), value))


def layer_norm(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any]) -> Tensor:
    """``layer_norm(input, normalized_shape, weight, bias, eps)``: the deviation is a constant (Ali et al., 2022)."""
    names = ("input", "normalized_shape", "weight", "bias", "eps")
    given = bind(args, kwargs, names)
    x, dims = given["input"], list(range(-len(given["normalized_shape"]), 0))
    normal = rules.normalise(x, dims, given.get("eps", 1e-5))
    return _scaled(scope, func, args, kwargs, normal, given.get("weight"), given.get("bias"))


def rms_norm(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any]) -> Tensor:
    """``rms_norm(input, normalized_shape, weight, eps)``: the root mean square is a constant."""
    given = bind(args, kwargs, ("input", "normalized_shape", "weight", "eps"))
    x, eps = given["input"], given.get("eps")
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    normal = rules.normalise(x, list(range(-len(given["normalized_shape"]), 0)), eps, centre=False)
    return _scaled(scope, func, args, kwargs, normal, given.get("weight"), None)


def group_norm(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any]) -> Tensor:
    """``group_norm(input, num_groups, weight, bias, eps)``: the deviation is a constant."""
    given = bind(args, kwargs, ("input", "num_groups", "weight", "bias", "eps"))
    x = given["input"]
    grouped = x.reshape(len(x), given["num_groups"], -1)
    normal = rules.normalise(grouped, [-1], given.get("eps", 1e-5)).reshape(x.shape)
    shape = (-1, *[1] * (x.dim() - 2))
    weight, bias = (None if t is None else t.reshape(shape) for t in (given.get("weight"), given.get("bias")))
    return _scaled(scope, func, args, kwargs, normal, weight, bias)


def _scaled(
    scope: Scope,
    func: Any,
    args: tuple,
    kwargs: dict[str, Any],
    normal: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    value = rules.value_of(func, args, kwargs)
    output = substitute(value, normal if weight is None else normal * weight.detach())
    if bias is not None:
        scope.absorb("bias", output, bias)
    return output
