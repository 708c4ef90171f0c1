"""Value zeroing against a model that is run by hand, one token and one layer at a time."""

import pytest
import torch
from purity import assert_same, state_of
from tiny import LONG, SHORT, batch_of, classifier, tokenizer_for
from torch import nn

from lightning_interpret.functional.attention import AttentionError, attention
from lightning_interpret.functional.attention.zeroing import blocks_of, value_zeroing
from lightning_interpret.functional.scope import explaining
from lightning_interpret.tasks.batches import take
from lightning_interpret.tasks.transformer import call


def zeroed(name, chunk, texts=(LONG, SHORT)):
    model, batch = classifier(name, dtype=torch.float64), batch_of(tokenizer_for(name), texts)
    before = state_of(model)
    with explaining(model):
        with attention(model) as met:
            call(model, batch)
        there = batch["attention_mask"].bool()
        found = value_zeroing(model, lambda rows: call(model, take(batch, rows)), met.weights, there, chunk)
    assert_same(before, state_of(model))
    return model, batch, met.weights, found


def by_hand(model, hidden, layer, mask, token):
    """The output of one layer of BERT, its attention written out, with the values of a token zero."""
    own = layer.attention.self
    q, k, v = (
        part(hidden).unflatten(-1, (own.num_attention_heads, -1)).transpose(1, 2)
        for part in (own.query, own.key, own.value)
    )
    weights = (q @ k.transpose(-1, -2) / own.attention_head_size**0.5 + mask).softmax(-1)
    if token is not None:
        v = v.clone()
        v[:, :, token] = 0
    attended = layer.attention.output((weights @ v).transpose(1, 2).flatten(2), hidden)
    return layer.output(layer.intermediate(attended), attended)


@pytest.mark.parametrize("chunk", [3, 100])
def test_each_layer_without_the_values_of_each_token(chunk):
    model, batch, sites, found = zeroed("bert", chunk)
    assert blocks_of(model, sites) == ["bert.encoder.layer.0", "bert.encoder.layer.1"]
    there = batch["attention_mask"].bool()
    with torch.no_grad():
        hidden = model.bert.embeddings(batch["input_ids"])
        mask = torch.zeros(there.shape).double().masked_fill(~there, -torch.inf)[:, None, None]
        for layer, distances in zip(model.bert.encoder.layer, found, strict=True):
            clean = by_hand(model, hidden, layer, mask, None)
            for token in range(there.shape[1]):
                away = 1 - torch.cosine_similarity(by_hand(model, hidden, layer, mask, token), clean, dim=-1)
                want = away * there[:, token, None]
                torch.testing.assert_close(distances[..., token], want, atol=1e-10, rtol=0)
            hidden = clean


@pytest.mark.parametrize("name", ["distilbert", "gpt2", "llama"])
def test_a_text_is_read_alone_as_in_a_batch(name):
    _, batch, _, found = zeroed(name, 7)
    size = int(batch["attention_mask"][1].sum())
    alone = zeroed(name, 7, [SHORT])[3]
    for layer, single in zip(found, alone, strict=True):
        torch.testing.assert_close(layer[1, :size, :size], single[0], atol=1e-6, rtol=0)
        if name != "distilbert":  # causal: nothing changes before the token
            assert float(layer.triu(1).abs().max()) < 1e-9


def test_one_attention_that_is_no_layer_is_refused():
    class Own(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x)

    module, x = Own(), torch.randn(1, 1, 3, 4)
    with attention(module) as met:
        module(x)
    with pytest.raises(AttentionError, match=r"in no layer of its own.*attention rollout"):
        blocks_of(module, met.weights)
    wrapped = nn.Sequential(Own())
    with attention(wrapped) as met:
        wrapped(x)
    with pytest.raises(AttentionError, match=r"`0` returns shape \(1, 1, 3, 4\).*attention rollout"):
        value_zeroing(wrapped, lambda rows: wrapped(x[rows]), met.weights, torch.ones(1, 3, dtype=torch.bool), 4)
