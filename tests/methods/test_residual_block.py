"""Golden case G6: a layer that something passes by is no cut of the graph, and its target is another one."""

import pytest
import torch
from tiny import Bag, BagTask, batch_of, wordpiece
from torch import nn

from lightning_interpret import DeepLift, GradientTimesInput, IntegratedGradients


class Residual(nn.Module):
    """h ↦ h + relu(Ah + b), with a name for each step."""

    def __init__(self):
        super().__init__()
        self.linear, self.relu, self.sum = nn.Linear(6, 6), nn.ReLU(), nn.Identity()

    def forward(self, hidden):
        return self.sum(hidden + self.relu(self.linear(hidden)))


@pytest.fixture
def case():
    model, tokenizer = Bag(Residual()).double(), wordpiece()
    return model, batch_of(tokenizer), BagTask(tokenizer, ["a", "b", "c"])


METHOD = IntegratedGradients(tolerance=1e-6, max_steps=1024)


def by_hand(model, batch, *, relu_at_baseline, skip_at_baseline):
    """The logits with the two branches of the block computed at x or at x', without any hook."""
    ids, mask = batch["input_ids"], batch["attention_mask"].unsqueeze(-1).double()
    absent = ids.where((ids <= 3) | (ids == 4), 0)  # PAD at the content
    block = model.middle
    with torch.no_grad():
        x, base = model.embedding(ids), model.embedding(absent)
        relu = block.relu(block.linear(base if relu_at_baseline else x))
        hidden = (base if skip_at_baseline else x) + relu
        pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        return model.head(torch.tanh(model.hidden(pooled)))


def picked(logits, record):
    index = torch.tensor([["a", "b", "c"].index(name) for name in record.target_name])
    return logits.gather(1, index[:, None])[:, 0]


@pytest.mark.parametrize(
    ("layer", "cut", "tolerance"),  # from the embeddings on, the path has a kink for each of the 90 units of the relu
    [("middle.relu", False, 1e-9), ("middle.sum", True, 1e-9), ("embedding", True, 1e-3)],
)
def test_g6_target_follows_from_the_layer(case, layer, cut, tolerance):
    model, batch, task = case
    record = IntegratedGradients(tolerance=tolerance, max_steps=1024)(model, batch, task, layer=layer)
    assert record.cut is cut
    assert all(record.converged)
    at_x = picked(by_hand(model, batch, relu_at_baseline=False, skip_at_baseline=False), record)
    at_baseline = picked(by_hand(model, batch, relu_at_baseline=True, skip_at_baseline=True), record)
    replaced = picked(by_hand(model, batch, relu_at_baseline=True, skip_at_baseline=cut), record)
    torch.testing.assert_close(record.target, at_x)
    torch.testing.assert_close(record.baseline_target, replaced)
    torch.testing.assert_close(record.scores.sum(dim=1), at_x - replaced, rtol=0, atol=tolerance)
    gap = (record.baseline_target - at_baseline).abs()
    assert bool((gap <= 1e-12).all() if cut else (gap > 1e-2).all())


def test_g6_a_list_of_layers_gives_a_record_each(case):
    model, batch, task = case
    records = METHOD(model, batch, task, layer=["middle.relu", "middle.sum", "embedding"])
    assert list(records) == ["middle.relu", "middle.sum", "embedding"]
    assert [record.layer for record in records.values()] == list(records)
    for name, record in records.items():
        assert torch.equal(record.scores, METHOD(model, batch, task, layer=name).scores)


def test_g6_first_order(case):
    """The embeddings enter twice, and the first order misses what the tanh does; its error says by how much."""
    model, batch, task = case
    record = GradientTimesInput(baseline="pad")(model, batch, task, layer="middle.relu")
    expected = record.scores.sum(dim=1) - (record.target - record.baseline_target)
    assert record.cut is False
    torch.testing.assert_close(record.error, expected)
    assert float(record.error.abs().max()) > 1e-3


@pytest.mark.parametrize(("layer", "cut"), [("middle.relu", False), ("middle.sum", True), ("embedding", True)])
def test_g6_deep_lift_meets_the_target_of_each_layer(case, layer, cut):
    model, batch, task = case
    record = DeepLift()(model, batch, task, layer=layer)
    replaced = picked(by_hand(model, batch, relu_at_baseline=True, skip_at_baseline=cut), record)
    assert record.cut is cut
    torch.testing.assert_close(record.baseline_target, replaced)
    torch.testing.assert_close(record.scores.sum(dim=1), record.target - replaced, rtol=0, atol=1e-12)


def test_a_layer_after_the_tokens_has_features_for_units(case):
    model, batch, task = case
    record = METHOD(model, batch, task, layer="hidden")
    assert record.units.kind == "feature"
    assert record.scores.shape == (2, 6)
    assert record[0].tokens == ("0", "1", "2", "3", "4", "5")
    assert record.cut is True
    assert all(record.converged)
    torch.testing.assert_close(record.scores.sum(dim=1), record.target - record.baseline_target, rtol=0, atol=1e-6)


class Channels(nn.Module):
    """A convolution over the text: its output has the channels first and fewer places than the text."""

    def __init__(self, channels):
        super().__init__()
        self.convolution, self.back = nn.Conv1d(6, channels, 3), nn.Linear(channels, 6)

    def forward(self, hidden):
        found = torch.tanh(self.convolution(hidden.transpose(1, 2))).amax(dim=2)
        return self.back(found)[:, None].expand(hidden.shape)


def test_a_layer_of_another_shape_has_features_for_units():
    torch.manual_seed(0)
    model, tokenizer = Bag(Channels(4)).double(), wordpiece()
    batch = batch_of(tokenizer, ["the player was great .", "a dull film"])
    assert batch["input_ids"].shape == (2, 8)
    record = METHOD(model, batch, BagTask(tokenizer), layer="middle.convolution")
    assert record.units.kind == "feature"
    assert all(record.converged)
    torch.testing.assert_close(record.scores.sum(dim=1), record.target - record.baseline_target, rtol=0, atol=1e-6)


def test_a_vector_as_long_as_the_text_is_no_text():
    """The output of ``hidden`` has 6 entries; so has this text, with its padding."""
    model, tokenizer = Bag().double(), wordpiece()
    batch = batch_of(tokenizer, ["a dull film .", "film"])
    assert batch["input_ids"].shape == (2, 6)
    record = METHOD(model, batch, BagTask(tokenizer), layer="hidden")
    assert record.units.kind == "feature"
    torch.testing.assert_close(record.scores.sum(dim=1), record.target - record.baseline_target, rtol=0, atol=1e-6)
