"""Rollout, flow, relevance maps: golden cases, laws, and slow oracles."""

import itertools

import networkx
import pytest
import torch
from torch.testing import assert_close

from lightning_interpret.functional.attention.flow import MOST_TOKENS, attention_flow
from lightning_interpret.functional.attention.rollout import normalised, relevance_map, rollout, with_residual

FIRST, SECOND = torch.tensor([[0.5, 0.5], [0.2, 0.8]]), torch.tensor([[0.9, 0.1], [0.3, 0.7]])
BOTH = torch.ones(1, 2, dtype=torch.bool)


def maps(rows, layers, tokens, seed=0):
    """Attention of some layers, (N, L, T, T), that is sharp here and flat there."""
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(rows, layers, tokens, tokens, generator=generator, dtype=torch.float64)).softmax(-1)


def test_t16_the_golden_case():
    layers = [FIRST[None], SECOND[None]]
    assert_close(rollout(layers, BOTH)[0], torch.tensor([[0.7175, 0.2825], [0.1975, 0.8025]]))
    assert_close(rollout(layers, BOTH, residual=False)[0], torch.tensor([[0.47, 0.53], [0.29, 0.71]]))


@pytest.mark.parametrize("residual", [True, False])
def test_t16_rows_sum_to_one_and_padding_has_nothing(residual):
    there = torch.tensor([[True] * 5, [False, False, True, True, True]])
    layers = list(maps(2, 3, 5).unbind(dim=1))
    layers[1][1, 3] = 0.0  # a query without a key
    rolled = rollout(layers, there, residual=residual)
    assert_close(rolled.sum(-1), there.double())
    assert bool((rolled[1, :, :2] == 0).all())
    alone = rollout([each[1:, 2:, 2:] for each in layers], there[1:, 2:], residual=residual)
    assert_close(rolled[1:, 2:, 2:], alone)


def test_a_map_of_one_query_has_no_position_of_its_own():
    there = torch.tensor([[True, True, False]])
    assert_close(normalised(torch.tensor([[[1.0, 3.0, 4.0]]]), there), torch.tensor([[[0.25, 0.75, 0.0]]]))
    assert_close(normalised(torch.zeros(1, 1, 3), there), torch.zeros(1, 1, 3))


def test_the_relevance_map_is_the_sum_over_paths():
    generator = torch.Generator().manual_seed(1)
    layers = [torch.rand(2, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(3)]
    gradients = [torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(3)]
    there = torch.tensor([[True] * 4, [True, True, True, False]])
    found = relevance_map(layers, gradients, there)
    for b in range(2):
        means = [
            sum((a[b, h] * g[b, h]).clamp(min=0) for h in range(3)) / 3 * there[b]
            for a, g in zip(layers, gradients, strict=True)
        ]
        paths = torch.diag(there[b].double())
        for size in (1, 2, 3):
            for chosen in itertools.combinations(range(3), size):  # the layers that a path does not pass by
                product = torch.diag(there[b].double())
                for layer in chosen:
                    product = means[layer] @ product
                paths = paths + product
        assert_close(found[b], paths)


def flow_by_networkx(layers, start):
    """The maximum flow to each token, one graph each."""
    depth, tokens = layers.shape[:2]
    graph = networkx.DiGraph()
    for level, i, j in itertools.product(range(depth), range(tokens), range(tokens)):
        graph.add_edge((level + 1, i), (level, j), capacity=float(layers[level, i, j]))
    for i in range(tokens):
        graph.add_edge("start", (depth, i), capacity=float(start[i]))
    return torch.tensor(
        [networkx.maximum_flow_value(graph, "start", (0, j)) for j in range(tokens)], dtype=torch.float64
    )


@pytest.mark.parametrize(("layers", "tokens"), [(1, 3), (2, 4), (3, 5), (4, 6), (6, 4)])
def test_flow_is_the_maximum_flow(layers, tokens):
    capacity = maps(3, layers, tokens, seed=layers)
    there = torch.ones(3, tokens, dtype=torch.bool)
    capacity[:2] = torch.stack([with_residual(each, there[:2]) for each in capacity[:2].unbind(1)], dim=1)
    start = torch.eye(tokens, dtype=torch.float64)[:3]
    start[2] = 1 / tokens
    found = attention_flow(capacity, start)
    want = torch.stack([flow_by_networkx(c, s) for c, s in zip(capacity, start, strict=True)])
    assert_close(found, want, atol=1e-9, rtol=0)


def test_flow_through_two_layers_takes_the_lesser_capacity_of_each_way():
    layers = maps(2, 2, 5)
    found = attention_flow(layers, torch.eye(5)[[0, 0]].double())
    assert_close(found, layers[:, 1, 0, :, None].minimum(layers[:, 0]).sum(dim=1))


def test_flow_of_one_token_and_of_too_many():
    assert_close(attention_flow(torch.ones(1, 2, 1, 1), torch.ones(1, 1)), torch.ones(1, 1))
    with pytest.raises(ValueError, match=f"{MOST_TOKENS + 1} tokens.*at most {MOST_TOKENS}.*rollout"):
        attention_flow(torch.ones(1, 1, MOST_TOKENS + 1, MOST_TOKENS + 1), torch.ones(1, MOST_TOKENS + 1))
