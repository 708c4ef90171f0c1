"""What is read of a batch: the attention of what the head reads, gradients beside it, and what a deletion does."""

import pytest
import torch
from attention_toys import Attentive, attentive_task
from tiny import TEXTS, Bag, MeanPooled, MeanPooledTask, bag_task, batch_of, classifier, tokenizer_for
from tiny_images import images_of, model_of

from lightning_interpret import ImageClassification, SequenceClassification
from lightning_interpret.functional.attention.debate import adversarial
from lightning_interpret.functional.attention.scope import AttentionError
from lightning_interpret.trust.attention_reading import each_batch, read_attention

MODELS = {
    "pooled": lambda: (Attentive(), attentive_task()),
    "bert": lambda: (classifier("bert"), SequenceClassification(tokenizer_for("bert"))),
    "gpt2": lambda: (classifier("gpt2"), SequenceClassification(tokenizer_for("gpt2"))),
    "mean": lambda: (MeanPooled("bert"), MeanPooledTask(tokenizer_for("bert"))),
}
READ = {  # of a text of some tokens
    "pooled": lambda length: [0],
    "bert": lambda length: [0],
    "gpt2": lambda length: [length - 1],
    "mean": lambda length: list(range(length)),
}


@pytest.mark.parametrize("name", MODELS)
def test_its_own_attention_put_back_is_the_model(name):
    model, task = MODELS[name]()
    batch = batch_of(task.tokenizer)
    with read_attention(model, batch, task) as reading:
        with torch.no_grad():
            expected = task.logits(model, batch).softmax(dim=1)
        rows = torch.tensor([1, 0, 1])
        assert torch.allclose(reading.respond(reading.weights[rows], rows), expected[rows], atol=1e-6)
        assert torch.allclose(reading.attention.sum(dim=1), torch.ones(2), atol=1e-5)
        assert torch.allclose(reading.share.sum(dim=1), torch.ones(2))
        uniform = torch.full_like(reading.weights, 1 / reading.weights.shape[2])
        assert (reading.respond(uniform, torch.arange(2)) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_the_positions_are_those_that_the_head_reads(name):
    model, task = MODELS[name]()
    batch = batch_of(task.tokenizer)
    heads = 1 if name == "pooled" else 2
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    with read_attention(model, batch, task) as reading:
        for text, length in enumerate(lengths):
            read = reading.positions[text][reading.share[text][: reading.positions.shape[1]] > 0].tolist()
            assert read == READ[name](length)
        assert reading.weights.shape == (2, heads * reading.positions.shape[1], batch["input_ids"].shape[1])


@pytest.mark.parametrize("name", MODELS)
def test_a_text_is_read_alone_as_it_is_beside_a_longer_one(name):
    model, task = MODELS[name]()
    found = []
    for texts in (TEXTS, TEXTS[1:]):
        with read_attention(model, batch_of(task.tokenizer, texts), task) as reading:
            found.append([reading.attention[-1], reading.gradients()[-1], reading.without_each()[-1]])
    for together, alone in zip(*found, strict=True):
        assert torch.allclose(together[: len(alone)], alone, atol=1e-5)
        assert together[len(alone) :].abs().max() < 1e-7
        assert alone.abs().max() > 0


def test_gradients_are_those_with_the_attention_held_still():
    """By hand, a class and a text at a time, with the weights as constants."""
    model, task = Attentive().double(), attentive_task()
    batch = batch_of(task.tokenizer)
    with read_attention(model, batch, task) as reading:
        found, weights = reading.gradients(), reading.attention
    for text, length in enumerate(batch["attention_mask"].sum(dim=1).tolist()):
        embedded = model.embedding(batch["input_ids"][text, :length]).detach().requires_grad_()
        hidden = torch.tanh(model.mix(embedded + embedded.sum(dim=0) / 10))
        answer = (model.head(weights[text, :length] @ hidden) * 3).softmax(dim=0)
        expected = torch.zeros(length, dtype=torch.float64)
        for each in answer:
            (gradient,) = torch.autograd.grad(each, embedded, retain_graph=True)
            expected += (gradient * embedded).sum(dim=1).detach().abs()
        assert torch.allclose(found[text, :length], expected, atol=1e-12)


def test_without_each_is_a_forward_of_each_shorter_text():
    model, task = Attentive().double(), attentive_task()
    batch = batch_of(task.tokenizer)
    with read_attention(model, batch, task) as reading:
        found, counts = reading.without_each(), reading.counts
        reading.chunk = 3
        assert torch.allclose(reading.without_each(), found)
    for text, length in enumerate(batch["attention_mask"].sum(dim=1).tolist()):
        ids = batch["input_ids"][text, :length].tolist()
        with torch.no_grad():
            whole = model(torch.tensor([ids]), torch.ones(1, length)).softmax(dim=1)
            for place in range(length):
                rest = [*ids[:place], *ids[place + 1 :]]
                answer = model(torch.tensor([rest]), torch.ones(1, length - 1)).softmax(dim=1)
                lost = float((answer - whole).abs().sum() / 2) if counts[text, place] else 0.0
                assert float(found[text, place]) == pytest.approx(lost, abs=1e-12)
    assert not counts[:, 0].any()  # the special token


def test_a_model_without_attention_is_refused_in_words():
    task = bag_task()
    with (
        pytest.raises(AttentionError, match="Bag computes no attention"),
        read_attention(Bag(), batch_of(task.tokenizer), task),
    ):
        pass


def test_attention_that_does_not_reach_the_logits_is_refused_in_words():
    model, task = Attentive(), attentive_task()
    torch.nn.init.zeros_(model.head.weight)
    with (
        pytest.raises(AttentionError, match=r"no attention from what its head reads.*Give `inside=`"),
        read_attention(model, batch_of(task.tokenizer), task),
    ):
        pass


def test_a_frozen_encoder_without_gradients_is_refused_in_words():
    class Frozen(Attentive):
        def forward(self, ids, mask):
            with torch.no_grad():
                return super().forward(ids, mask)

    task = attentive_task()
    refused = pytest.raises(AttentionError, match="`no_grad`")
    with refused, read_attention(Frozen(), batch_of(task.tokenizer), task):
        pass


def test_answers_that_are_no_numbers_are_refused_by_the_texts():
    model, task = Attentive(), attentive_task()
    batch = batch_of(task.tokenizer)
    model.embedding.weight.data[batch["input_ids"][1, 1]] = torch.nan
    assert int(batch["input_ids"][1, 1]) not in batch["input_ids"][0]
    refused = pytest.raises(ValueError, match=r"no numbers \(NaN\) to texts \[1\] of a batch of 2")
    with refused, read_attention(model, batch, task):
        pass


def test_a_model_in_half_precision_has_an_adversary_as_in_single():
    task, found = SequenceClassification(tokenizer_for("bert")), []
    for kind in (torch.float16, torch.float32):
        model = classifier("bert", dtype=torch.float16).to(kind)
        with read_attention(model, batch_of(task.tokenizer), task) as reading:
            drawn = torch.Generator().manual_seed(0)
            found.append(adversarial(reading.weights, reading.respond, steps=20, generator=drawn).divergence)
    assert torch.allclose(*found, atol=0.005)


def test_an_image_is_refused_in_words():
    refused = pytest.raises(ValueError, match=r"over the tokens of a text.*units of kind 'location'")
    with refused, read_attention(model_of("vit"), images_of(), ImageClassification()):
        pass


def test_one_batch_and_a_list_of_them_are_told_apart():
    batch = batch_of(attentive_task().tokenizer)
    assert [each is batch for each in each_batch(batch)] == [True]
    assert len(list(each_batch([batch, batch]))) == 2
    assert len(list(each_batch((batch["input_ids"], batch["attention_mask"])))) == 1
