"""Turn-over dropout read out: held to two forwards a pair, one after the other, and to what no mask has learnt."""

import pytest
import torch
from digits import DigitsTask, digits, split
from lightning.pytorch import LightningModule
from purity import assert_same, state_of
from tiny import batch_of, classifier, tokenizer_for
from torch import nn

from lightning_interpret import InfluenceRow, SequenceClassification, TurnOverDropoutInfluence
from lightning_interpret.data import TrainingExamples
from lightning_interpret.layers import TurnOverDropout
from lightning_interpret.methods.influence.masked_forwards import MaskedForwards

TASK = DigitsTask()
TEXTS = ["the player was great .", "a dull film", "he is not a dull film was he", "bad movie .", "very good"]


class Masked(nn.Module):
    """A network whose layers are masked as the mixin does it."""

    def __init__(self, net, sites, rate=0.5):
        super().__init__()
        self.net = net
        self.turn_over_dropout = TurnOverDropout(rate, seed=3)
        self.turn_over_dropout.attach(self, sites)

    def forward(self, *args, **kwargs):
        return self.net(*args, **kwargs)


def perceptron(sites, rate=0.5, dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 20), nn.ReLU(), nn.Linear(20, 10))
    return Masked(net, sites, rate).to(dtype).eval()


def by_hand(module, task, train_ids, query):
    """Return the scores of training examples on a batch of one query: two forwards of it for each of them."""
    found, dropout = [], module.turn_over_dropout
    for i in train_ids:
        with torch.no_grad():
            with dropout.unseen(torch.tensor([i])):
                without = task.losses(module, query)
            with dropout.seen(torch.tensor([i])):
                found.append(without - task.losses(module, query))
    return torch.stack(found, dim=1)


def pixels(dtype, count=4):
    return {name: values[:count] for name, values in digits(dtype)[1].items()}


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
@pytest.mark.parametrize("sites", [["input of net.4"], ["net.0", "net.2"], ["net.1", "input of net.4"]])
@pytest.mark.parametrize("rate", [0.5, 0.3])
def test_scores_are_those_of_two_forwards_a_pair(sites, rate, dtype, limit):
    module, train = perceptron(sites, rate, dtype), {name: values[:30] for name, values in digits(dtype)[0].items()}
    before = state_of(module)
    fitted = TurnOverDropoutInfluence().fit(module, split(train, 11), TASK)
    queries = pixels(dtype)
    ids, scores = fitted.matrix(queries)
    own_ids, own = fitted.self_influence()
    assert_same(before, state_of(module))
    for row, query in zip(scores, split(queries, 1), strict=True):
        expected = by_hand(module, TASK, ids.tolist(), query)[0]
        torch.testing.assert_close(row, expected, rtol=0, atol=limit)
    for i, score, example in zip(own_ids.tolist(), own, split(train, 1), strict=True):
        torch.testing.assert_close(score, by_hand(module, TASK, [i], example)[0, 0], rtol=0, atol=limit)
    assert own_ids.tolist() == ids.tolist() == list(range(30))
