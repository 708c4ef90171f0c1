"""Recurrent layers, written as loops over time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

State = tuple[Tensor, ...]


def _lstm(x: Tensor, state: State, w_ih: Tensor, w_hh: Tensor, *more: Any) -> State:
    h, c = state
    b_ih, b_hh, *projection = more if len(more) > 1 else (None, None, *more)
    i, f, g, o = (linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh)).chunk(4, dim=-1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c.tanh()
    return (linear(h, projection[0]) if projection else h), c


def _gru(x: Tensor, state: State, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None) -> State:
    (h,) = state
    r, z, n = linear(x, w_ih, b_ih).chunk(3, dim=-1)
    r_h, z_h, n_h = linear(h, w_hh, b_hh).chunk(3, dim=-1)
    z = (z + z_h).sigmoid()
    n = (n + (r + r_h).sigmoid() * n_h).tanh()
    return (n + z * (h - n),)


def _elman(
    activation: Callable, x: Tensor, state: State, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None
) -> State:
    return (activation(linear(x, w_ih, b_ih) + linear(state[0], w_hh, b_hh)),)


def _layers(cell: Callable[..., State], *args: Any) -> tuple[Tensor, ...]:
    """Run a stack of layers as ``torch.lstm`` and its like are called: on a padded batch, or on a packed one."""
    packed = isinstance(args[1], Tensor) and isinstance(args[3], (list, tuple))
    if packed:
        data, sizes, hidden, weights, _, depth, _, _, both_ways = args
        steps = list(data.split(sizes.tolist()))
    else:
        data, hidden, weights, _, depth, _, _, both_ways, batch_first = args
        steps = list(data.unbind(dim=1 if batch_first else 0))
    begin: State = tuple(hidden) if isinstance(hidden, (list, tuple)) else (hidden,)
    ways, last = 2 if both_ways else 1, []
    each = len(weights) // (depth * ways)
    for layer in range(depth):
        outputs = []
        for way in range(ways):
            place = layer * ways + way
            run, state = _run(
                cell, steps, tuple(h[place] for h in begin), weights[each * place : each * (place + 1)], way
            )
            outputs.append(run)
            last.append(state)
        steps = [torch.cat(parts, dim=-1) for parts in zip(*outputs, strict=True)]
    result = torch.cat(steps) if packed else torch.stack(steps, dim=1 if batch_first else 0)
    return (result, *(torch.stack(states) for states in zip(*last, strict=True)))


def _run(cell: Callable[..., State], steps: list, state: State, weights: Any, back: int) -> tuple[list, State]:
    """Run a cell over the steps; of a packed batch, a step has the rows that are that long, and these come first."""
    outputs = []
    for x in reversed(steps) if back else steps:
        n = len(x)
        new = cell(x, tuple(part[:n] for part in state), *weights)
        state = tuple(torch.cat([a, b[n:]]) for a, b in zip(new, state, strict=True))
        outputs.append(new[0])
    return (outputs[::-1] if back else outputs), state


def _one_step(cell: Callable[..., State], x: Tensor, hidden: Any, *weights: Any) -> Any:
    state = cell(x, tuple(hidden) if isinstance(hidden, (list, tuple)) else (hidden,), *weights)
    return state if len(state) > 1 else state[0]


_CELLS: dict[str, Callable[..., State]] = {
    "lstm": _lstm,
    "gru": _gru,
    "rnn_tanh": partial(_elman, torch.tanh),
    "rnn_relu": partial(_elman, torch.relu),
}
RECURRENT: dict[str, Callable] = {
    **{name: partial(_layers, cell) for name, cell in _CELLS.items()},
    **{f"{name}_cell": partial(_one_step, cell) for name, cell in _CELLS.items()},
}
