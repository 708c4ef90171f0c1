"""One forward of some examples under each of many masks, without as many forwards: three ways, and the plain loop.

Factors are given by site, ``(K, units)``: what the units there are multiplied by in each of K forwards, for all
examples alike. Each way returns what is measured, ``(K, M)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

Factors = Mapping[str, Tensor]
Run = Callable[[], Tensor]
"""Runs the module on the examples, and returns what is measured, ``(M,)``."""
Masked = Callable[[dict[str, Tensor]], AbstractContextManager[Any]]
"""A scope in which the sites are multiplied by factors ``(1, units)``, or ``(examples, units)``."""


def looped(run: Run, masked: Masked, factors: Factors) -> Tensor:
    """Run one forward after another: what the other ways are held to."""
    found = []
    for i in range(_count(factors)):
        with masked({site: each[i : i + 1] for site, each in factors.items()}):
            found.append(run())
    return torch.stack(found)


def mapped(run: Run, masked: Masked, factors: Factors) -> Tensor:
    """Run all at once by ``torch.func.vmap``: what comes before the first mask is computed once."""

    def one(row: dict[str, Tensor]) -> Tensor:
        with masked({site: each[None] for site, each in row.items()}):
            return run()

    with sdpa_kernel(SDPBackend.MATH):  # the only attention that is mapped, and no loop with a warning
        return vmap(one)(dict(factors))


def repeated(run: Callable[[Tensor], Tensor], masked: Masked, factors: Factors, size: int) -> Tensor:
    """Run one forward of the examples repeated, each repetition with a mask of its own.

    Args:
        run: Runs the module on the examples at an index ``(K · size,)``, one value each.
        masked: The scope.
        factors: The factors.
        size: How many examples there are.
    """
    count = _count(factors)
    with masked({site: each.repeat_interleave(size, dim=0) for site, each in factors.items()}):
        return run(torch.arange(size).repeat(count)).reshape(count, size)


def multiplied(run: Run, head: nn.Linear, read: Tensor, factors: Tensor) -> Tensor:
    """Run only what comes after a linear layer, given its output under all masks of its input: one matrix product.

    (h ⊙ m) Wᵀ = m (h ⊙ W)ᵀ for each example's h.

    Args:
        run: Runs the module.
        head: The layer.
        read: What it reads, h ``(..., units)``.
        factors: m, ``(K, units)``.
    """
    products = read[..., None, :] * head.weight
    outputs = factors.to(products.dtype) @ products.reshape(-1, read.shape[-1]).T
    outputs = outputs.reshape(len(factors), *products.shape[:-1])
    outputs = outputs if head.bias is None else outputs + head.bias

    def one(output: Tensor) -> Tensor:
        with _returning(head, output):
            return run()

    return vmap(one)(outputs)


@contextmanager
def _returning(part: nn.Module, output: Tensor) -> Iterator[None]:
    own = vars(part).get("forward")
    vars(part)["forward"] = lambda *args, **kwargs: output
    try:
        yield
    finally:
        del vars(part)["forward"]
        if own is not None:
            vars(part)["forward"] = own


def _count(factors: Factors) -> int:
    return len(next(iter(factors.values())))
