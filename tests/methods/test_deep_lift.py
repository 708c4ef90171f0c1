"""DeepLIFT of texts: the sum is exact on every architecture, rows stand alone, and the record says what it is."""

import pytest
import torch
from tiny import CLASSIFIERS, LONG, SHORT, TEXTS, Bag, BagTask, bag_task, batch_of, classifier, tokenizer_for, wordpiece
from tiny_images import MODELS, images_of, model_of
from torch import nn
from transformers import LlamaConfig, LlamaForSequenceClassification

from lightning_interpret import DeepLift, IntegratedGradients
from lightning_interpret.functional.rescale import RescaleError
from lightning_interpret.tasks import find_task

#: These take norms or a softmax in single precision whatever their weights are.
IN_SINGLE_PRECISION = {"llama": 1e-6, "t5": 1e-6, "longformer": 1e-6}


def case_of(name, side="right"):
    tokenizer = tokenizer_for(name, padding_side=side)
    model = classifier(name, dtype=torch.float64)
    return model, batch_of(tokenizer), find_task(model, tokenizer=tokenizer)


def assert_exact(record, within=1e-9):
    scale = record.scores.abs().sum(dim=1)
    assert bool((record.error.abs() <= within * scale).all())
    torch.testing.assert_close(record.error, record.scores.sum(1) - record.attribution_target, rtol=0, atol=1e-12)
    torch.testing.assert_close(record.attribution_target, record.target - record.baseline_target)
    assert float(record.attribution_target.abs().max()) > 1e-4


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_sum_is_exact(name):
    model, batch, task = case_of(name)
    record = DeepLift()(model, batch, task, output="prob" if name in ("bert", "bart") else "logit")
    assert_exact(record, IN_SINGLE_PRECISION.get(name, 1e-9))
    assert record.scores[record.units.padding | record.units.special].abs().sum() == 0
    assert record.cut


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_sum_is_exact_with_grouped_queries(attention):
    """And of small weights, from x' = 0 (the embedding of its padding), where its norms are at their steepest."""
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24, "num_labels": 3}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    torch.manual_seed(0)
    config = LlamaConfig(**sizes, **heads, pad_token_id=0, attn_implementation=attention)
    model, tokenizer = LlamaForSequenceClassification(config).double(), wordpiece()
    assert_exact(DeepLift()(model, batch_of(tokenizer), find_task(model, tokenizer=tokenizer)), 1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_the_sum_is_exact_of_images(name):
    model, batch = model_of(name), images_of(boxes=name in ("yolos", "detr"))
    assert_exact(DeepLift(baseline="blur")(model, batch, find_task(model)))


@pytest.mark.parametrize("baseline", ["mask", "zero", "mean", "text: a film"])
def test_the_sum_is_exact_whatever_the_baseline(baseline):
    assert_exact(DeepLift(baseline=baseline)(*case_of("bert")))


@pytest.mark.parametrize(("name", "side"), [("bert", "right"), ("gpt2", "left"), ("gpt2", "right"), ("xlnet", "left")])
def test_padding_exact_batching(name, side):
    model, batch, task = case_of(name, side)
    together = DeepLift()(model, batch, task)
    for row, text in zip(together, TEXTS, strict=True):
        alone = DeepLift()(model, batch_of(task.tokenizer, [text]), task)[0]
        assert row.tokens == alone.tokens
        assert row.scores == pytest.approx(alone.scores, abs=1e-12)
    single = DeepLift(internal_batch_size=1)(model, batch_of(task.tokenizer, [LONG, SHORT]), task)
    torch.testing.assert_close(single.scores, together.scores, rtol=0, atol=1e-12)


@pytest.mark.parametrize("layer", ["bert.encoder.layer.0", "bert.encoder.layer.0.attention.self.query", "bert.pooler"])
def test_any_layer(layer):
    model, batch, task = case_of("bert")
    record = DeepLift()(model, batch, task, layer=layer, which="predicted")
    assert_exact(record)
    assert record.cut is (not layer.endswith("query"))


def test_contrasts_and_every_class_have_exact_sums():
    model, batch, task = Bag().double(), batch_of(wordpiece()), bag_task()
    assert_exact(DeepLift()(model, batch, task, which="bad-good"))
    assert_exact(DeepLift()(model, batch, task, output="margin"))


def test_a_record_says_what_was_spent():
    model, batch, task = case_of("bert")
    record = DeepLift()(model, batch, task)
    assert record.method == "deep_lift"
    assert record.baseline == "pad"
    assert record.gradients.tolist() == record.steps.tolist() == [1, 1]
    first = IntegratedGradients(tolerance=None, steps=1)(model, batch, task)
    assert (record.forwards - first.forwards).min() <= 1
    assert "in one step" in record.reasons["converged"]


def test_a_model_that_sorts_is_refused_by_name():
    class Sorts(nn.Module):
        def forward(self, hidden):
            return hidden.sort(dim=-1).values

    with pytest.raises(RescaleError, match=r"no rule for `sort`.*IntegratedGradients"):
        DeepLift()(Bag(Sorts()), batch_of(wordpiece()), BagTask(wordpiece()))


def test_half_precision_is_explained_too():
    model, batch, task = Bag().to(torch.bfloat16), batch_of(wordpiece()), bag_task()
    record = DeepLift()(model, batch, task)
    whole = DeepLift()(Bag(), batch, task)
    torch.testing.assert_close(record.scores, whole.scores, rtol=0.1, atol=0.03)
