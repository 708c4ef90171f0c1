"""Entropy, agreement of heads and the position that is read, against the definitions."""

import math
from itertools import combinations

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch.testing import assert_close

from lightning_interpret.functional.attention.measures import (
    entropy,
    head_agreement,
    position,
    read_positions,
)

ALL = torch.ones(1, 3, dtype=torch.bool)


def weights(heads, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, heads, 3, 5, generator=generator, dtype=torch.float64).mul(2).softmax(-1)


def test_entropy_is_a_share_of_uniform_attention():
    uniform, sharp = torch.full((1, 1, 3, 4), 0.25), torch.eye(4)[:3][None, None]
    assert_close(entropy(torch.cat([uniform, sharp], dim=1), ALL), torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    causal = torch.ones(3, 3).tril() / torch.arange(1, 4)[:, None]  # uniform over what a query may see
    assert_close(entropy(causal[None, None], ALL), torch.ones(1, 1, dtype=torch.float64))
    half = torch.tensor([[[[0.5, 0.5, 0.0], [0.75, 0.25, 0.0], [1.0, 0.0, 0.0]]]])
    second = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    assert_close(entropy(half, ALL), torch.tensor([[(1 + second) / 2]], dtype=torch.float64), atol=1e-6, rtol=0)
    only = torch.tensor([[False, True, False]])
    assert_close(entropy(half, only), torch.tensor([[second]], dtype=torch.float64), atol=1e-6, rtol=0)
    assert_close(entropy(torch.ones(1, 2, 1, 1), torch.ones(1, 1, dtype=torch.bool)), torch.zeros(1, 2).double())


@pytest.mark.parametrize("heads", [2, 3, 4, 5])
def test_agreement_of_heads_is_over_all_pairs(heads):
    found = weights(heads)
    queries = torch.tensor([[True, False, True]])
    pairs = [
        jensenshannon(found[0, i, q], found[0, j, q], base=2) ** 2
        for i, j in combinations(range(heads), 2)
        for q in (0, 2)
    ]
    assert_close(head_agreement(found, queries)[0].item(), 1 - sum(pairs) / len(pairs))


def test_agreement_of_heads_that_are_alike_that_share_nothing_and_of_one():
    assert_close(head_agreement(weights(1).repeat(1, 3, 1, 1), ALL).item(), 1.0)
    apart = torch.eye(3)[:, None, :].expand(3, 3, 3)[None]
    assert_close(head_agreement(apart, ALL).item(), 0.0)
    assert math.isnan(head_agreement(weights(1), ALL).item())


def test_the_positions_that_are_read():
    there = torch.tensor([[False, True, True, True], [True, True, True, False]])
    gradient = torch.zeros(2, 2, 4, 4)
    gradient[0, 1, 1, 2] = -1.0
    read = read_positions(gradient, there)
    third = 1 / 3
    assert_close(read, torch.tensor([[0, 1, 0, 0], [third, third, third, 0]], dtype=torch.float64))
    assert position("first", there).tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]
    assert position("last", there).tolist() == [[0, 0, 0, 1], [0, 0, 1, 0]]
    assert_close(position("mean", there)[0], torch.tensor([0, third, third, third], dtype=torch.float64))
