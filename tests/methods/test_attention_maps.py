"""Attention as records: maps, entropies and agreements are those of the weights, whatever the batch."""

import pytest
import torch
from purity import assert_same, state_of
from tiny import LONG, SHORT, batch_of, classifier, tokenizer_for
from torch.testing import assert_close

from lightning_interpret import AttentionWeights, SequenceClassification
from lightning_interpret.functional.attention import AttentionError
from lightning_interpret.functional.attention.measures import entropy, head_agreement
from lightning_interpret.methods.attention import attention_maps
from lightning_interpret.records.attention import MOST_TOKENS


def case(name="bert", texts=(LONG, SHORT), **options):
    tokenizer = tokenizer_for(name)
    return classifier(name), batch_of(tokenizer, texts, **options), SequenceClassification(tokenizer)


def test_maps_are_those_that_transformers_returns():
    model, batch, task = case(labels=[0, 2], example_ids=[3, 30])
    before = state_of(model)
    found = attention_maps(model, batch, task, attention_layer=0)
    assert_same(before, state_of(model))
    assert model.config._attn_implementation == "sdpa"
    model.set_attn_implementation("eager")
    with torch.no_grad():
        own = model(batch["input_ids"], attention_mask=batch["attention_mask"], output_attentions=True).attentions
    for b, row in enumerate(found):
        size = int(batch["attention_mask"][b].sum())
        cut = [each[b : b + 1, :, :size, :size] for each in own]
        there = torch.ones(1, size, dtype=torch.bool)
        for layer, weights in zip(row.layers, cut, strict=True):
            assert_close(torch.tensor(layer.weights) / 100, weights[0].mean(dim=0), atol=0.00501, rtol=0)
            assert_close(torch.tensor(layer.entropy).double(), entropy(weights, there)[0], atol=1e-6, rtol=0)
            assert layer.agreement == pytest.approx(head_agreement(weights, there).item(), abs=1e-6)
        assert (row.of_heads, len(row.heads), row.shown) == (0, 2, size)
        assert_close(torch.tensor(row.heads) / 100, cut[0][0], atol=0.00501, rtol=0)
        assert_close(torch.tensor(row.token_weights), cut[1][0].mean(dim=0)[0], atol=1e-6, rtol=0)
        assert (row.read, row.example_id) == ("position 0, '[CLS]'", (3, 30)[b])
    assert found[0].gold == "LABEL_0" or found[0].gold == "0"


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_a_text_has_the_record_that_it_has_alone(name):
    model, batch, task = case(name)
    found, alone = (attention_maps(model, each, task) for each in (batch, batch_of(task.tokenizer, [SHORT])))
    assert found[1].tokens == alone[0].tokens
    assert found[1].read == alone[0].read
    assert found[1].entropy == pytest.approx(alone[0].entropy, abs=1e-5)
    assert found[1].token_weights == pytest.approx(alone[0].token_weights, abs=1e-5)
    scores = AttentionWeights()(model, batch, task).scores[1, : len(found[1].tokens)]
    assert found[1].token_weights == pytest.approx(scores.tolist(), abs=1e-6)


def test_what_is_left_out_is_said_and_one_token_has_values():
    model, batch, task = case(texts=[" ".join(["great"] * (MOST_TOKENS + 3))])
    (row,) = attention_maps(model, batch, task)
    assert row.shown == len(row.heads[0]) == MOST_TOKENS
    assert row.notes == (f"Maps are of the first {MOST_TOKENS} of {MOST_TOKENS + 5} tokens.",)
    assert len(row.token_weights) == MOST_TOKENS + 5
    one = {"input_ids": torch.tensor([[7]]), "attention_mask": torch.tensor([[1]])}
    (row,) = attention_maps(model, one, task)
    assert row.entropy == 0.0
    assert row.head_agreement == pytest.approx(1.0)
    assert row.token_weights == pytest.approx((1.0,))
    with pytest.raises(AttentionError, match="`attention_layer=5`, but 2 layers"):
        attention_maps(model, one, task, attention_layer=5)


def test_a_text_of_padding_alone_has_values_and_a_model_that_diverged_is_refused():
    model, batch, task = case()
    batch["attention_mask"][1] = 0
    assert attention_maps(model, batch, task)[1].read == "no position"
    model.bert.encoder.layer[0].attention.self.query.weight.data.fill_(torch.nan)
    with pytest.raises(AttentionError, match=r"layer.0.attention.self` .*no number"):
        attention_maps(model, batch, task)
