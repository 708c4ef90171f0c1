"""The attention of models: what is met, that it is theirs, and that nothing else changes."""

import threading
from contextlib import nullcontext
from copy import copy
from types import SimpleNamespace

import pytest
import torch
from purity import assert_same, state_of
from tiny import LONG, SHORT, batch_of, classifier, tokenizer_for
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    BertConfig,
    LlamaConfig,
    LlamaForSequenceClassification,
    PretrainedConfig,
)
from transformers.masking_utils import sdpa_mask

from lightning_interpret.functional.attention import AttentionError, attention
from lightning_interpret.functional.features import LayerError
from lightning_interpret.functional.scope import explaining
from lightning_interpret.tasks.transformer import call

MODELS = ("bert", "distilbert", "roberta", "gpt2", "llama", "grouped", "t5", "bart")


def model_of(name, implementation="sdpa", dtype=torch.float32):
    if name == "grouped":
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_labels": 3, "pad_token_id": 0}
        torch.manual_seed(0)
        model = LlamaForSequenceClassification(LlamaConfig(vocab_size=30, **sizes, **heads)).eval().to(dtype)
    else:
        model = classifier(name, dtype=dtype)
    model.set_attn_implementation(implementation)
    return model


def logits(model, batch):
    with torch.no_grad():
        return call(model, batch).logits


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", MODELS)
def test_t22_the_weights_of_transformers_are_those_they_return_themselves(name, implementation):
    model, batch = model_of(name, implementation), batch_of(tokenizer_for(name))
    before = state_of(model)
    with explaining(model):
        want = logits(model, batch)
        with attention(model) as met:
            got = logits(model, batch)
    assert (got - want).abs().max() <= 1e-6
    assert_same(before, state_of(model))
    assert model.config._attn_implementation == implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        own = model(batch["input_ids"], attention_mask=batch["attention_mask"], output_attentions=True)
    if name in ("t5", "bart"):
        oracle = {"self": (*own.encoder_attentions, *own.decoder_attentions), "cross": own.cross_attentions}
    else:
        oracle = {"self": own.attentions, "cross": ()}
    for kind, of_kind in oracle.items():
        sites = met.of_kind(kind)
        assert len(sites) == len(of_kind)
        queries = batch["attention_mask"].bool()[:, None, :, None]
        for site, weights in zip(sites, of_kind, strict=True):
            torch.testing.assert_close(site.weights * queries, weights * queries, atol=1e-6, rtol=0)
    assert [site.number for site in met.weights] == list(range(len(met.weights)))


@pytest.mark.parametrize("name", MODELS)
def test_padding_is_weighed_with_exactly_nothing_and_double_precision_is_kept(name):
    model, batch = model_of(name, dtype=torch.float64), batch_of(tokenizer_for(name), (LONG, SHORT))
    with explaining(model):
        want = logits(model, batch)
        with attention(model) as met:
            got = logits(model, batch)
    assert (got - want).abs().max() <= 1e-12
    mask = batch["attention_mask"].bool()
    for site in met.of_kind("self") if name not in ("t5", "bart") else met.weights[:1]:
        rows = site.weights[1][:, mask[1]]
        assert bool((rows[..., ~mask[1]] == 0).all())
        torch.testing.assert_close(rows.sum(-1), torch.ones_like(rows[..., 0]))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
def test_multihead_attention(batch_first, need_weights):
    torch.manual_seed(0)
    module = nn.MultiheadAttention(8, 2, batch_first=batch_first).eval()
    x = torch.randn(3, 5, 8) if batch_first else torch.randn(5, 3, 8)
    padding = torch.zeros(3, 5, dtype=torch.bool)
    padding[1, 3:] = True
    want, own = module(x, x, x, key_padding_mask=padding, average_attn_weights=False)
    with explaining(module), attention(module) as met:
        got, _ = module(x, x, x, key_padding_mask=padding, need_weights=need_weights)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=0)
    torch.testing.assert_close(met.weights[0].weights, own, atol=1e-6, rtol=0)


def test_an_encoder_and_a_decoder_of_torch():
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    decoder = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True).eval()
    module, x = nn.ModuleDict({"encoder": encoder, "decoder": decoder}), torch.randn(2, 4, 8)
    padding = torch.tensor([[False] * 4, [False, False, True, True]])

    def forward():
        memory = encoder(x, src_key_padding_mask=padding)
        return decoder(x, memory, memory_key_padding_mask=padding, tgt_is_causal=False)

    with explaining(module):
        want = forward()
        with attention(module) as met:
            got = forward()
    torch.testing.assert_close(got, want, atol=1e-6, rtol=0)
    found = [(site.name, site.kind) for site in met.weights]
    layers = [(f"encoder.layers.{i}.self_attn", "self") for i in (0, 1)]
    assert found == [*layers, ("decoder.self_attn", "self"), ("decoder.multihead_attn", "cross")]
    assert bool((met.weights[0].weights[1][..., 2:] == 0).all())


def _masked(scores):
    weights = F.softmax(scores, dim=1) * torch.ones_like(scores)
    return weights / (weights.sum(dim=1, keepdim=True) + 1e-13)


WAYS = {
    "bmm": lambda s, h: torch.bmm(F.softmax(s, dim=-1).unsqueeze(1), h).squeeze(1),
    "matmul": lambda s, h: (s.softmax(-1)[:, None] @ h)[:, 0],
    "transposed": lambda s, h: (nn.Softmax(dim=1)(s.unsqueeze(-1)).transpose(1, 2) @ h).squeeze(1),
    "values_first": lambda s, h: torch.bmm(h.transpose(1, 2), torch.softmax(s, 1).unsqueeze(-1)).squeeze(-1),
    "einsum": lambda s, h: torch.einsum("bt,btd->bd", s.softmax(dim=-1), h),
    "einsum_dots": lambda s, h: torch.einsum("...td,...t->...d", h, s.softmax(dim=-1)),
    "sum": lambda s, h: (s.unsqueeze(-1).softmax(dim=1) * h).sum(dim=1),
    "sum_of_vectors": lambda s, h: torch.sum(h * F.dropout(F.softmax(s, -1), 0.5, False).unsqueeze(2), 1),
    "masked": lambda s, h: (_masked(s)[..., None] * h).sum(1),
}


class Additive(nn.Module):
    """Additive attention over the text by one of the ways to write it; as many classes as tokens."""

    def __init__(self, way, classes=4, probabilities=None):
        super().__init__()
        torch.manual_seed(0)
        self.way, self.probabilities = way, probabilities
        self.score, self.head, self.labels = nn.Linear(6, 1), nn.Linear(6, classes), nn.Linear(3, classes)

    def forward(self, h):
        scores = self.score(torch.tanh(h)).squeeze(-1)
        found = self.head(WAYS[self.way](scores, h) if self.way else h.mean(dim=1))
        return found if self.probabilities is None else self.probabilities(found.softmax(-1), self.labels.weight)


@pytest.mark.parametrize("tokens", [4, 1])
@pytest.mark.parametrize("way", WAYS)
def test_additive_attention_is_one_set_of_weights_a_text(way, tokens):
    module, h = Additive(way), torch.randn(3, tokens, 6, generator=torch.Generator().manual_seed(1))
    with explaining(module):
        want = module(h)
        with attention(module) as met:
            got = module(h)
        with attention(module, lambda site, weights, value: torch.full_like(weights, 1 / tokens)):
            uniform = module(h)
    assert torch.equal(got, want)
    (site,) = met.weights
    assert (site.kind, site.weights.shape) == ("pooling", (3, 1, 1, tokens))
    torch.testing.assert_close(site.weights[:, 0, 0], module.score(torch.tanh(h)).squeeze(-1).softmax(-1))
    torch.testing.assert_close(uniform, module.head(h.mean(dim=1)))


@pytest.mark.parametrize(
    "probabilities",
    [
        lambda p, labels: p,
        lambda p, labels: p @ labels,
        lambda p, labels: p * p.log(),
        lambda p, labels: (p * p.log()).sum(dim=1),
        lambda p, labels: (p.unsqueeze(-1) * labels).sum(dim=1),
        lambda p, labels: torch.bmm(p.unsqueeze(1), labels.unsqueeze(0).expand(len(p), -1, -1)),
        lambda p, labels: torch.einsum("bc,cd->bd", p, labels),
    ],
)
def test_the_softmax_of_a_head_is_no_attention_with_as_many_classes_as_tokens(probabilities):
    h = torch.randn(4, 4, 6)
    with explaining(Additive("bmm")) as _:
        module = Additive("bmm", probabilities=probabilities)
        with attention(module) as met:
            module(h)
        assert [site.kind for site in met.weights] == ["pooling"]
        none = Additive(None, probabilities=probabilities)
        with (
            pytest.raises(AttentionError, match=r"Additive computes no attention.*integrated_gradients"),
            attention(none),
        ):
            none(h)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.3}, {"enable_gqa": True}])
def test_the_product_of_scaled_dots_is_the_kernels(options):
    generator = torch.Generator().manual_seed(0)
    heads = 2 if "enable_gqa" in options else 4
    q, k, v = (torch.randn(2, n, 5, 8, generator=generator, dtype=torch.float64) for n in (4, heads, heads))
    want = F.scaled_dot_product_attention(q, k, v, **options)
    with attention(nn.Identity()) as met:
        got = F.scaled_dot_product_attention(q, k, v, **options)
    torch.testing.assert_close(got, want, atol=1e-12, rtol=0)
    assert met.weights[0].weights.shape == (2, 4, 5, 5)


@pytest.mark.parametrize("additive", [True, False])
def test_a_query_without_a_key_weighs_nothing(additive):
    q = torch.randn(1, 1, 3, 4)
    mask = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    given = torch.zeros(3, 3).masked_fill(~mask, -torch.inf) if additive else mask
    with attention(nn.Identity()) as met:
        out = F.scaled_dot_product_attention(q, q, q, attn_mask=given)
    weights = met.weights[0].weights[0, 0]
    assert bool((weights[~mask] == 0).all())
    assert bool((out[0, 0, 1] == 0).all())
    torch.testing.assert_close(weights.sum(-1), torch.tensor([1.0, 0.0, 1.0]))


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_the_gradient_of_weights_is_that_of_the_edit(name):
    model, batch = model_of(name, dtype=torch.float64), batch_of(tokenizer_for(name))
    with explaining(model):
        with attention(model) as met:
            score = call(model, batch).logits[:, 1]
        gradients = torch.autograd.grad(score.sum(), [site.weights for site in met.weights])
        direction = torch.rand_like(met.weights[0].weights) * (met.weights[0].weights > 0)

        def moved(step):
            def edit(site, weights, value):
                return weights + step * direction if site.number == 0 else None

            with attention(model, edit), torch.no_grad():
                return call(model, batch).logits[:, 1].sum()

        slope = (moved(1e-5) - moved(-1e-5)) / 2e-5
    torch.testing.assert_close((gradients[0] * direction).sum(), slope, atol=1e-7, rtol=1e-5)
    assert all(bool(gradient.any()) for gradient in gradients)


def test_an_edit_holds_at_its_site_inside_a_module_alone():
    model, batch = model_of("bert"), batch_of(tokenizer_for("bert"))
    inside = "bert.encoder.layer.1"
    with explaining(model):
        want = logits(model, batch)
        with attention(model, lambda site, w, v: (w, torch.zeros_like(v)), inside=inside, keep=False) as met:
            got = logits(model, batch)
        assert met.weights == []
        assert met.met == 1
        with attention(model, lambda site, w, v: None) as met:
            torch.testing.assert_close(logits(model, batch), want, atol=1e-6, rtol=0)
        with attention(model, inside=inside) as met:
            logits(model, batch)
        assert [site.name for site in met.weights] == [f"{inside}.attention.self"]
        for after, count in (("bert.embeddings", 2), ("bert.encoder.layer.0", 1)):
            with attention(model, after=after) as met:
                logits(model, batch)
            assert len(met.weights) == count
    assert (got - want).abs().max() > 1e-3


def test_a_part_of_two_names_is_found_by_either():
    model, batch = model_of("bert"), batch_of(tokenizer_for("bert"))
    module = nn.ModuleDict({"whole": model, "encoder": model.bert.encoder})
    for inside in ("whole.bert.encoder.layer.1", "encoder.layer.1"):
        with attention(module, inside=inside) as met:
            logits(model, batch)
        assert [site.name for site in met.weights] == ["whole.bert.encoder.layer.1.attention.self"]


def test_what_does_not_fit_is_refused_by_name():
    model, batch = model_of("bert"), batch_of(tokenizer_for("bert"))
    edited = attention(model, lambda site, w, v: w[..., :1])
    with pytest.raises(AttentionError, match=r"`edit` returned shapes .* at site 0 \(`bert.encoder.layer.0"), edited:
        logits(model, batch)
    with pytest.raises(LayerError, match="Did you mean"), attention(model, inside="bert.encoder.layr.1"):
        pass
    head = attention(model, inside="classifier")
    with pytest.raises(AttentionError, match=r"with `inside='classifier'` computes no att"), head:
        logits(model, batch)


def test_a_kernel_that_shows_nothing_is_eager_in_the_scope_and_back_after():
    def hidden(module, query, key, value, attention_mask, **options):
        class Kernel(torch.autograd.Function):
            @staticmethod
            def forward(ctx, q, k, v):
                return F.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask)

        return Kernel.apply(query, key, value).transpose(1, 2), None

    AttentionInterface.register("flex_hidden", hidden)
    AttentionMaskInterface.register("flex_hidden", sdpa_mask)
    model, batch = model_of("bert", "flex_hidden"), batch_of(tokenizer_for("bert"))
    with explaining(model):
        want = logits(model, batch)
        with attention(model) as met:
            got = logits(model, batch)
    assert model.config._attn_implementation == "flex_hidden"
    assert len(met.weights) == 2
    assert (got - want).abs().max() <= 1e-6


def kernel_of(model):
    """The model with an implementation that is eager in the scope, which need not run."""
    model.config._attn_implementation = "flex_attention"
    return model


@pytest.mark.parametrize("config", [{"size": 1}, "a path", SimpleNamespace(size=1)])
def test_what_a_module_of_ones_own_calls_its_config_is_left_alone(config):
    module, batch = nn.ModuleDict({"model": kernel_of(model_of("bert"))}), batch_of(tokenizer_for("bert"))
    module.config, before = config, copy(config)
    for fails in (False, True):
        with pytest.raises(RuntimeError) if fails else nullcontext(), attention(module):
            logits(module["model"], batch)
            if fails:
                raise RuntimeError
        assert module.config is config
        assert config == before
        assert module["model"].config._attn_implementation == "flex_attention"


def test_a_config_inside_another_has_its_own_implementation_again():
    class Whole(PretrainedConfig):
        sub_configs = {"text_config": BertConfig}  # noqa: RUF012

        def __init__(self, text_config=None, **options):
            self.text_config = text_config
            super().__init__(**options)

    inner, batch = model_of("bert"), batch_of(tokenizer_for("bert"))
    for whole_first in (True, False):
        parts = {"text": inner, "connector": nn.Identity()}
        module = nn.ModuleDict(parts if whole_first else dict(reversed(parts.items())))
        module["connector"].config = Whole(inner.config)
        module["connector"].config._attn_implementation = "sdpa"
        kernel_of(inner)
        with attention(module):
            logits(inner, batch)
        assert module["connector"].config._attn_implementation == "sdpa"
        assert inner.config._attn_implementation == "flex_attention"


def test_scopes_in_one_another_meet_each_its_own_model():
    models, batch = [model_of("bert"), model_of("gpt2")], batch_of(tokenizer_for("bert"))
    want = [logits(model, batch) for model in models]
    with attention(models[0]) as first, attention(models[1]) as second, attention(models[1]) as again:
        got = [logits(model, batch) for model in models]
    for mine, theirs in zip(got, want, strict=True):
        assert (mine - theirs).abs().max() <= 1e-6
    assert [site.name for site in first.weights] == [f"bert.encoder.layer.{i}.attention.self" for i in (0, 1)]
    assert [site.name for site in second.weights] == [f"transformer.h.{i}.attn" for i in (0, 1)]
    assert [site.name for site in again.weights] == [site.name for site in second.weights]


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_weights_that_are_not_kept_are_gone_with_their_layer(implementation):
    model, batch, seen = model_of("bert", implementation), batch_of(tokenizer_for("bert")), []

    def edit(site, weights, value):
        assert all(storage.expired() for storage in seen)
        seen.append(StorageWeakRef(weights.untyped_storage()))

    with attention(model, edit, keep=False):
        logits(model, batch)
    assert len(seen) == 2


def test_another_thread_runs_the_model_as_it_is():
    model, batch, found = model_of("bert"), batch_of(tokenizer_for("bert")), []
    want = logits(model, batch)
    with attention(model, lambda site, w, v: torch.zeros_like(w)) as met:
        thread = threading.Thread(target=lambda: found.append(logits(model, batch)))
        thread.start()
        thread.join()
        assert met.met == 0
        logits(model, batch)
    torch.testing.assert_close(found[0], want)
