"""Turn-over dropout on digits with wrong labels: what the two parts of the network know, and which examples help."""

from functools import cache

import pytest
import torch
from digits import DigitsTask, digits, split
from torch import nn

from lightning_interpret import TurnOverDropoutInfluence
from lightning_interpret.functional.ranks import area_under_curve
from lightning_interpret.layers import TurnOverDropout

TASK = DigitsTask()


class Net(nn.Module):
    """Two hidden layers, both masked."""

    def __init__(self, width):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(64, width), nn.Linear(width, width), nn.Linear(width, 10)
        self.turn_over_dropout = TurnOverDropout()
        self.turn_over_dropout.attach(self, ["first", "second"])

    def forward(self, x):
        return self.last(self.second(self.first(x).relu()).relu())


def noisy(count=1000, seed=0):
    """Return training digits with a tenth of wrong labels, and which are wrong."""
    train = {name: values[:count].clone() for name, values in digits()[0].items()}
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(count, generator=generator) < 0.1
    moved = torch.randint(1, 10, (count,), generator=generator)
    train["labels"] = torch.where(wrong, (train["labels"] + moved) % 10, train["labels"])
    return train, wrong


def train(batch, width, epochs, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Net(width)
    optimizer, generator = torch.optim.Adam(net.parameters(), lr=1e-3), torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(batch["labels"]), generator=generator).split(50):
            net.turn_over_dropout.begin(batch["example_id"][rows])
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(batch["pixels"][rows]), batch["labels"][rows]).backward()
            optimizer.step()
    net.turn_over_dropout.begin(None)
    return net.eval()


@cache
def trained(width=256, epochs=30):
    return train(noisy()[0], width, epochs)


def test_what_was_not_learnt_is_not_known_and_wrong_labels_influence_themselves():
    batch, wrong = noisy()
    fitted = TurnOverDropoutInfluence().fit(trained(), split(batch, 250), TASK)
    own = fitted.self_influence()[1]
    scalars = {name: value for name, (value, _) in fitted.scalars().items()}
    assert scalars["seen_accuracy"] > 0.95
    assert scalars["unseen_accuracy"] < scalars["seen_accuracy"] - 0.2
    assert scalars["unseen_loss"] - scalars["seen_loss"] == pytest.approx(float(own.mean()), rel=1e-4)
    assert area_under_curve(own, wrong) > 0.93
    assert float((own > 0).float().mean()) > 0.85
    # the masks of other examples know nothing of it
    other = {**batch, "example_id": batch["example_id"] + 5000}
    control = TurnOverDropoutInfluence().fit(trained(), split(other, 250), TASK).self_influence()[1]
    assert 0.35 <= area_under_curve(control, wrong) <= 0.65


def test_examples_of_the_querys_class_help_and_those_of_others_harm():
    batch, wrong = noisy()
    fitted = TurnOverDropoutInfluence().fit(trained(), split(batch, 250), TASK)
    queries = {name: values[:100] for name, values in digits()[1].items()}
    scores = fitted.matrix(queries)[1][:, ~wrong]
    same = queries["labels"][:, None] == batch["labels"][~wrong]
    assert float(scores[same].mean()) > 0 > float(scores[~same].mean())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_case_8_two_layers_of_512(seed):
    batch, wrong = noisy(seed=seed)
    net = train(batch, 512, 10, seed)
    own = TurnOverDropoutInfluence().fit(net, split(batch, 250), TASK).self_influence()[1]
    assert area_under_curve(own, wrong) >= 0.95
    other = {**batch, "example_id": batch["example_id"] + 5000}
    control = TurnOverDropoutInfluence().fit(net, split(other, 250), TASK).self_influence()[1]
    assert 0.35 <= area_under_curve(control, wrong) <= 0.65


@pytest.mark.slow
def test_case_8_a_near_copy_of_a_query_with_a_wrong_label_harms_it_most():
    batch, _ = noisy()
    queries = {name: values[:20] for name, values in digits()[1].items()}
    generator = torch.Generator().manual_seed(0)
    batch["pixels"][:20] = queries["pixels"] + 0.02 * torch.randn(20, 64, generator=generator)
    batch["labels"][:20] = (queries["labels"] + torch.randint(1, 10, (20,), generator=generator)) % 10
    scores = TurnOverDropoutInfluence().fit(train(batch, 512, 60), split(batch, 250), TASK).matrix(queries)[1]
    ranks = (scores < scores[torch.arange(20), torch.arange(20), None]).sum(dim=1)
    assert float(ranks.float().median()) <= 10
