"""Turn-over dropout read out: what a score does not depend on, and what it does not cost."""

import pytest
import torch
from digits import split
from torch import nn
from turn_over import TASK, Calls, Masked, by_hand, own_by_hand, perceptron, pixels

from lightning_interpret import TurnOverDropoutInfluence

HEAD, TAIL, DEEP = ["input of net.4"], ["net.2"], ["net.0", "net.2", "input of net.4"]


@pytest.mark.parametrize("sites", [HEAD, TAIL, DEEP])
def test_neither_pairs_nor_examples_cost_a_forward_each(sites):
    module = perceptron(sites)
    fitted, calls = TurnOverDropoutInfluence().fit(module, split(pixels(200), 50), TASK), Calls(module)
    _, scores = fitted.matrix(pixels(10, part=1))
    assert calls.stop() <= 12  # of 4,000: to find out how, and at most 50 masks at once, as they are read
    assert scores.shape == (10, 200)


def test_neither_the_size_of_batches_nor_their_order_changes_a_score():
    module, train, queries = perceptron(DEEP), pixels(30), pixels(5, part=1)
    _, expected = TurnOverDropoutInfluence().fit(module, [train], TASK).matrix(queries)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    mixed = split(TASK.take(train, order), 7)
    fitted = TurnOverDropoutInfluence().fit(module, mixed, TASK)
    ids, scores = fitted.matrix(queries)
    torch.testing.assert_close(scores, expected[:, ids], rtol=0, atol=1e-12)
    ids, own = fitted.self_influence()
    torch.testing.assert_close(own, own_by_hand(module, TASK, train)[ids], rtol=0, atol=1e-12)
    alone = torch.cat([fitted.matrix(query)[1] for query in split(queries, 1)])
    torch.testing.assert_close(alone, scores, rtol=0, atol=1e-12)


def test_a_head_that_is_read_twice_or_in_two_ways_is_still_exact():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.body, self.head = nn.Linear(64, 12), nn.Linear(12, 10)

        def forward(self, x):
            hidden = self.body(x).relu()
            return self.head(hidden) + self.head(hidden * hidden)

    module, queries = Masked(Twice(), ["input of net.head"]).double().eval(), pixels(3, part=1)
    _, scores = TurnOverDropoutInfluence().fit(module, [pixels(12)], TASK).matrix(queries)
    torch.testing.assert_close(scores, by_hand(module, TASK, range(12), queries), rtol=0, atol=1e-10)
