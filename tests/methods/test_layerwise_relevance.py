"""LayerwiseRelevance: records that say where F(x) went, batches that are their examples one by one, what is refused."""

import pytest
import torch
from tiny import LONG, SHORT, TEXTS, Bag, MeanPooled, MeanPooledTask, bag_task, batch_of, classifier, tokenizer_for
from torch import nn

from lightning_interpret import GradientTimesInput, LayerwiseRelevance
from lightning_interpret.functional.relevance import RelevanceError
from lightning_interpret.tasks import find_task

#: The norms of Llama compute in single precision whatever the weights are.
ROUNDING = {"llama": 1e-5}
EACH = [LayerwiseRelevance(), LayerwiseRelevance(rule="cp_lrp"), LayerwiseRelevance(gamma=0.1, epsilon=0.01)]


def assert_accounted(record, within=1e-12):
    """T = F(x) = Σ scores + Σ absorbed, and the error is what was absorbed."""
    absorbed = torch.tensor([sum(row.values()) for row in record.absorbed], dtype=torch.float64)
    assert all("not told apart by row" not in row for row in record.absorbed)
    torch.testing.assert_close(record.attribution_target, record.target, rtol=0, atol=0)
    torch.testing.assert_close(record.scores.double().sum(dim=1) + absorbed, record.target, rtol=0, atol=within)
    torch.testing.assert_close(record.error, -absorbed, rtol=0, atol=within)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "gpt2", "llama"])
def test_a_batch_is_its_examples_one_by_one(name, side):
    if side == "left" and name != "llama":
        return  # the others read the first position, or count from it
    tokenizer = tokenizer_for(name, padding_side=side)
    model = classifier(name, dtype=torch.float64)
    task, within = find_task(model, tokenizer=tokenizer), ROUNDING.get(name, 1e-12)
    for method in EACH:
        together = method(model, batch_of(tokenizer), task)
        assert_accounted(together, within)
        padding = together.units.padding
        assert int(padding.sum()) >= 4
        assert together.scores[padding].tolist() == [0] * int(padding.sum())
        assert float(together.scores.abs().max()) > 1e-3
        for row, text in zip(together, TEXTS, strict=True):
            alone = method(model, batch_of(tokenizer, [text]), task)
            torch.testing.assert_close(row.scores, alone[0].scores, rtol=0, atol=within)
            for kind, amount in alone[0].absorbed.items():
                assert row.absorbed[kind] == pytest.approx(amount, abs=within)
        parts = type(method)(**{**vars(method), "internal_batch_size": 1})(model, batch_of(tokenizer), task)
        torch.testing.assert_close(parts.scores, together.scores, rtol=0, atol=within)
        assert [set(row) for row in parts.absorbed] == [set(row) for row in together.absorbed]


def test_the_side_of_the_padding_does_not_matter():
    model, tokenizer = MeanPooled("bert", torch.float64), tokenizer_for("bert")
    task = MeanPooledTask(tokenizer)
    right = LayerwiseRelevance()(model, batch_of(tokenizer), task)
    tokenizer.padding_side = "left"
    left = LayerwiseRelevance()(model, batch_of(tokenizer), task)
    for row, other in zip(left, right, strict=True):
        torch.testing.assert_close(row.scores, other.scores, rtol=0, atol=1e-12)


def test_a_record_says_its_baseline_its_target_and_what_was_absorbed():
    model, tokenizer = classifier("bert"), tokenizer_for("bert")
    record = LayerwiseRelevance()(model.train(), batch_of(tokenizer), find_task(model, tokenizer=tokenizer))
    assert record.baseline == "no relevance (F = 0)"
    assert record.baseline_target.tolist() == [0, 0]
    assert record.gradients.tolist() == record.steps.tolist() == [1, 1]
    assert set(record.absorbed[0]) == {"bias", "constants", "softmax"}
    assert_accounted(record, 1e-5)
    assert "handed back once" in record.reasons["converged"]
    assert "absorbed: " in str(record[0])
    assert record[0].absorbed == record.absorbed[0]


@pytest.mark.parametrize("output", ["logit", "margin"])
def test_outputs_and_contrasts(output):
    model, task = Bag().double(), bag_task()
    record = LayerwiseRelevance(rule="epsilon")(model, batch_of(task.tokenizer), task, which="bad-good", output=output)
    assert_accounted(record)
    parts = [
        LayerwiseRelevance(rule="epsilon")(model, batch_of(task.tokenizer), task, which=name).scores
        for name in ("bad", "good")
    ]
    torch.testing.assert_close(record.scores, parts[0] - parts[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("output", ["log_prob", "prob"])
def test_probabilities_are_refused(output):
    model, task = Bag(), bag_task()
    with pytest.raises(ValueError, match=rf"`output='{output}'` is no sum of scores.*explain 'logit' or 'margin'"):
        LayerwiseRelevance()(model, batch_of(task.tokenizer), task, output=output)


def test_without_a_middle_it_is_gradient_times_input_with_secants():
    """One linear layer, tanh, one linear layer: the gradient with the secant of tanh in the place of its slope."""
    model, task = Bag().double(), bag_task()
    batch = batch_of(task.tokenizer, [SHORT])
    record = LayerwiseRelevance()(model, batch, task, which="good")
    embedded = model.embedding(batch["input_ids"])[0]
    hidden = model.hidden(embedded.mean(dim=0))
    slope = (model.head.weight[2] * hidden.tanh() / hidden) @ model.hidden.weight
    torch.testing.assert_close(record.scores[0], embedded @ slope / len(embedded), rtol=1e-10, atol=1e-12)
    plain = GradientTimesInput()(model, batch, task, which="good")
    assert float((record.scores - plain.scores).abs().max()) > 1e-3


def test_any_layer_and_several():
    model, tokenizer = classifier("bert", dtype=torch.float64), tokenizer_for("bert")
    task = find_task(model, tokenizer=tokenizer)
    layers = ["bert.embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1.output.dense", "bert.pooler"]
    records = LayerwiseRelevance()(model, batch_of(tokenizer), task, layer=layers)
    for name, record in records.items():
        assert record.layer == name
        assert_accounted(record)
    assert "constants" not in records["bert.embeddings"].absorbed[0]  # after the positions were added
    assert records["bert.pooler"].absorbed[0].keys() == {"bias"}


class Sequential(nn.Module):
    """PyTorch's own encoder, whose attention puts the tokens first inside."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)

    def forward(self, hidden):
        return self.layer(hidden)


def test_rows_that_cannot_be_told_apart_are_said_as_one():
    torch.manual_seed(0)
    model, task = Bag(Sequential()).double(), bag_task()
    nn.init.normal_(model.middle.layer.self_attn.in_proj_bias)
    record = LayerwiseRelevance()(model, batch_of(task.tokenizer), task)
    for row, error in zip(record.absorbed, record.error.tolist(), strict=True):
        assert row == {"not told apart by row": pytest.approx(-error)}
    alone = LayerwiseRelevance()(model, batch_of(task.tokenizer, [LONG]), task)
    assert_accounted(alone)
    assert set(alone.absorbed[0]) == {"bias", "softmax"}


def test_an_lstm_with_shared_biases_hands_everything_on():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(6, 3, bidirectional=True, batch_first=True)

        def forward(self, hidden):
            return self.lstm(hidden)[0]

    model, task = Bag(Last()).double(), bag_task()
    batch = batch_of(task.tokenizer, [LONG])
    share = LayerwiseRelevance(rule="epsilon", bias="share")(model, batch, task)
    assert float(share.relative_error.max()) < 1e-9
    keep = LayerwiseRelevance(rule="epsilon")(model, batch, task)
    assert float(keep.relative_error.max()) > 1e-2
    assert_accounted(keep)


def test_an_operation_without_a_rule_is_refused():
    class Exponential(nn.Module):
        def forward(self, hidden):
            return hidden.exp() + hidden.mean(dim=1, keepdim=True)

    model, task = Bag(Exponential()), bag_task()
    with pytest.raises(RelevanceError, match=r"`exp` \(called by Exponential `middle`\)"):
        LayerwiseRelevance()(model, batch_of(task.tokenizer), task)
    after = LayerwiseRelevance(rule="epsilon")(model.double(), batch_of(task.tokenizer), task, layer="hidden")
    assert_accounted(after)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "identity"}, r"`rule='identity'` does not exist\. .*There is: attn_lrp, cp_lrp"),
        ({"rule": "epsilon", "gamma": 0.1}, r"`gamma=0.1` has no meaning with rule='epsilon'"),
        ({"epsilon": -1e-6}, r"`epsilon=-1e-06` must be 0 or more"),
        ({"bias": "hide"}, r"`bias='hide'` does not exist"),
        ({"error_floor": 0}, r"`error_floor=0` must be positive"),
        ({"internal_batch_size": 0}, r"`internal_batch_size=0` must be a whole number"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LayerwiseRelevance(**options)
