"""Models of `transformers` as they are: the same logits bit by bit, and F(x) = Σ R + Σ absorbed for every row."""

import pytest
import torch
from relevances import assert_law, propagate
from tiny import CLASSIFIERS, TEXTS, VOCABULARY, batch_of, classifier, lively, tokenizer_for
from transformers import (
    BloomConfig,
    BloomForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
)

from lightning_interpret.functional.features import Features
from lightning_interpret.functional.relevance import Rule, relevance
from lightning_interpret.functional.scope import explaining

COMMON = {
    "vocab_size": VOCABULARY, "num_labels": 3, "pad_token_id": 0, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 24, "max_position_embeddings": 40,
}  # fmt: skip
ENDS = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
MODELS = {
    **CLASSIFIERS,
    "llama": lambda: LlamaForSequenceClassification(LlamaConfig(**COMMON, num_key_value_heads=2)),
    "modernbert": lambda: ModernBertForSequenceClassification(
        ModernBertConfig(**COMMON, **ENDS, global_attn_every_n_layers=2, local_attention=4)
    ),
    "deberta": lambda: DebertaV2ForSequenceClassification(
        DebertaV2Config(**COMMON, relative_attention=True, pos_att_type=["c2p", "p2c"], position_buckets=8)
    ),
    "bloom": lambda: BloomForSequenceClassification(
        BloomConfig(vocab_size=VOCABULARY, num_labels=3, pad_token_id=0, hidden_size=16, n_layer=2, n_head=2)
    ),
}
NAMES = ["bert", "roberta", "distilbert", "modernbert", "deberta", "gpt2", "llama", "bloom", "t5", "bart"]
#: Parts that compute in single precision whatever the weights are: the norms of Llama, the angles of ModernBERT, the
#: softmax of BLOOM.
SINGLE = {"llama": 1e-6, "modernbert": 1e-6, "bloom": 1e-6}
CASES = [(name, rule) for name in NAMES for rule in (Rule.named("attn_lrp"), Rule.named("cp_lrp"))]
CASES += [(name, Rule.named("attn_lrp", gamma=0.11)) for name in ("bert", "llama")]


def explained(model, batch, rule, layer=None, column=1):
    """R of a layer ``(N, *shape)``, the score ``(N,)`` and what was absorbed; the logits are the same bit by bit."""
    parts = {name: batch[name] for name in ("input_ids", "attention_mask")}
    words = model.get_input_embeddings()
    layer = layer or next(name for name, part in model.named_modules() if part is words)
    with explaining(model), Features(model, layer) as opened:
        with torch.no_grad():
            outside, x = opened.read(lambda: model(**parts).logits)
        x.requires_grad_()
        with relevance(model, rule) as scope:
            logits = opened.put(x, lambda: model(**parts).logits)
            score = logits[:, column]
        assert torch.equal(logits, outside)
        (found,) = scope.relevance(score, x)
    return found, score.detach(), scope.ledger.absorbed


@pytest.mark.parametrize(
    ("name", "rule"), CASES, ids=lambda value: value if isinstance(value, str) else value.attention
)
def test_the_law(name, rule):
    model, batch = lively(MODELS[name]()).double(), batch_of(tokenizer_for(name))
    found, score, absorbed = explained(model.train(), batch, rule)
    assert_law(found, score, absorbed, within=SINGLE.get(name, 1e-12))
    assert float(found.abs().max()) > 1e-3
    assert found[batch["attention_mask"] == 0].abs().sum() == 0
    assert ("softmax" in absorbed) == (rule.attention == "gradient")


@pytest.mark.parametrize("name", ["bert", "llama"])
@pytest.mark.parametrize("rule", ["attn_lrp", "cp_lrp"])
def test_the_same_in_single_precision(name, rule):
    found, score, absorbed = explained(classifier(name), batch_of(tokenizer_for(name)), rule)
    exact, _, _ = explained(classifier(name, dtype=torch.float64), batch_of(tokenizer_for(name)), rule)
    assert_law(found.double(), score.double(), absorbed, within=1e-5)
    torch.testing.assert_close(found.double(), exact, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("rule", ["attn_lrp", "cp_lrp"])
def test_pixels(rule):
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=8, patch_size=4
    )
    model = lively(ViTForImageClassification(config)).double()

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, pixels):
            return self.model(pixel_values=pixels).logits

    torch.manual_seed(0)
    found, score, absorbed = propagate(Logits().eval(), torch.randn(2, 3, 8, 8).double(), rule)
    assert_law(found, score, absorbed)
    assert float(found.abs().max()) > 1e-4


@pytest.fixture
def without_biases():
    model = classifier("bert", dtype=torch.float64)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.zero_()
    return model


def test_t8_cp_lrp_conserves_on_a_bert_without_biases(without_biases):
    batch = batch_of(tokenizer_for("bert"))
    sums = "bert.embeddings.LayerNorm"
    rule = Rule.named("cp_lrp")
    found, score, absorbed = explained(without_biases, batch, rule, sums)
    assert absorbed == {}
    torch.testing.assert_close(found.flatten(1).sum(dim=1), score, rtol=1e-12, atol=1e-12)
    # at the word embeddings alone the positions keep theirs, and it is said
    words, _, absorbed = explained(without_biases, batch, rule)
    assert set(absorbed) == {"constants"}
    assert float((words.flatten(1).sum(dim=1) - score).abs().max()) > 1e-2
    # AttnLRP does not conserve, and says by how much
    other, score, absorbed = explained(without_biases, batch, Rule.named("attn_lrp"), sums)
    assert set(absorbed) == {"softmax"}
    torch.testing.assert_close(absorbed["softmax"], score - other.flatten(1).sum(dim=1), rtol=1e-9, atol=1e-12)
    assert float(absorbed["softmax"].abs().max()) > 1e-3


@pytest.mark.parametrize("rule", ["attn_lrp", "cp_lrp"])
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_attention_in_one_kernel_or_in_parts(name, rule):
    """`sdpa`, which `transformers` runs by default, and `eager`, which calls matmul and softmax."""
    batch = batch_of(tokenizer_for(name), TEXTS)
    found = []
    for implementation in ("sdpa", "eager"):
        model = classifier(name, dtype=torch.float64)
        model.set_attn_implementation(implementation)
        found.append(explained(model, batch, rule)[0])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)
