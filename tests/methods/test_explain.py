"""Explanations in one line."""

import pytest
import torch
from tiny import Bag, bag_task, batch_of, classifier, tokenizer_for, wordpiece
from torch import nn

import lightning_interpret
from lightning_interpret import GradientTimesInput, IntegratedGradients, explain
from lightning_interpret.tasks import find_task
from lightning_interpret.tasks.encode import encode, max_tokens

MODEL, TOKENIZER = classifier("bert"), wordpiece()
MEAN = IntegratedGradients(baseline="training_mean")


def test_one_text():
    record = explain(MODEL, TOKENIZER, "a dull film")
    assert len(record) == 1
    assert record[0].tokens == ("[CLS]", "a", "dull", "film", "[SEP]")
    assert record.method == "integrated_gradients"
    assert record.converged == (True,)
    assert explain is lightning_interpret.explain


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_order_is_kept_over_several_batches(batch_size):
    texts = ["a dull film", "good", "the player was not bad and he is unaffable", "a film", "very good", "bad film"]
    record = explain(MODEL, TOKENIZER, texts, batch_size=batch_size)
    assert len(record) == 6
    for row, text in zip(record, texts, strict=True):
        alone = explain(MODEL, TOKENIZER, text)[0]
        assert row.tokens == alone.tokens
        assert row.words == alone.words
        assert row.offsets == alone.offsets
        assert row.scores == pytest.approx(alone.scores, abs=1e-6)
        assert row.target == pytest.approx(alone.target, abs=1e-6)


def test_a_text_that_is_cut_has_a_note():
    record = explain(MODEL, TOKENIZER, ["a dull film", "very " * 60])
    assert record.notes == ((), ("cut to 40 of 62 tokens: the model takes no more",))
    assert len(record[1].tokens) == 40
    assert "cut to 40 of 62 tokens" in str(record[1])


@pytest.mark.parametrize("texts", [[], ()])
def test_no_text_is_refused(texts):
    with pytest.raises(ValueError, match=r"`texts` is empty: give a text or a list of them"):
        explain(MODEL, TOKENIZER, texts)


def test_options_reach_the_method():
    method = GradientTimesInput(baseline="mask")
    record = explain(
        MODEL, TOKENIZER, "a dull film", method=method, which="LABEL_2-LABEL_0", output="prob", layer="bert.encoder"
    )
    assert record.baseline == "mask"
    assert record.target_name == ("LABEL_2-LABEL_0",)
    assert (record.output, record.layer) == ("prob", "bert.encoder")
    assert explain(MODEL, TOKENIZER, "a dull film", method="gradient").method == "gradient"
    with pytest.raises(ValueError, match=r"`method='ig'` does not exist"):
        explain(MODEL, TOKENIZER, "a dull film", method="ig")


def test_a_model_of_ones_own():
    model, task = Bag(), bag_task()
    record = explain(model, task.tokenizer, ["a dull film", "good"], task=task, method=IntegratedGradients(steps=4))
    expected = IntegratedGradients(steps=4)(model, batch_of(task.tokenizer, ["a dull film", "good"]), task)
    torch.testing.assert_close(record.scores, expected.scores.double(), rtol=0, atol=1e-7)


def test_the_model_stays_as_it_is():
    model = classifier("bert").train()
    explain(model, TOKENIZER, "a dull film")
    assert model.training
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())


def test_the_tokenizer_stays_as_it_is():
    tokenizer = wordpiece()
    before = tokenizer("very " * 60)["input_ids"]
    explain(MODEL, tokenizer, "very " * 60)
    assert tokenizer("very " * 60)["input_ids"] == before


# Encoding


@pytest.mark.parametrize(
    ("name", "tokens"), [("bert", 40), ("roberta", 38), ("distilbert", 40), ("gpt2", 40), ("bart", 40), ("t5", None)]
)
def test_how_many_tokens_a_model_takes(name, tokens):
    model, tokenizer = classifier(name), tokenizer_for(name)
    assert max_tokens(tokenizer, model) == tokens
    if tokens is not None:
        full = encode(tokenizer, ["very " * 60], max_length=tokens)
        model(input_ids=full["input_ids"], attention_mask=full["attention_mask"])
    tokenizer.model_max_length = 20
    assert max_tokens(tokenizer, model) == 20
    assert max_tokens(tokenizer, None) == 20


@pytest.mark.parametrize("side", ["right", "left"])
def test_offsets_are_where_the_tokens_stand_in_the_text(side):
    texts = ["the player was bad", "a dull film , very very dull"]
    batch = encode(wordpiece(padding_side=side), texts)
    for row, text in enumerate(texts):
        for token, (start, end), real in zip(
            TOKENIZER.convert_ids_to_tokens(batch["input_ids"][row]),
            batch["offset_mapping"][row].tolist(),
            batch["attention_mask"][row].tolist(),
            strict=True,
        ):
            special = token in TOKENIZER.all_special_tokens and token != "[UNK]"
            expected = "" if special else text[start:end] if token == "[UNK]" else token.removeprefix("##")
            assert text[start:end] == expected
            assert real or (start, end) == (0, 0)


def test_labels_and_ids_are_in_the_batch():
    batch = encode(TOKENIZER, ["a", "a film"], labels=[2, 0], example_ids=[10, 11])
    assert batch["labels"].tolist() == [2, 0]
    assert batch["example_id"].tolist() == [10, 11]
    assert batch["note"] == [None, None]


def test_a_tokenizer_that_cannot_pad_takes_texts_of_one_length():
    tokenizer = wordpiece(pad_token=None)
    assert encode(tokenizer, ["a film", "the film"])["input_ids"].shape == (2, 4)
    with pytest.raises(ValueError, match="no padding token, so texts of several lengths, or of none, make no batch"):
        encode(tokenizer, ["a film", "film"])


def test_a_model_without_parameters_is_explained():
    """Embeddings that are a buffer: nothing says the device but the batch."""

    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.randn(25, 4, generator=torch.Generator().manual_seed(0)))
            self.embedding = Lookup(self.table)

        def forward(self, ids, mask):
            return torch.tanh(self.embedding(ids) * mask[..., None]).sum(dim=1)

    class Lookup(nn.Module):
        def __init__(self, table):
            super().__init__()
            self.register_buffer("table", table)

        def forward(self, ids):
            return self.table[ids]

    task = type(bag_task())(wordpiece())
    assert explain(Fixed(), task.tokenizer, "a dull film", task=task).converged == (True,)


def test_references_are_texts_for_baselines_that_are_drawn():
    references = ["a great film", "dull and bad ."]
    record = explain(MODEL, TOKENIZER, ["a dull film", "good"], method=MEAN, references=references, batch_size=1)
    task = find_task(MODEL, tokenizer=TOKENIZER).with_references(encode(TOKENIZER, references))
    for row, text in zip(record, ["a dull film", "good"], strict=True):
        assert row.scores == pytest.approx(MEAN(MODEL, encode(TOKENIZER, [text]), task)[0].scores, abs=1e-6)
    assert explain(MODEL, TOKENIZER, "good", method="expected_gradients", references=references).baseline_spread[0] > 0


def test_references_of_no_use_are_refused_and_so_is_none_where_they_are_needed():
    with pytest.raises(ValueError, match="`references` are given, but gradient with no baseline draws from none"):
        explain(MODEL, TOKENIZER, "good", method="gradient", references=["a film"])
    with pytest.raises(ValueError, match="`references` is empty"):
        explain(MODEL, TOKENIZER, "good", method=MEAN, references=[])
    with pytest.raises(ValueError, match=r"there are none: .*`explain\(\.\.\., references=\[texts\]\)`"):
        explain(MODEL, TOKENIZER, "good", method=MEAN)
