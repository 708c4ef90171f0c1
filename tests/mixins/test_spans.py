"""A span layer between an encoder and whatever reads it: what is read, where it is put, and what it leaves behind."""

import copy
import pickle

import pytest
import torch
from joint_toys import Plain
from span_toys import Gru, GruSpans, Model, Spans, batch_for, made
from tiny import CLASSIFIERS, batch_of, tokenizer_for, wordpiece

from lightning_interpret import KernelMixin, SpanExplanationMixin, TurnOverDropoutMixin
from lightning_interpret.functional.spans import sharpness

DECODED = ("t5", "bart")  # encoder and decoder read the text
SEQ2SEQ = {
    "t5": {"span_layer": "model.transformer.encoder", "span_head": "model.classification_head"},
    "bart": {"span_layer": "model.model.encoder", "span_head": "model.classification_head"},
}


def seen(module, batch):
    """Return weights, tokens and H of a forward pass, and its scores."""
    module._span_site.seen = []
    with torch.no_grad():
        scores = module(batch)
    (found,), module._span_site.seen = module._span_site.seen, None
    return *found, scores


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_scores_are_made_from_the_spans_alone(name):
    module = made(Spans, name, torch.float64, **SEQ2SEQ.get(name, {})).eval()
    batch = batch_for(name)
    weights, tokens, pooled, scores = seen(module, batch)
    units = module.interpret_task().units(batch)
    assert torch.equal(tokens, ~(units.special | units.padding))
    assert torch.allclose(weights.flatten(1).sum(dim=1), torch.ones(2).double())
    site, other = module._span_site, batch_of(tokenizer_for(name), ["a", "bad film . and dull , he"])
    site.fixed = pooled
    with torch.no_grad():
        assert torch.allclose(module(other), scores, atol=1e-12)  # another text, the same spans
        site.fixed = pooled + 1
        assert not torch.allclose(module(batch), scores, atol=1e-3)


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "gpt2", "llama"])
def test_every_parameter_is_trained_so_that_processes_need_not_look_for_those_that_are_not(name):
    module, batch = made(Spans, name).train(), batch_for(name)
    module.training_step(batch, 0).backward()
    assert [each for each, value in module.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2"])
def test_padding_and_other_texts_in_the_batch_change_nothing(name):
    module = made(Spans, name, torch.float64).eval()
    tokenizer = tokenizer_for(name)
    together = module(batch_for(name))
    alone = [
        module(batch_of(tokenizer, [text]))
        for text in ("he is unaffable and a very good film was not dull", "the player was great .")
    ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-10)


def test_no_span_crosses_a_separator():
    module = made(Spans, "bert").eval()
    batch = wordpiece()(["good film"], ["not bad"], return_tensors="pt")
    weights, tokens, *_ = seen(module, batch)
    assert tokens.tolist() == [[False, True, True, False, True, True, False]]
    there = [(i, i + k + 1) for i, k in weights[0].nonzero().tolist()]
    assert there == [(1, 2), (1, 3), (2, 3), (4, 5), (4, 6), (5, 6)]


def test_tokens_that_the_mask_hides_are_in_no_span():
    module, batch = made(Spans, "bert").eval(), batch_for()
    batch["attention_mask"][:, 2] = 0
    assert not seen(module, batch)[1][:, 2].any()


@pytest.mark.parametrize("texts", [["good"], [""], ["", "good"]])
def test_texts_of_one_token_or_of_none(texts):
    module, batch = made(Spans, "bert").train(), batch_of(wordpiece(), texts, labels=[1] * len(texts))
    loss = module.training_step(batch, 0)
    loss.backward()
    assert bool(loss.isfinite())
    assert all(bool(each.grad.isfinite().all()) for each in module.parameters())
    for text, row in zip(texts, module.explain(batch), strict=True):
        assert row.considered == len(row.spans) == (text != "")
        assert row.control is None
        assert "no other span" in row.reasons["control"]
        assert row.token_weights == ((0.0, 1.0, 0.0) if text else (0.0,) * len(row.tokens))


def test_the_term_is_1_less_the_sharpness_of_texts_that_have_spans():
    module, batch = made(Spans, "bert", span_sharpness=0.5), batch_of(wordpiece(), ["a good film", "", "bad"])
    batch["labels"] = torch.tensor([2, 1, 0])
    module.eval().configure_model()
    sharp = sharpness(seen(module, batch)[0])
    module.spans.train()
    module.training = True  # the encoder drops nothing out
    plain = Model.training_step(module, batch, 0)
    assert sharp[2] == 1
    assert torch.allclose(module.training_step(batch, 0) - plain, 0.5 * (1 - sharp[[0, 2]]).mean(), atol=1e-6)
    module._span_sharpness = 0.0
    assert torch.equal(module.training_step(batch, 0), plain)
    module.training = False
    assert torch.equal(module.training_step(batch, 0), plain)


def test_a_recurrent_layer_needs_to_know_who_reads_it():
    with pytest.raises(ValueError, match=r"returns its last states .*`span_head=`"):
        made(GruSpans, span_layer="gru")
    module = made(GruSpans, span_layer="gru", span_head="head").eval()
    ids = batch_for()["input_ids"]
    _, _, pooled, scores = seen(module, ids)
    assert pooled.shape == (2, 10)
    assert torch.allclose(module.head.weight @ pooled.T + module.head.bias[:, None], scores.T, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"span_width": 0}, "span_width=0"),
        ({"span_sharpness": -1.0}, "span_sharpness=-1.0"),
        ({"span_sharpness": float("nan")}, "span_sharpness=nan"),
        ({"span_ramp": 1.5}, "span_ramp=1.5"),
        ({"span_layer": "grru"}, "Did you mean 'gru'"),
        ({}, "holds no `transformers` model"),
        ({"span_layer": "embedding", "span_head": "hed"}, "Did you mean 'head'"),
    ],
)
def test_what_cannot_work_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        made(GruSpans, **options)


def test_a_module_that_nothing_is_known_of_says_what_to_define():
    kind = type("Unknown", (SpanExplanationMixin, Plain), {})
    with pytest.raises(ValueError, match=r"define `interpret_task\(\)` on the module"):
        made(kind, span_layer="first")


@pytest.mark.parametrize("name", DECODED)
def test_of_an_encoder_decoder_the_head_is_to_be_named(name):
    with pytest.raises(ValueError, match=r"decoder, which reads the text too"):
        made(Spans, name)


def test_a_head_of_another_width_is_refused():
    module = made(GruSpans, span_layer="embedding", span_head="head")
    with pytest.raises(ValueError, match=r"is given \(2, 10\), and H has shape \(2, 8\)"):
        module(batch_for()["input_ids"])


def test_it_is_taken_out_again():
    module, plain, batch = made(Spans, "roberta").eval(), Model("roberta").eval(), batch_for("roberta")
    assert not torch.equal(module(batch), plain(batch))
    with pytest.raises(ValueError, match="has a span layer already"):
        module.attach_spans()
    module.detach_spans()
    module.configure_model()  # for good
    assert torch.equal(module(batch), plain(batch))
    assert module.state_dict().keys() == plain.state_dict().keys()
    assert all(not part._forward_hooks and not part._forward_pre_hooks for part in module.modules())
    for call in (module.detach_spans, module.become_plain, lambda: module.explain(batch)):
        with pytest.raises(ValueError, match="span layer"):
            call()
    module.attach_spans()
    assert module.explain(batch)[0].spans


@pytest.mark.parametrize("how", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_reads_through_a_layer_of_its_own(how):
    module, batch = made(Spans, "bert").eval(), batch_for()
    other = how(module)
    assert torch.equal(other(batch), module(batch))
    with torch.no_grad():
        other.spans.product.zero_()
    assert not torch.equal(other(batch), module(batch))
    module.detach_spans()
    assert other.explain(batch)[0].spans


def test_a_state_is_restored_to_the_bit():
    module, batch = made(Spans, "bert").eval(), batch_for()
    other = Spans("bert")
    other.load_state_dict(module.state_dict())
    assert torch.equal(other.eval()(batch), module(batch))
    assert {name.partition(".")[0] for name in module.state_dict()} == {"model", "spans"}


class SpansThenOthers(SpanExplanationMixin, TurnOverDropoutMixin, KernelMixin, Model):
    pass


class OthersThenSpans(TurnOverDropoutMixin, KernelMixin, SpanExplanationMixin, Model):
    pass


class GruBoth(SpanExplanationMixin, KernelMixin, Gru):
    pass


class GruBothAgain(KernelMixin, SpanExplanationMixin, Gru):
    pass


def test_other_joint_methods_go_with_it_in_either_order():
    batch = batch_for() | {"example_id": torch.tensor([3, 4])}
    found = []
    for kind in (SpansThenOthers, OthersThenSpans):
        module = made(kind, "bert", kernel_landmarks=3, turn_over_rate=0.4)
        module.kernel.choose(torch.randn(9, 16, generator=torch.Generator().manual_seed(0)), "random", seed=0)
        for name in ("start", "end", "product", "bias", "query"):
            torch.nn.init.normal_(getattr(module.spans, name), generator=torch.Generator().manual_seed(1))
        torch.nn.init.ones_(module.model.classifier.weight)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            found.append(float(module.train().training_step(batch, 0).detach()))
        module.eval()
        assert not any("past" in note for note in SpanExplanationMixin.explain(module, batch)[0].notes)
        assert KernelMixin.explain(module, batch)[0].like
        assert {"spans", "kernel", "turn_over_dropout"} <= {name for name, _ in module.named_children()}
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", [GruBoth, GruBothAgain])
def test_a_kernel_layer_before_the_same_head_reads_the_spans(kind):
    module = made(kind, span_layer="gru", span_head="head", kernel_landmarks=4).eval()
    module.kernel.choose(torch.randn(9, 10, generator=torch.Generator().manual_seed(0)), "random", seed=0)
    ids = batch_for()["input_ids"]
    _, _, pooled, scores = seen(module, ids)
    assert torch.allclose(
        torch.nn.functional.linear(module.kernel(pooled), module.head.weight, module.head.bias), scores
    )
    module.detach_kernel()
    module.attach()
    _, _, pooled, scores = seen(module, ids)
    assert torch.allclose(torch.nn.functional.linear(pooled, module.head.weight, module.head.bias), scores, atol=1e-6)
    module.detach_spans()
    assert torch.equal(module(ids), made(Gru)(ids))
