"""The record of a span layer: which spans, and what is lost without them, held to erasing each by hand."""

import json

import pytest
import torch
from purity import assert_same, state_of
from span_toys import LABELS, GruSpans, Spans, batch_for, made
from tiny import batch_of, tokenizer_for, wordpiece

from lightning_interpret import SpansRow
from lightning_interpret.functional.spans import token_weights
from lightning_interpret.modules.joint import SpanTextClassifier


def weights_of(module, batch):
    module._span_site.seen = []
    with torch.no_grad():
        logits = module(batch)
    ((weights, *_),), module._span_site.seen = module._span_site.seen, None
    return weights, logits


def without(module, batch, row, start, end):
    """Return the logits of a text, some tokens of which are embedded as padding though their ids are called."""
    embedding = module.model.get_input_embeddings()

    def erase(part, args, output):
        output = output.clone()
        output[row, start:end] = part.weight[module.interpret_task().tokenizer.pad_token_id]
        return output

    handle = embedding.register_forward_hook(erase)
    with torch.no_grad():
        logits = module(batch)[row]
    handle.remove()
    return logits


@pytest.mark.parametrize(("name", "side"), [("bert", "right"), ("roberta", "right"), ("gpt2", "left")])
def test_spans_are_the_foremost_and_each_is_erased(name, side):
    module = made(Spans, name, torch.float64, span_width=3).eval()
    batch = batch_for(name, padding_side=side)
    weights, logits = weights_of(module, batch)
    for i, row in enumerate(module.explain(batch, k=4)):
        shift = int((batch["attention_mask"][i] == 0).sum()) if side == "left" else 0
        target, own = int(logits[i].argmax()), weights[i]
        assert row.target == pytest.approx(float(logits[i].max()), abs=1e-5)
        assert row.target_name == row.prediction == LABELS[target]
        ranked = sorted(((float(own[a, k]), a, a + k + 1) for a, k in own.nonzero().tolist()), reverse=True)
        assert row.considered == len(ranked)
        assert [(s.start + shift, s.end + shift) for s in row.spans] == [(a, b) for _, a, b in ranked[:4]]
        assert [s.weight for s in row.spans] == pytest.approx([value for value, *_ in ranked[:4]], abs=1e-6)
        for span in row.spans:
            after = without(module, batch, i, span.start + shift, span.end + shift)
            assert span.erased == pytest.approx(float(logits[i, target] - after[target]), abs=1e-4)
            assert span.text == " ".join(row.tokens[span.start : span.end]).replace(" ##", "").replace(" .", ".")
        tokens = int(batch["attention_mask"][i].sum())
        assert len(row.tokens) == len(row.special) == len(row.token_weights) == tokens
        assert row.token_weights == pytest.approx(
            token_weights(own[None])[0, shift : shift + tokens].tolist(), abs=1e-6
        )
        assert row.sharpness == pytest.approx(float(own.square().sum()), abs=1e-6)
        assert row.width == 3
        first = row.spans[0]
        length = first.end - first.start
        others = [(a, b) for _, a, b in ranked if b - a == length and a != first.start + shift]
        if len(others) <= 8:  # else some of them
            lost = [float((logits[i] - without(module, batch, i, a, b))[target]) for a, b in others]
            assert row.control == pytest.approx(sum(lost) / len(lost), abs=1e-4)
        assert not any("past" in note for note in row.notes)


def test_another_target_and_another_baseline():
    module, batch = made(Spans, "bert").eval(), batch_for()
    batch["example_id"] = torch.tensor([7, 8])
    logits = module(batch).detach()
    gold, contrast = module.explain(batch, "gold"), module.explain(batch, "good-bad", k=1, baseline="mask")
    assert [row.target_name for row in gold] == ["bad", "good"]
    assert [row.target for row in gold] == pytest.approx([float(logits[0, 0]), float(logits[1, 2])], abs=1e-5)
    assert [row.target for row in contrast] == pytest.approx((logits[:, 2] - logits[:, 0]).tolist(), abs=1e-5)
    assert [row.spans[0].start for row in contrast] == [row.spans[0].start for row in gold]  # of H, and of no target
    assert contrast[0].spans[0].erased != gold[0].spans[0].erased
    assert [row.example_id for row in gold] == [7, 8]
    assert [row.gold for row in gold] == ["bad", "good"]
    assert len(contrast[0].spans) == 1
    with pytest.raises(ValueError, match="k=0"):
        module.explain(batch, k=0)
    with pytest.raises(ValueError, match="baseline='masc'"):
        module.explain(batch, baseline="masc")


def test_a_row_is_what_its_json_says_and_is_told_in_words():
    row = made(Spans, "bert").explain(batch_for())[1]
    again = SpansRow.from_dict(json.loads(json.dumps(row.to_dict())))
    assert again == row
    assert row.spans[0].text in row.text.replace(" .", ".")


@pytest.mark.parametrize("mode", [True, False])
def test_the_module_is_left_as_it_was(mode):
    module, batch = made(Spans, "bert").train(mode), batch_for()
    before, kept = state_of(module), {name: value.clone() for name, value in batch.items() if torch.is_tensor(value)}
    first = module.explain(batch)
    assert_same(before, state_of(module))
    assert_same(kept, {name: batch[name] for name in kept})
    assert module.explain(batch) == first


class Beside(GruSpans):
    """Has the states of its GRU read beside H."""

    def forward(self, ids):
        states, last = self.gru(self.embedding(ids))
        return self.head(last.transpose(0, 1).flatten(1)) + states.mean(dim=1)[:, :3]


def test_a_text_that_is_read_past_its_spans_is_told():
    ids = {"input_ids": batch_for()["input_ids"]}
    for row in made(Beside, span_layer="gru", span_head="head").explain(ids):
        assert "the text is read past its spans too" in row.notes[-1]
    for row in made(GruSpans, span_layer="gru", span_head="head").explain(ids):
        assert not any("past" in note for note in row.notes)


def test_weights_that_are_nearly_even_are_told():
    module, batch = made(Spans, "bert"), batch_for()
    assert "the weights of 21 spans are nearly even, as those of 2" in module.explain(batch)[1].notes[-1]
    with torch.no_grad():
        module.spans.query.mul_(30)
    row = module.explain(batch)[1]
    assert row.sharpness > 2 / row.considered
    assert row.notes == ()


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_of_half_precision_it_is_made_in_single_precision(precision):
    module = made(Spans, "bert", precision)
    assert module.spans.product.dtype == precision
    found = module.explain(batch_for())
    assert sum(found[1].token_weights) > 1 - 1e-5
    assert found[0].spans[0].erased == found[0].spans[0].erased  # a number


def test_a_text_classifier_of_a_file_has_it():
    config = {"model_type": "bert", "vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1}
    config |= {"num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 40}
    model = made(SpanTextClassifier, config=config, labels=LABELS, tokenizer=wordpiece(), span_width=2)
    row = model.explain(batch_of(wordpiece(), ["a good film"]))[0]
    assert row.width == 2
    assert row.considered == 5
    assert model.hparams["span_width"] == 2


def test_a_tokenizer_that_cannot_erase_says_so():
    module = made(Spans, "bert").eval()
    task = module.interpret_task()
    task.tokenizer.pad_token = None
    module.interpret_task = lambda: task
    batch = batch_of(tokenizer_for("bert"), ["good"])
    module.model.config.pad_token_id = None
    with pytest.raises(ValueError, match=r"baseline='pad'.*no pad token. There is: mask"):
        module.explain(batch)
    assert module.explain(batch, baseline="mask")[0].spans[0].erased is not None
