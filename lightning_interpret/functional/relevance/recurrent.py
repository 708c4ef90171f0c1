"""Recurrent layers: gates are constants and the signal takes all (Arras et al., 2017)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_interpret.functional.operations import substitute
from lightning_interpret.functional.relevance import rules
from lightning_interpret.functional.relevance.scope import Scope

State = tuple[Tensor, ...]  # (h,), or (h, c) of an LSTM; each (B, H)
PARTS = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def layers(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """``lstm``, ``gru``, ``rnn_tanh`` and ``rnn_relu`` over a padded batch, in any number of layers and directions.

    What they return is what the kernel returns; the gradient is that of the same steps under the rules.
    """
    name = func.__name__
    if len(args) != 9 or kwargs or not isinstance(args[2], list | tuple):
        scope.refuse(name, "it is given a packed sequence; pad the batch instead")
    sequence, state, weights, biased, depth, dropout, training, both, batch_first = args
    if dropout and training and depth > 1:
        scope.refuse(name, "it drops at random (`dropout`); call `eval()`")
    ways = 2 if both else 1
    each = 4 if biased else 2
    if len(weights) != each * depth * ways:
        scope.refuse(name, "it projects its hidden state (`proj_size`)")
    value = rules.value_of(func, args, {})
    states: State = tuple(state) if name == "lstm" else (state,)
    steps = sequence.transpose(0, 1) if batch_first else sequence
    ends: list[State] = []
    for layer in range(depth):
        sides = []
        for way in range(ways):
            at = layer * ways + way
            some = tuple(weights[each * at : each * (at + 1)])
            order = range(len(steps))[::-1] if way else range(len(steps))
            found, end = _run(scope, name, steps, tuple(s[at] for s in states), some, list(order))
            sides.append(found)
            ends.append(end)
        steps = torch.cat(sides, dim=-1)
    steps = steps.transpose(0, 1) if batch_first else steps
    last = [torch.stack(part) for part in zip(*ends, strict=True)]
    return tuple(substitute(v, s) for v, s in zip(value, (steps, *last), strict=True))


def cell(scope: Scope, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """``lstm_cell``, ``gru_cell``, ``rnn_tanh_cell`` and ``rnn_relu_cell``: one step."""
    name = func.__name__
    if len(args) < 4 or kwargs:
        scope.refuse(name, "it is called with arguments by name")
    value = rules.value_of(func, args, {})
    values: State = tuple(value) if name == "lstm_cell" else (value,)
    state: State = tuple(args[1]) if name == "lstm_cell" else (args[1],)
    weights = tuple(w for w in args[2:] if w is not None)
    found = _step(scope, name.removesuffix("_cell"), args[0], state, weights)
    outputs = tuple(substitute(v, s) for v, s in zip(values, found, strict=True))
    return outputs if name == "lstm_cell" else outputs[0]


def _run(
    scope: Scope, name: str, steps: Tensor, state: State, weights: tuple[Tensor, ...], order: list[int]
) -> tuple[Tensor, State]:
    outputs: list[Tensor] = [steps] * len(steps)
    for place in order:
        state = _step(scope, name, steps[place], state, weights)
        outputs[place] = state[0]
    return torch.stack(outputs), state


def _step(scope: Scope, name: str, x: Tensor, state: State, weights: tuple[Tensor, ...]) -> State:
    """Return the next state; the candidate's input is one linear layer over x and h."""
    w_x, w_h = (w.chunk(PARTS[name]) for w in weights[:2])
    biased = len(weights) == 4
    b_x, b_h = (b.chunk(PARTS[name]) for b in weights[2:]) if biased else ([None] * len(w_x), [None] * len(w_x))
    h = state[0]

    def gate(part: int) -> Tensor:
        with torch.no_grad():
            return torch.sigmoid(F.linear(x, w_x[part], b_x[part]) + F.linear(h, w_h[part], b_h[part]))

    def joined(part: int) -> Tensor:
        bias = torch.add(b_x[part], b_h[part]) if biased else None  # type: ignore[arg-type]
        inputs = torch.cat([x, h], dim=-1)
        constant = [torch.zeros_like(part) if part.requires_grad else part for part in (x, h)]
        scope.absorb("constants", inputs, torch.cat(constant, dim=-1))
        return rules.linear(scope, F.linear, inputs, torch.cat([w_x[part], w_h[part]], dim=1), bias)

    if name == "lstm":
        candidate = rules.elementwise(scope, torch.tanh, joined(2))
        c = _plus(scope, gate(1) * state[1], gate(0) * candidate)
        return gate(3) * rules.elementwise(scope, torch.tanh, c), c
    if name == "gru":
        reset, update = gate(0), gate(1)
        fresh = rules.linear(scope, F.linear, x, w_x[2], b_x[2])
        kept = rules.linear(scope, F.linear, h, w_h[2], b_h[2])
        candidate = rules.elementwise(scope, torch.tanh, _plus(scope, fresh, reset * kept))
        return (_plus(scope, (1 - update) * candidate, update * h),)
    return (rules.elementwise(scope, torch.tanh if name == "rnn_tanh" else torch.relu, joined(0)),)


def _plus(scope: Scope, first: Tensor, second: Tensor) -> Tensor:
    """Return the sum of two tensors; what is no function of the input absorbs its part."""
    output = first + second
    for part in (first, second):
        if not part.requires_grad:
            scope.absorb("constants", output, part)
    return output
