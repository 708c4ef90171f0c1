"""The rules, each as the ordinary operation with another backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.functional.operations import substitute
from lightning_interpret.functional.relevance.scope import Scope

Call = Callable[..., Tensor]


def value_of(func: Call, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Return what a function returns, as a constant."""
    with torch.no_grad():
        return func(*args, **kwargs)


def linear(scope: Scope, call: Call, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return y = ``call(x, weight, bias)``, linear in x, with the backward pass of the scope's linear rule.

    The rules are in :class:`Rule`. All are s_j = R_j / z_j, R_i = Σ_j z_ij s_j with z_ij the (weighted) contributions:
    the gradient of Σ_j z_j at z_j's own scale y_j / z_j, so that nothing is divided by an input.

    Args:
        scope: The scope.
        call: The operation.
        x: Its input.
        weight: Its weight, a constant.
        bias: Its bias, a constant that broadcasts with y, or None.
    """
    rule = scope.rule
    if rule.linear == "epsilon" and rule.bias == "absorb":
        value = call(x, weight, bias)
        if rule.epsilon:
            z = value.detach() + _stabiliser(value.detach(), rule.epsilon)
            _pass_with_epsilon(scope, value, z, rule.epsilon)
        if bias is not None:
            scope.absorb("bias", value, bias)
        return value
    value = call(x.detach(), weight, bias)
    if rule.linear == "identity":
        if value.shape != x.shape:
            scope.refuse(getattr(call, "__name__", "linear"), f"the identity rule needs {tuple(x.shape)} on both sides")
        return substitute(value, x * _quotient(value, x.detach()))
    signal, offset = _contributions(scope, call, x, weight, bias, value)
    total = signal.detach() if offset is None else signal.detach() + offset
    stabiliser = _stabiliser(total, rule.epsilon)
    scale = _quotient(value, total + stabiliser)
    constant = stabiliser if offset is None else stabiliser + offset
    if rule.bias == "share":
        even = _even(call, x, weight)
        output = substitute(value, (signal + constant * even) * scale)
        scope.absorb("bias", output, scale * constant * (1 - even.detach()))
        scope.absorb("epsilon", output, value - scale * (total + stabiliser))
        return output
    output = substitute(value, signal * scale)
    if offset is not None:
        scope.absorb("bias", output, scale * offset)
    scope.absorb("epsilon", output, value - scale * total)
    return output


def _contributions(
    scope: Scope, call: Call, x: Tensor, weight: Tensor, bias: Tensor | None, value: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Return Σ_i z_ij, with a graph, and what of it the bias is, under the scope's rule."""
    if scope.rule.linear == "epsilon":
        return call(x, weight, None), bias
    zero = torch.zeros_like
    above, below = torch.where(x >= 0, x, zero(x)), torch.where(x < 0, x, zero(x))
    rising, falling = weight.clamp(min=0), weight.clamp(max=0)
    positive = call(above, rising, None) + call(below, falling, None)
    if scope.rule.linear == "alpha1_beta0":
        return positive, None if bias is None else bias.clamp(min=0).expand_as(value)
    negative = call(above, falling, None) + call(below, rising, None)
    gamma, up = scope.rule.gamma, value > 0
    signal = call(x, weight, None) + gamma * torch.where(up, positive, negative)
    if bias is None:
        return signal, None
    return signal, bias + gamma * torch.where(up, bias.clamp(min=0), bias.clamp(max=0))


def _even(call: Call, x: Tensor, weight: Tensor) -> Tensor:
    """Return 1 where an output has inputs that are not 0, each of them with an equal part of its relevance; else 0."""
    there = x.detach() != 0
    ones = torch.ones_like(weight)
    number = call(there.to(x.dtype), ones, None)
    parts = call(x * torch.where(there, x.detach(), torch.ones_like(x)).reciprocal(), ones, None)
    return parts * torch.where(number > 0.5, number, torch.full_like(number, torch.inf)).reciprocal()


def _pass_with_epsilon(scope: Scope, output: Tensor, z: Tensor, epsilon: float) -> None:
    def act(gradient: Tensor) -> Tensor:
        stabiliser = _stabiliser(z, epsilon)
        passed = gradient * ((z - stabiliser) / z)
        scope.ledger.add("epsilon", passed * stabiliser)
        return passed

    scope.watch(output, act)


def _stabiliser(z: Tensor, epsilon: float) -> Tensor:
    return torch.where(z >= 0, epsilon, -epsilon).to(z.dtype)


def _quotient(value: Tensor, by: Tensor) -> Tensor:
    """Return value / by, and 0 where ``by`` is 0: nothing can be told of the shares there."""
    return torch.where(by == 0, torch.zeros_like(value), value / torch.where(by == 0, torch.ones_like(by), by))


def elementwise(scope: Scope, call: Call, x: Tensor, *, value: Tensor | None = None, shaped: bool = False) -> Tensor:
    """Return f(x) of a function f of each element, with all relevance passed on but what f(0) takes.

    R_x = R_f · (f(x) − f(0)) / f(x): the gradient is the slope of the secant from 0 (the identity rule; f'(0) at 0).

    Args:
        scope: The scope.
        call: f.
        x: Its input.
        value: f(x), where it is known.
        shaped: Whether f has constants that only broadcast with the shape of x.
    """
    at = x.detach()
    value = call(at) if value is None else value.detach()
    zero = torch.zeros_like(at) if shaped else at.new_zeros(1)
    with torch.enable_grad():
        zero.requires_grad_()
        at_zero = call(zero)
        slope = torch.autograd.grad(at_zero.sum(), zero)[0] if at_zero.requires_grad else torch.zeros_like(zero)
    offset, slope = at_zero.detach(), slope.nan_to_num(0.0, 0.0, 0.0)
    rises = bool(offset.any())
    secant = (value - offset if rises else value) / at
    # next to 0 the difference to f(0) has lost its digits
    near = at.abs() <= torch.finfo(x.dtype).eps ** 0.5 if rises else at == 0
    secant = torch.where(near, slope, secant)
    output = substitute(value, x * secant)
    if rises:
        scope.absorb("constants", output, offset.expand_as(value))
    return output


def product(scope: Scope, call: Call, first: Tensor, second: Tensor) -> Tensor:
    """Return a product ``call(first, second)``, with half of the relevance to each factor that is explained.

    The uniform rule for bilinear operations (Achtibat et al., 2024). A gate is a constant: the signal
    takes all (Arras et al., 2017).
    """
    if first.requires_grad and second.requires_grad and scope.is_gate(first) != scope.is_gate(second):
        first, second = (first.detach(), second) if scope.is_gate(first) else (first, second.detach())
    output = call(first, second)
    if first.requires_grad and second.requires_grad:
        scope.watch(output, lambda gradient: gradient / 2)
    return output


def softmax(scope: Scope, value: Tensor, x: Tensor, dim: int, name: str = "softmax") -> Tensor:
    """Return ``value``, the softmax s of x, with the backward pass of the scope's attention rule."""
    if scope.rule.attention == "refused":
        scope.refuse(name, "the rules for feed-forward nets have none for attention; use rule='attn_lrp' or 'cp_lrp'")
    if scope.rule.attention == "constant":
        return value.detach()
    s, at = value.detach(), x.detach()

    def act(gradient: Tensor) -> None:
        passed = s * (gradient - (s * gradient).sum(dim=dim, keepdim=True))
        scope.ledger.add("softmax", s * gradient - (at * passed).masked_fill(passed == 0, 0.0))

    scope.watch(value, act)
    return value


def normalise(x: Tensor, dims: list[int], eps: float, *, centre: bool = True) -> Tensor:
    """Return (x − mean) / deviation over ``dims`` with the deviation a constant (the LN rule: Ali et al., 2022).

    Without ``centre``, x / root mean square.
    """
    centred = x - x.mean(dim=dims, keepdim=True) if centre else x
    return centred * (centred.detach().square().mean(dim=dims, keepdim=True) + eps).rsqrt()
