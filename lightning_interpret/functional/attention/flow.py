"""Attention flow: how much can pass from a position through the graph of attention to each token."""

from __future__ import annotations

import torch
from torch import Tensor

#: Tokens of a text up to which the flow is computed: its time grows with their number cubed.
MOST_TOKENS = 64
#: What is less than this is none: the flow is exact up to as much at each node.
LEAST = 1e-12


def attention_flow(layers: Tensor, start: Tensor) -> Tensor:
    """Return the maximum flow from the top of the graph to each token, ``(N, T)`` (Abnar and Zuidema, 2020, section 3).

    The graph has a node for each position of each layer; from position i of layer l to position j of the layer below
    leads an edge of capacity Â_l[i, j]. The maximum flow is that of a graph of its own for each token; all of them are
    computed at once, by push-relabel (Goldberg and Tarjan, 1988) with exact distances before each wave of pushes.

    Args:
        layers: Capacities Â ``(N, L, T, T)``, the first layer first, as of
            :func:`~lightning_interpret.functional.attention.rollout.with_residual`.
        start: What may enter at each position of the top, ``(N, T)``: 1 at the position that is asked about.

    Raises:
        ValueError: If the texts have more than ``MOST_TOKENS`` tokens.
    """
    rows, depth, tokens = layers.shape[:3]
    if tokens > MOST_TOKENS:
        raise ValueError(
            f"The text has {tokens} tokens, and attention flow is for short ones: at most {MOST_TOKENS}. Use attention "
            "rollout, or shorter texts."
        )
    capacity = layers.double().repeat_interleave(tokens, dim=0)
    sink = torch.eye(tokens, dtype=torch.bool, device=layers.device).repeat(rows, 1)
    capacity[:, 0] *= sink[:, None, :]  # what arrives at another token is lost
    # a level without edges below the tokens and one above the top, so that all nodes have neighbours
    takes = capacity.new_zeros(rows * tokens, depth + 3, tokens, 2 * tokens)
    takes[:, 2:-1, :, :tokens] = capacity
    excess = capacity.new_zeros(rows * tokens, depth + 3, tokens)
    excess[:, -2] = start.double().repeat_interleave(tokens, dim=0)
    return _arrived(takes, excess, sink).reshape(rows, tokens).to(layers.dtype)


def _arrived(takes: Tensor, excess: Tensor, sink: Tensor) -> Tensor:
    """Return what arrives at the sink, ``(N,)``.

    Args:
        takes: What each edge still takes, ``(N, levels, T, 2T)``: to the T nodes of the level below, then to those of
            the level above (what came from there can go back).
        excess: What is at the nodes, ``(N, levels, T)``.
        sink: The node of level 1, bool ``(N, T)``.
    """
    tokens = torch.arange(sink.shape[1], device=sink.device)
    while True:
        distance = _distances(takes, sink)
        held = (excess > LEAST) & distance.isfinite() & (distance > 0)
        if not bool(held.any()):
            return (excess[:, 1] * sink).sum(dim=1)
        for far in range(int(distance[held].max()), 0, -1):
            row, level, node = ((excess > LEAST) & (distance == far)).nonzero(as_tuple=True)
            near = torch.cat([distance[row, level - 1], distance[row, level + 1]], dim=1) == far - 1
            edges = takes[row, level, node]
            open_edges = edges * near
            # a node fills its edges in their order, as far as what it has reaches
            left = excess[row, level, node, None] - (open_edges.cumsum(dim=1) - open_edges)
            moved = left.clamp(min=0).minimum(open_edges)
            down, up = moved.chunk(2, dim=1)
            takes[row, level, node] = edges - moved
            excess[row, level, node] -= moved.sum(dim=1)
            at, other = (row[:, None], tokens[None]), node[:, None]
            takes[at[0], level[:, None] - 1, at[1], other + len(tokens)] += down
            takes[at[0], level[:, None] + 1, at[1], other] += up
            excess.index_put_((row, level - 1), down, accumulate=True)
            excess.index_put_((row, level + 1), up, accumulate=True)


def _distances(takes: Tensor, sink: Tensor) -> Tensor:
    """Return over how many edges that still take something each node reaches the sink, ``(N, levels, T)``; else ∞."""
    half = sink.shape[1]
    distance = takes.new_full(takes.shape[:3], torch.inf)
    distance[:, 1][sink] = 0
    row, level, node = (distance == 0).nonzero(as_tuple=True)
    far = 0
    while len(row):
        far += 1
        reach = torch.zeros_like(distance, dtype=torch.bool)
        hit, one = torch.ones((), dtype=torch.bool, device=takes.device), level + 1
        above, below = takes[row, one, :, node] > LEAST, takes[row, level - 1, :, half + node] > LEAST
        n, k = above.nonzero(as_tuple=True)
        reach.index_put_((row[n], one[n], k), hit)
        n, k = below.nonzero(as_tuple=True)
        reach.index_put_((row[n], level[n] - 1, k), hit)
        row, level, node = (reach & distance.isinf()).nonzero(as_tuple=True)
        distance[row, level, node] = far
    return distance
