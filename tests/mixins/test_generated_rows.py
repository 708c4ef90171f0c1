"""Explanations row by row: batches and padding, texts of one token or none, rows and classes that nobody explained."""

import pytest
import torch
from generated_toys import (
    LABELS,
    Evidence,
    Explaining,
    batch_of,
    collate,
    explaining_model,
    loader,
    made,
    word_tokenizer,
)
from tiny import quiet_trainer
from torch.nn import functional as F
from torch.utils.data import DataLoader

ORDERS = ["predict_then_explain", "explain_then_predict", "jointly"]
FIRST = "explain_then_predict"
every = pytest.mark.parametrize("name", ["t5", "bart", "gpt2", "llama"])
in_each = pytest.mark.parametrize("order", ORDERS)


@every
@in_each
def test_a_batch_is_explained_as_each_of_its_texts_is(name, order):
    module = explaining_model(name, order, generated_max_tokens=5).double()
    words, labels, explanations = made(4, length=(2, 7))
    words[2] = "icy"
    together = module.explain(batch_of(words, labels, explanations))
    left = batch_of(words, labels, explanations, word_tokenizer(padding_side="left"))
    alone = [
        module.explain(batch_of([word], [label], [why]))[0]
        for word, label, why in zip(words, labels, explanations, strict=True)
    ]
    for found in (module.explain(left), alone):
        for row, other in zip(found, together, strict=True):
            assert (row.explanation, row.prediction, row.overlap) == (
                other.explanation,
                other.prediction,
                other.overlap,
            )
            for value in ("probability", "log_likelihood", "erased"):
                assert getattr(row, value) == pytest.approx(getattr(other, value), abs=1e-6), value


@every
@in_each
def test_texts_of_one_token_and_of_none_are_learnt_and_explained(name, order):
    module = explaining_model(name, order, generated_max_tokens=4)
    batch = batch_of(["icy", "", "one day it was hot"], [2, 1, 0], ["white", "because it was wet", ""])
    module.train().training_step(batch, 0).backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in module.parameters())
    rows = module.eval().explain(batch)
    assert all(0 < row.probability <= 1 and row.log_likelihood < 0 for row in rows)
    alone = module.explain(batch_of(["", ""]))
    assert [row.explanation for row in alone] == [rows[1].explanation] * 2
    assert alone[0].probability == pytest.approx(rows[1].probability, abs=1e-5)


def gradients(module, batch):
    module.zero_grad()
    module.training_step(batch, 0).backward()
    return {name: weight.grad.clone() for name, weight in module.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("name", ["t5", "gpt2"])
def test_a_row_that_nobody_explained_has_no_gradient_where_its_label_is_read_from_the_explanation(name):
    module = explaining_model(name, FIRST, generated_weight=0.0).double().train()
    words, labels, explanations = made(6)
    some = gradients(module, batch_of(words[:4], labels[:4], explanations[:4]))
    whole = gradients(module, batch_of(words, labels, [*explanations[:4], "", " "]))
    for key, value in some.items():
        assert torch.allclose(whole[key], value * 4 / 6, rtol=0, atol=1e-6), key  # T5 has norms in single precision
    nobody = gradients(module, batch_of(words, labels, [""] * 6))
    assert nobody.keys() == some.keys()
    assert not any(value.any() for value in nobody.values())


@pytest.mark.parametrize("options", [{"order": "jointly"}, {"order": FIRST, "generated_reads": "both"}])
def test_a_row_that_nobody_explained_is_learnt_where_its_label_is_read_from_the_text(options):
    module = explaining_model("t5", generated_weight=0.0, **options).double().train()
    words, labels, explanations = made(6)
    batch = batch_of(words, labels, [*explanations[:4], "", ""])
    found = gradients(module, batch)
    module.zero_grad()
    F.cross_entropy(module(batch), batch["labels"]).backward()
    assert all(torch.equal(weight.grad, found[key]) for key, weight in module.named_parameters())
    only = gradients(module, batch_of(words[4:], labels[4:], ["", ""]))
    assert any(value.any() for value in only.values())


@pytest.mark.parametrize("order", ORDERS)
def test_a_class_that_nobody_explained_is_told_of_once(order, tmp_path):
    data = Evidence(24, length=(2, 3))
    data.rows = [(text, label, "" if LABELS[label] == "snow" else why) for text, label, why in data.rows]
    module = Explaining(generated_order=order, generated_max_tokens=5)
    with pytest.warns(UserWarning, match="those of 'snow' are not learnt") as told:
        quiet_trainer(tmp_path, max_epochs=2).fit(module, DataLoader(data, batch_size=8, collate_fn=collate))
    told = [str(each.message) for each in told if "Generated explanations" in str(each.message)]
    assert len(told) == 1
    assert ("nor can the label be learnt" in told[0]) == (order == FIRST)


@pytest.mark.parametrize("name", ["t5", "gpt2"])
def test_training_where_nobody_explained_anything_goes_through(name, tmp_path):
    module = Explaining(name=name, generated_order=FIRST, generated_max_tokens=5)
    before = {key: value.clone() for key, value in module.named_parameters()}
    with pytest.warns(UserWarning, match="no training row of this epoch has an explanation"):
        quiet_trainer(tmp_path, max_epochs=1).fit(module, loader(16, batch_size=8, share=0, length=(2, 3)))
    assert all(torch.equal(value, before[key]) for key, value in module.named_parameters())


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_a_decoder_learns_the_same_in_half_precision(precision, tmp_path):
    found = {}
    for each in ("32-true", precision):
        torch.manual_seed(0)
        found[each] = Explaining(name="gpt2", generated_order="jointly", generated_max_tokens=5)
        quiet_trainer(tmp_path, max_epochs=1, precision=each).fit(found[each], loader(32, batch_size=8, length=(2, 3)))
    assert found[precision].losses == pytest.approx(found["32-true"].losses, rel=0.1)
    assert found[precision].explain(batch_of(["icy", "one day it was hot"]))[0].prediction in LABELS


@pytest.mark.parametrize("name", ["t5", "gpt2"])
@pytest.mark.parametrize("order", ORDERS)
def test_an_explanation_longer_than_the_room_is_learnt_as_far_as_there_is_room(name, order):
    module = explaining_model(name, order, generated_max_tokens=4).double().train()
    words, labels, _ = made(2)
    batch = batch_of(words, labels, ["because it was wet one day", "wet"])
    cut = batch_of(words, labels, ["because it was wet", "wet"])
    with pytest.warns(UserWarning, match="explanations are cut to 4 tokens"):
        found = module.training_step(batch, 0)
    assert torch.allclose(found, module.training_step(cut, 0), rtol=0, atol=1e-12)
