"""What PyTorch's functions are, by name: which are linear, which are products, which act on each element alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import torch


def _names(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


#: Linear (with a constant: affine) in all tensors of real numbers they are given, whatever else they are given.
LINEAR = _names(
    # sums
    "add sub rsub neg positive sum mean cumsum trace diff "
    # shapes
    "reshape reshape_as view view_as flatten ravel squeeze unsqueeze unflatten expand expand_as broadcast_to "
    "broadcast_tensors transpose swapaxes swapdims permute movedim moveaxis t T mT H mH adjoint atleast_1d atleast_2d "
    "atleast_3d contiguous clone alias as_strided unfold requires_grad_ "
    # joining and parting
    "cat stack hstack vstack dstack column_stack split split_with_sizes tensor_split hsplit vsplit dsplit chunk unbind "
    "repeat repeat_interleave tile roll flip fliplr flipud rot90 "
    # picking and placing
    "getitem setitem select select_scatter slice_scatter narrow index_select gather take take_along_dim masked_select "
    "masked_fill masked_scatter scatter scatter_add index_add index_copy index_fill index_put where fill zero copy "
    "diag diagonal diag_embed diagonal_scatter tril triu embedding pad constant_pad_nd "
    # images and sequences
    "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d pixel_shuffle "
    "pixel_unshuffle channel_shuffle native_channel_shuffle im2col col2im grid_sampler upsample_nearest1d "
    "upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d "
    "upsample_trilinear3d _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d "
    "_upsample_bilinear2d_aa _upsample_bicubic2d_aa reflection_pad1d reflection_pad2d reflection_pad3d "
    "replication_pad1d replication_pad2d replication_pad3d _pad_circular "
    "_pack_padded_sequence _pad_packed_sequence "
    # kinds of numbers
    "to type type_as float double half bfloat16 cpu cuda real"
)

#: Linear in each of two tensors: products of all kinds. Some add a third.
PRODUCTS = _names(
    "mul matmul mm bmm mv dot vdot inner outer ger linear bilinear einsum tensordot kron conv1d conv2d conv3d "
    "conv_transpose1d conv_transpose2d conv_transpose3d"
)

#: A function of each element of one tensor.
ELEMENTWISE = _names(
    "relu relu6 leaky_relu prelu threshold elu selu celu gelu silu mish softplus tanh sigmoid log_sigmoid hardtanh "
    "hardsigmoid hardswish hardshrink softshrink exp exp2 expm1 log log2 log10 log1p logit sqrt rsqrt "
    "reciprocal square pow float_power abs sin cos tan asin acos atan sinh cosh asinh acosh atanh erf erfc erfinv "
    "sinc lgamma digamma clamp clamp_min clamp_max sign sgn floor ceil round trunc frac nan_to_num"
)

#: The identity in evaluation mode, and random in training.
DROPOUTS = _names("dropout feature_dropout alpha_dropout feature_alpha_dropout")

_ALIASES = {
    "radd": "add",
    "iadd": "add",
    "subtract": "sub",
    "isub": "sub",
    "rmul": "mul",
    "imul": "mul",
    "multiply": "mul",
    "truediv": "div",
    "itruediv": "div",
    "idiv": "div",
    "divide": "div",
    "true_divide": "div",
    "ipow": "pow",
    "negative": "neg",
    "absolute": "abs",
    "clip": "clamp",
    "arctan": "atan",
    "concat": "cat",
    "concatenate": "cat",
    "expit": "sigmoid",
    "linalg_vector_norm": "vector_norm",
}
_IN_PLACE = frozenset(f"__i{name}__" for name in ("add", "sub", "mul", "truediv", "div", "pow"))


def operation(function: Callable) -> tuple[str, bool]:
    """Return the name under which a function stands in the tables, and whether it writes into its first argument.

    ``torch.add``, ``Tensor.add_``, ``+`` and ``+=`` are all ``add``.
    """
    name = getattr(function, "__name__", repr(function))
    if name == "__get__":  # an attribute of a tensor: its transpose, its shape
        return function.__self__.__name__, False  # type: ignore[attr-defined]
    if name.startswith("__"):
        short = name.strip("_")
        return _ALIASES.get(short, short), name in _IN_PLACE
    short = name.removesuffix("_")
    return _ALIASES.get(short, short), short != name


def out_of_place(name: str) -> Callable:
    """Return the function of this name that returns its result as a new tensor."""
    homes: tuple[Any, ...] = (torch.Tensor, torch, torch._C._nn)
    return next(getattr(home, name) for home in homes if hasattr(home, name))


@cache
def opened(function: Callable) -> Callable | None:
    """Return a function of PyTorch that is written in Python so that the functions it calls are met, or None.

    Such a function first asks whether somebody overrides it: with a mode, it is. What is returned has its code, and
    answers no.
    """
    if not isinstance(function, FunctionType) or not (function.__module__ or "").startswith("torch"):
        return None
    names = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    scope = {**function.__globals__, **dict.fromkeys(names, lambda *_: False)}
    body = FunctionType(function.__code__, scope, function.__name__, function.__defaults__, function.__closure__)
    body.__kwdefaults__ = function.__kwdefaults__
    return body
