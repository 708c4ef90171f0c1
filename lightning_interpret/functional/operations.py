"""What PyTorch's functions are, by name, and how they are met while a model calls them.

A table is here if several scopes need it; what only one of them means by a function stays there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


def names(listed: str) -> frozenset[str]:
    """Return the names in a text."""
    return frozenset(listed.split())


#: Linear in all tensors of real numbers they are given, with nothing added.
LINEAR = names(
    # sums
    "neg positive sum mean cumsum trace "
    # shapes
    "reshape reshape_as view view_as flatten ravel squeeze unsqueeze unflatten expand expand_as broadcast_to "
    "broadcast_tensors transpose swapaxes swapdims permute movedim moveaxis t T mT H mH adjoint atleast_1d atleast_2d "
    "atleast_3d contiguous clone alias as_strided unfold requires_grad_ "
    # parting and repeating
    "split split_with_sizes tensor_split hsplit vsplit dsplit chunk unbind repeat repeat_interleave tile roll flip "
    "fliplr flipud rot90 "
    # picking
    "getitem select narrow index_select gather take take_along_dim masked_select zero diag diagonal diag_embed tril "
    "triu embedding "
    # images and sequences
    "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d pixel_shuffle "
    "pixel_unshuffle channel_shuffle native_channel_shuffle im2col col2im upsample_nearest1d upsample_nearest2d "
    "upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d "
    "upsample_trilinear3d _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d "
    "_upsample_bilinear2d_aa _upsample_bicubic2d_aa reflection_pad1d reflection_pad2d reflection_pad3d "
    "replication_pad1d replication_pad2d replication_pad3d _pad_circular "
    "_pack_padded_sequence _pad_packed_sequence "
    # kinds of numbers
    "to type type_as float double half bfloat16 cpu cuda real"
)

#: Sums of tensors, and tensors put together: linear in all, so that those that are constants are added to the rest.
AFFINE = names(
    "add sub rsub diff cat stack hstack vstack dstack column_stack where masked_fill masked_scatter scatter "
    "scatter_add index_add index_copy index_fill index_put setitem select_scatter slice_scatter diagonal_scatter copy "
    "fill pad constant_pad_nd"
)

#: Linear in each of two tensors: products of all kinds. Some add a third.
PRODUCTS = names(
    "mul matmul inner outer linear bilinear einsum tensordot kron conv1d conv2d conv3d conv_transpose1d "
    "conv_transpose2d conv_transpose3d"
)

#: Functions of each element that squash into [0, 1].
GATES = names("sigmoid hardsigmoid")

#: Functions of each element of one tensor that are activations or stand in them, all but gates.
ACTIVATIONS = names(
    "relu relu6 leaky_relu prelu threshold elu selu celu gelu silu mish softplus tanh log_sigmoid hardtanh hardswish "
    "hardshrink softshrink expm1 log1p sqrt square abs sin atan sinh asinh erf clamp clamp_min clamp_max"
)

#: All functions of each element of one tensor.
ELEMENTWISE = (
    ACTIVATIONS
    | GATES
    | names(
        "exp exp2 log log2 log10 logit rsqrt reciprocal pow float_power cos tan asin acos cosh acosh atanh erfc erfinv "
        "sinc lgamma digamma sign sgn floor ceil round trunc frac nan_to_num"
    )
)

#: The identity in evaluation mode, and random in training.
DROPOUTS = names("dropout feature_dropout alpha_dropout feature_alpha_dropout")

_ALIASES = {
    **dict.fromkeys(("radd", "iadd"), "add"),
    **dict.fromkeys(("isub", "subtract"), "sub"),
    **dict.fromkeys(("rmul", "imul", "multiply"), "mul"),
    **dict.fromkeys(("truediv", "itruediv", "idiv", "divide", "true_divide"), "div"),
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "vdot"), "matmul"),
    **dict.fromkeys(("concat", "concatenate"), "cat"),
    **{f"arc{name}": f"a{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "ger": "outer",
    "ipow": "pow",
    "negative": "neg",
    "absolute": "abs",
    "clip": "clamp",
    "expit": "sigmoid",
}
_IN_PLACE = frozenset(f"__i{name}__" for name in ("add", "sub", "mul", "truediv", "div", "pow")) | {"__setitem__"}


def operation(function: Callable) -> tuple[str, bool]:
    """Return the name under which a function stands in the tables, and whether it writes into its first argument.

    ``torch.add``, ``Tensor.add_``, ``+`` and ``+=`` are all ``add``; reading an attribute has the attribute's name.
    """
    name = getattr(function, "__name__", repr(function))
    if name == "__get__":  # its transpose, its shape
        return getattr(function.__self__, "__name__", name), False  # type: ignore[attr-defined]
    if name.startswith("__"):
        short, in_place = name.strip("_"), name in _IN_PLACE
    else:
        in_place = name.endswith("_") and name != "requires_grad_"
        short = name.removesuffix("_") if in_place else name.removeprefix("special_").removeprefix("linalg_")
    return _ALIASES.get(short, short), in_place


def out_of_place(name: str) -> Callable:
    """Return the function of this name that returns its result as a new tensor."""
    homes: tuple[Any, ...] = (Tensor, torch, torch._C._nn)
    return next(getattr(home, name) for home in homes if hasattr(home, name))


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and mappings."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def bind(args: tuple, kwargs: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the arguments of a call by name; positions past ``names`` are called ``arg<i>``."""
    names = (*names, *(f"arg{i}" for i in range(len(names), len(args))))
    return dict(zip(names, args, strict=False)) | kwargs


class Meeting(TorchFunctionMode):
    """A mode that meets functions as they are called, those that PyTorch writes in Python by the functions they call.

    The forward is the model's own, nothing is patched, and other threads see nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._opening: Callable | None = None

    def opened(self, function: Callable) -> Callable | None:
        """Return what runs a function written in Python so that those it calls are met; None if it is met itself."""
        body = None if function is self._opening else _opened(function)
        return None if body is None else partial(self._open, function, body)

    def _open(self, function: Callable, body: Callable, *args: Any, **kwargs: Any) -> Any:
        around, self._opening = self._opening, function  # by its own name, it means one in C++
        try:
            with self:
                return body(*args, **kwargs)
        finally:
            self._opening = around


@cache
def _opened(function: Callable) -> Callable | None:
    """Return a function of PyTorch that is written in Python so that the functions it calls are met, or None.

    Such a function first asks whether somebody overrides it: with a mode, it is. What is returned has its code, and
    answers no.
    """
    if not isinstance(function, FunctionType) or not (function.__module__ or "").startswith("torch"):
        return None
    asks = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    scope = {**function.__globals__, **dict.fromkeys(asks, lambda *_: False)}
    body = FunctionType(function.__code__, scope, function.__name__, function.__defaults__, function.__closure__)
    body.__kwdefaults__ = function.__kwdefaults__
    return body


class _Substitute(torch.autograd.Function):
    """A value with the gradient of another tensor; it comes in a list, so as to be no argument that is returned."""

    @staticmethod
    def forward(ctx: Any, value: list[Tensor], line: Tensor) -> Tensor:
        return value[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def substitute(value: Tensor, line: Tensor) -> Tensor:
    """Return ``value`` with the gradient of ``line``, of the same shape."""
    return _Substitute.apply([value.detach()], line) if line.requires_grad else value.detach()
