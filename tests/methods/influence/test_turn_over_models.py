"""Turn-over dropout read out of models of every making: mapped over masks where they let themselves be, else not."""

import pytest
import torch
from convolution import Convolutional, ConvolutionalTask
from purity import assert_same, state_of
from tiny import batch_of, classifier, tokenizer_for
from torch import nn
from turn_over import TASK, Calls, Masked, by_hand, perceptron, pixels

from lightning_interpret import SequenceClassification, TurnOverDropoutInfluence
from lightning_interpret.functional.layers import feed_forward_ends, last_linear
from lightning_interpret.functional.masked import looped, mapped, repeated
from lightning_interpret.methods.influence.measures import LossOfPrediction

TEXTS = ["the player was great .", "a dull film", "he is not a dull film was he", "bad movie .", "very good"]
GOLD = [2, 1, 0, 0, 2]


class TextTask(SequenceClassification):
    def logits(self, module, batch):
        return super().logits(module.net, batch)


def text_model(name, where, dtype=torch.float64):
    """Return a tiny classifier with its sites, its task, and a batch of texts of unequal length."""
    net, tokenizer = classifier(name, dtype=dtype), tokenizer_for(name)
    ends, head = feed_forward_ends(net), last_linear(net)
    sites = {"head": [f"input of net.{head}"], "blocks": [f"net.{end}" for end in ends]}
    sites["all"] = [*sites["blocks"], *sites["head"]]
    task = TextTask(tokenizer, ["bad", "dull", "good"])
    return Masked(net, sites[where], 0.3).eval(), task, batch_of(tokenizer, TEXTS, labels=GOLD)


def training(task, batch, count):
    """Return a loader of examples, of which nothing but their ids is read."""
    rows = task.take(batch, torch.arange(count) % len(TEXTS))
    return [{**rows, "example_id": torch.arange(count)}]


@pytest.mark.parametrize(
    ("name", "where"),
    [*[(name, where) for name in ("bert", "gpt2") for where in ("head", "blocks", "all")], ("t5", "all")],
)
def test_texts_are_scored_as_by_two_forwards_a_pair(name, where):
    module, task, batch = text_model(name, where)
    before = state_of(module)
    fitted = TurnOverDropoutInfluence(shortlist="all").fit(module, training(task, batch, 20), task)
    calls = Calls(module.net)
    _, scores = fitted.matrix(batch)
    assert calls.stop() <= 10  # of 200
    assert_same(before, state_of(module), objects=True)
    torch.testing.assert_close(scores, by_hand(module, task, range(20), batch), rtol=0, atol=1e-10)
    assert float(scores.abs().max()) > 1e-3


def test_padding_changes_nothing():
    module, task, batch = text_model("bert", "all")
    fitted = TurnOverDropoutInfluence().fit(module, training(task, batch, 12), task)
    _, together = fitted.matrix(batch)
    alone = [
        fitted.matrix(batch_of(task.tokenizer, [text], labels=[y]))[1] for text, y in zip(TEXTS, GOLD, strict=True)
    ]
    torch.testing.assert_close(torch.cat(alone), together, rtol=0, atol=1e-10)


def test_in_single_precision_texts_are_scored_to_a_millionth():
    module, task, batch = text_model("bert", "all", torch.float32)
    _, scores = TurnOverDropoutInfluence().fit(module, training(task, batch, 12), task).matrix(batch)
    torch.testing.assert_close(scores, by_hand(module, task, range(12), batch), rtol=0, atol=1e-6)


class Unmapped(nn.Module):
    """Takes a branch by the numbers after the mask, for each example by itself, as ``vmap`` does not."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.last = nn.Linear(64, 16), nn.Linear(16, 12), nn.Linear(12, 10)

    def forward(self, x):
        hidden = self.second(self.first(x).relu()).relu()
        return self.last(torch.stack([row if float(row.detach().sum()) > 1 else -row for row in hidden]))


def test_a_model_that_cannot_be_mapped_runs_the_examples_again_in_one_batch():
    module, queries = Masked(Unmapped(), ["net.first"]).double().eval(), pixels(4, part=1)
    with pytest.raises(RuntimeError):
        mapped(lambda: TASK.losses(module, queries), module.turn_over_dropout.masked, {"net.first": torch.ones(2, 16)})
    fitted, calls = TurnOverDropoutInfluence().fit(module, [pixels(30)], TASK), Calls(module)
    _, scores = fitted.matrix(queries)
    assert calls.stop() <= 7
    torch.testing.assert_close(scores, by_hand(module, TASK, range(30), queries), rtol=0, atol=1e-10)


def test_what_is_measured_of_a_whole_batch_at_last_costs_a_forward_a_mask():
    module, queries = Masked(Unmapped(), ["net.first"]).double().eval(), pixels(4, part=1)

    def both(module, batch):
        return torch.stack([TASK.losses(module, batch).sum(), TASK.logits(module, batch).max()])

    _, scores = TurnOverDropoutInfluence().fit(module, [pixels(10)], TASK).matrix(queries, measure=both)
    expected = []
    for i in torch.arange(10)[:, None].expand(10, 4):
        with module.turn_over_dropout.unseen(i):
            without = both(module, queries)
        with module.turn_over_dropout.seen(i):
            expected.append((without - both(module, queries)).detach())
    torch.testing.assert_close(scores, torch.stack(expected, dim=1), rtol=0, atol=1e-10)


def test_pictures_are_scored_as_by_two_forwards_a_pair():
    module, task = Masked(Convolutional(), ["net.head.0", "input of net.head.2"]).double().eval(), ConvolutionalTask()
    pictures = torch.rand(6, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    batch = {"pixel_values": pictures, "labels": torch.arange(6) % 3, "example_id": torch.arange(6)}
    fitted, calls = TurnOverDropoutInfluence().fit(module, [batch], task), Calls(module.net.stages)
    _, scores = fitted.matrix(batch)
    assert calls.stop() <= 8
    torch.testing.assert_close(scores, by_hand(module, task, range(6), batch), rtol=0, atol=1e-10)


@pytest.mark.parametrize("sites", [["input of net.4"], ["net.0", "net.2"]])
def test_all_ways_are_what_one_forward_after_another_is(sites):
    module, queries = perceptron(sites), pixels(3, part=1)
    dropout = module.turn_over_dropout
    sizes = {"input of net.4": 20, "net.0": 24, "net.2": 20}
    factors = {site: dropout.factors(site, torch.arange(5), sizes[site]) for site in sites}

    def run(index=None):
        return TASK.losses(module, queries if index is None else TASK.take(queries, index))

    expected = looped(run, dropout.masked, factors)
    assert expected.shape == (5, 3)
    torch.testing.assert_close(mapped(run, dropout.masked, factors), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(repeated(run, dropout.masked, factors, 3), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("where", ["head", "blocks"])
def test_without_labels_it_is_the_loss_of_what_the_whole_network_predicts(where):
    module, task, batch = text_model("bert", where)
    loader = training(task, batch, 40)
    unlabelled = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        predicted = task.logits(module, batch).argmax(dim=1)
    fitted = TurnOverDropoutInfluence(shortlist="all").fit(module, loader, task)
    _, found = fitted.matrix(unlabelled, LossOfPrediction(task))
    _, expected = fitted.matrix(batch | {"labels": predicted})
    assert torch.allclose(found, expected, rtol=0, atol=1e-10)
