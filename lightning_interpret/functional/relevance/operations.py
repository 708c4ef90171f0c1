"""Which function of torch is met by which rule.

A function that is not named here, called with a tensor that is explained, is refused if its output has a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from lightning_interpret.functional.operations import (
    ACTIVATIONS,
    AFFINE,
    DROPOUTS,
    GATES,
    LINEAR,
    bind,
    names,
    operation,
    substitute,
    tensors_in,
)
from lightning_interpret.functional.relevance import attention, recurrent, rules
from lightning_interpret.functional.relevance.scope import Scope

Handler = Callable[[Scope, Any, tuple, dict[str, Any]], Any]


def _same(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    name = operation(func)[0]
    pairs = name in ("maximum", "minimum", "fmax", "fmin", "max", "min") and isinstance(args[-1], Tensor)
    if pairs and len(args) == 2 and not (args[0].requires_grad and args[1].requires_grad):
        return _elementwise(scope, func, args, kwargs)
    if "dropout" in name:
        given = bind(args, kwargs, ("input", "p", "train"))
        if given.get("train", True) and given.get("p", 0.5) > 0:
            scope.refuse(name, "it is in training mode, which makes the output random; call `eval()`")
    return func(*args, **kwargs)


def _affine(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any], kind: str = "constants") -> Any:
    """Return the output of a function linear in what is explained plus constants; these absorb their part."""
    name, in_place = operation(func)
    if name == "lerp" and any(t.requires_grad for t in tensors_in((args[2:], kwargs))):
        scope.refuse(name, "its weight is explained, too")
    if "reduce" in kwargs or (name == "scatter" and len(args) > 4):
        scope.refuse(name, "it reduces by something other than a sum")
    kept = [t for t in tensors_in((args, kwargs)) if not t.requires_grad and t.dtype != torch.bool]
    numbers = name not in _JOINS and any(isinstance(a, int | float) and a != 0 for a in (*args, *kwargs.values()))
    constant = None
    if kept or numbers or in_place:
        with torch.no_grad():
            zeros, given = tree_map_only(
                Tensor, lambda t: torch.zeros_like(t) if t.requires_grad else t, (list(args), kwargs)
            )
            if in_place and not args[0].requires_grad:
                zeros[0] = args[0].clone()
            constant = func(*zeros, **given)
            constant = zeros[0] if in_place else constant
    base = args[0]._base if in_place else None
    before = None if base is None or args[0].requires_grad else base.detach().clone()
    output = func(*args, **kwargs)
    if base is not None and constant is not None:
        _absorb_in_view(scope, kind, args[0], constant, before)
    elif constant is not None:
        scope.absorb(kind, args[0] if in_place else output, constant)
    return output


def _absorb_in_view(scope: Scope, kind: str, view: Tensor, constant: Tensor, before: Tensor | None) -> None:
    """Enter a constant that was written into a view at the tensor under it: hooks on the view may crash torch."""
    base = view._base
    if base is not None and base.is_contiguous() and base.storage_offset() == 0:
        whole = torch.zeros_like(base) if before is None else before
        whole.as_strided(view.size(), view.stride(), view.storage_offset()).copy_(constant)
        scope.absorb(kind, base, whole)


def _elementwise(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    place = next((i for i, a in enumerate(args) if isinstance(a, Tensor) and a.requires_grad), None)
    others = [t for i, a in enumerate((*args, *kwargs.values())) if i != place for t in tensors_in(a)]
    if place is None or any(t.requires_grad for t in others):
        scope.refuse(operation(func)[0], "more than its first argument is explained")
    x, touched = args[place], []

    def call(at: Tensor) -> Tensor:
        at = at.clone()  # the function may work in place
        found = func(*args[:place], at, *args[place + 1 :], **kwargs)
        touched.append(found is at)
        return found

    output = rules.elementwise(scope, call, x, shaped=bool(others))
    return x.copy_(output) if touched[0] else output


def _gate(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    output = _elementwise(scope, func, args, kwargs)
    scope.mark(output, gate=True)
    return output


def _power(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    exponent = bind(args, kwargs, ("input", "exponent"))["exponent"]
    if isinstance(exponent, int | float) and exponent <= 0:
        return _constant(scope, func, args, kwargs)
    if isinstance(exponent, Tensor):
        scope.refuse("pow", "its exponent is a tensor")
    return _elementwise(scope, func, args, kwargs)


def _constant(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """A denominator: it scales, and takes no relevance."""
    return rules.value_of(func, args, kwargs)


def _product(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    name, in_place = operation(func)
    given = bind(args, kwargs, ("first", "second"))
    first, second = given.pop("first", None), given.pop("second", given.pop("other", None))
    if not isinstance(second, Tensor) or not isinstance(first, Tensor):
        return func(*args, **kwargs)
    if in_place and first._is_view():
        scope.refuse(name, "it writes into a view of another tensor; use the form that returns a new one")
    if name == "matmul":
        if second.dim() == 2 and not second.requires_grad:
            return rules.linear(scope, lambda x, w, _: func(x, w, **given), first, second, None)
        if first.dim() == 2 and not first.requires_grad:
            return rules.linear(scope, lambda x, w, _: func(w, x, **given), second, first, None)
    return rules.product(scope, lambda a, b: func(a, b, **given), first, second)


def _division(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    if kwargs.get("rounding_mode") is not None or len(args) > 2:
        scope.refuse("div", "it rounds")
    divisor, named = tree_map_only(Tensor, Tensor.detach, (args[1:], kwargs))
    return func(args[0], *divisor, **named)


def _sum_of_products(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """``einsum``: equal parts to each factor that is explained."""
    output = func(*args, **kwargs)
    factors = [t for t in tensors_in(args) if t.requires_grad]
    if len(factors) == 1 and scope.rule.linear != "epsilon" and len(tensors_in(args)) > 1:
        scope.refuse("einsum", f"the {scope.rule.linear} rule is written for linear layers; call `linear` or `matmul`")
    if len(factors) > 1:
        scope.watch(output, lambda gradient: gradient / len(factors))
    return output


def _linear(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    given = bind(args, kwargs, ("input", "weight", "bias"))
    x, weight, bias = (given.pop(name, None) for name in ("input", "weight", "bias"))
    rest = tuple(given.pop(f"arg{i}") for i in range(3, len(args)))
    if weight.requires_grad or (bias is not None and bias.requires_grad):
        if bias is not None and (bias.requires_grad or rest or given):
            scope.refuse(operation(func)[0], "its weight or bias is explained, too")
        output = rules.product(scope, lambda a, b: func(a, b, None, *rest, **given), x, weight)
        return output if bias is None else _affine(scope, torch.add, (output, bias), {}, "bias")
    spatial = weight.dim() - 2

    def call(x: Tensor, weight: Tensor, offset: Tensor | None) -> Tensor:
        return func(x, weight, None if offset is None else bias, *rest, **given)

    shaped = None if bias is None else bias.reshape(-1, *[1] * spatial)
    return rules.linear(scope, call, x, weight, shaped)


def _sum_with_product(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """``addmm``, ``baddbmm`` and the like: β·bias + α·(first @ second)."""
    scales: dict[str, Any] = {name: kwargs[name] for name in ("beta", "alpha") if name in kwargs}
    bias, first, second = (*args, *(value for name, value in kwargs.items() if name not in scales))
    beta, alpha = scales.get("beta", 1), scales.get("alpha", 1)
    if second.dim() == 2 and not bias.requires_grad and not second.requires_grad:

        def call(x: Tensor, weight: Tensor, offset: Tensor | None) -> Tensor:
            return func(bias if offset is not None else torch.zeros_like(bias), x, weight, **scales)

        return rules.linear(scope, call, first, second, bias if beta == 1 else beta * bias)
    value = rules.value_of(func, (bias, first, second), scales)
    output = rules.product(scope, torch.matmul, first, second) * alpha + beta * bias
    if not bias.requires_grad:
        scope.absorb("constants", output, (beta * bias).expand_as(output))
    return substitute(value, output)


def _batch_norm(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    given = bind(args, kwargs, ("input", "weight", "bias", "running_mean", "running_var", "training"))
    if given.get("training") or given.get("running_mean") is None:
        scope.refuse("batch_norm", "it normalises by the batch, which mixes its examples; call `eval()`")
    return _affine(scope, func, args, kwargs, "bias")


def _variance(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    output = func(*args, **kwargs)  # of second degree: its gradient counts twice
    scope.watch(output, lambda gradient: gradient / 2)
    return output


def _gated(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """``glu``: the gate is a constant, the signal takes all."""
    given = bind(args, kwargs, ("input", "dim"))
    signal, gate = given["input"].chunk(2, dim=given.get("dim", -1))
    return substitute(rules.value_of(func, args, kwargs), signal * gate.detach().sigmoid())


def _packed(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    scope.refuse("pack_padded_sequence", "a packed sequence has no rows; pad the batch instead")


#: Linear in one tensor, or piecewise so (a maximum over elements, a norm), where Euler's theorem keeps the sum: the
#: ordinary gradient conserves.
_SAME = (
    LINEAR
    | DROPOUTS
    | names(
        "nan_to_num amax amin max min topk sort msort median kthvalue cummax cummin aminmax maximum minimum fmax fmin "
        "max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices "
        "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d norm vector_norm std imag"
    )
)
_JOINS = names("cat stack hstack vstack dstack column_stack")
#: What keeps being a gate, if all that it takes are gates.
KEEP_GATES = _SAME | AFFINE | {"lerp", "mul", "div"}
#: What is met in its forms that write into their first argument, too.
IN_PLACE = KEEP_GATES | ACTIVATIONS | GATES | {"rrelu", "pow", "float_power"}

OPERATIONS: dict[str, Handler] = {
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(AFFINE | {"lerp"}, _affine),
    **dict.fromkeys(ACTIVATIONS | {"rrelu"}, _elementwise),
    **dict.fromkeys(GATES, _gate),
    **dict.fromkeys(("rsqrt", "reciprocal"), _constant),
    **dict.fromkeys(("pow", "float_power"), _power),
    **dict.fromkeys(("mul", "matmul", "outer", "inner"), _product),
    **dict.fromkeys(("addmm", "baddbmm"), _sum_with_product),
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d"), _linear),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _linear),
    "div": _division,
    "einsum": _sum_of_products,
    "batch_norm": _batch_norm,
    "var": _variance,
    "glu": _gated,
    "_pack_padded_sequence": _packed,
    "softmax": attention.softmax,
    "scaled_dot_product_attention": attention.scaled_dot_product_attention,
    "layer_norm": attention.layer_norm,
    "group_norm": attention.group_norm,
    "rms_norm": attention.rms_norm,
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), recurrent.layers),
    **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), recurrent.cell),
}
