"""How a call of a function of torch is read: its name, its arguments, the tensors in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

_SYNONYMS = {
    "truediv": "div", "divide": "div", "true_divide": "div", "rtruediv": "rdiv", "radd": "add", "subtract": "sub",
    "rmul": "mul", "multiply": "mul", "mm": "matmul", "bmm": "matmul", "mv": "matmul", "dot": "matmul",
    "idiv": "div", "itruediv": "div", "iadd": "add", "isub": "sub", "imul": "mul", "ipow": "pow", "float_power": "pow",
    "log_sigmoid": "logsigmoid", "requires_grad_": "requires_grad", "imatmul": "matmul",
}  # fmt: skip


@lru_cache(maxsize=4096)
def name_of(func: Any) -> tuple[str, bool]:
    """Return the name by which a function is met, whatever form it was called in, and whether it works in place."""
    name = (torch.overrides.resolve_name(func) or getattr(func, "__name__", str(func))).rpartition(".")[2]
    plain = name.strip("_")
    in_place = (name.endswith("_") and not name.endswith("__")) or plain == "setitem"
    in_place = in_place or (name.startswith("__i") and plain[1:] in ("add", "sub", "mul", "div", "truediv", "pow"))
    return _SYNONYMS.get(plain, plain), in_place


def bind(args: tuple, kwargs: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the arguments by name; positions past ``names`` are called ``arg<i>``."""
    names = (*names, *(f"arg{i}" for i in range(len(names), len(args))))
    return dict(zip(names, args, strict=False)) | kwargs


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)


def map_tensors(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return nested tuples, lists and mappings with their tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(change, item) for item in value))
    if isinstance(value, tuple | list):
        return type(value)(map_tensors(change, item) for item in value)
    if isinstance(value, dict):
        return {name: map_tensors(change, item) for name, item in value.items()}
    return value


def without_parameters(value: Any) -> Any:
    """Return nested values with parameters as constants."""
    return map_tensors(lambda t: t.detach() if isinstance(t, nn.Parameter) and t.requires_grad else t, value)
