"""What a model says of its predictions: rows, what is measured at validation, bad input, and checkpoints."""

import json
import warnings

import pytest
import torch
from generated_toys import EVIDENCE, LABELS, Explaining, Own, batch_of, explaining_model, loader, made, word_tokenizer
from lightning.pytorch import LightningModule
from purity import assert_same, state_of
from tiny import quiet_trainer
from torch.nn import functional as F
from transformers import BertConfig, BertLMHeadModel, BertModel

from lightning_interpret import GeneratedRationaleMixin, GeneratedRow, RationaleMonitor
from lightning_interpret.functional.overlap import word_f1

FIRST = {"generated_order": "explain_then_predict"}
ORDERS = ["predict_then_explain", "explain_then_predict", "jointly"]


def fit(module, folder, train=None, **options):
    torch.manual_seed(0)
    trainer = quiet_trainer(folder, **{"max_epochs": 1} | options)
    trainer.fit(
        module, train or loader(64, batch_size=16, length=(2, 3)), loader(24, seed=1, batch_size=16, length=(2, 3))
    )
    return trainer


@pytest.mark.parametrize("order", ORDERS)
def test_rows_say_what_was_written_of_which_label_and_what_it_is_worth(order):
    module = explaining_model("t5", order, generated_max_tokens=5)
    words, labels, explanations = made(4)
    batch = batch_of(words, labels, [*explanations[:3], ""])
    module.configure_model()
    before = state_of(module)
    rows = module.explain(batch)
    assert_same(before, state_of(module), objects=True)
    with torch.no_grad():
        scores = module(batch)
    for i, row in enumerate(rows):
        assert isinstance(row, GeneratedRow)
        assert row.to_dict() == GeneratedRow.from_dict(row.to_dict()).to_dict()
        assert (row.text, row.order, row.example_id) == (words[i], order, i)
        assert row.prediction == row.target_name == LABELS[int(scores[i].argmax())]
        assert row.gold == LABELS[labels[i]]
        assert row.probability == pytest.approx(scores[i].softmax(0).max().item(), abs=1e-5)
        assert row.gold_explanation == (explanations[i] if i < 3 else None)
        assert row.overlap == (word_f1(row.explanation, explanations[i]) if i < 3 else None)
        assert (row.erased is None) == ("erased" in row.reasons) == (order != "explain_then_predict")
        assert row.log_likelihood < 0
    named = module.explain(batch, "snow")
    assert {row.target_name for row in named} == {"snow"}
    assert [row.target_name for row in module.explain(batch, "gold")] == [LABELS[label] for label in labels]
    if order != "explain_then_predict":  # the text is written of the label
        assert [row.explanation for row in named] != [row.explanation for row in module.explain(batch, "rain")]
    with pytest.raises(ValueError, match="a text explains one"):
        module.explain(batch, "sun-rain")


@pytest.mark.parametrize("order", ORDERS)
def test_the_log_likelihood_is_that_of_the_explanation_alone(order):
    module = explaining_model("gpt2", order, generated_max_tokens=5)
    words, labels, _ = made(3)
    batch = batch_of(words, labels)
    explained = torch.tensor(labels)
    if order == "explain_then_predict":
        explained = torch.zeros(3, dtype=torch.long)
    rows = module.explain(batch, "gold")
    tokens = module.write_explanations(batch, explained)
    with torch.no_grad():
        logs, there = module.explanation_log_probs(batch, explained, tokens)
    for i, row in enumerate(rows):
        count = int(tokens.lengths[i]) + 1
        assert row.log_likelihood == pytest.approx(logs[i][there[i]][-count:].mean().item(), abs=1e-5)


def test_figures_of_validation_stand_beside_one_another(tmp_path):
    module = Explaining(**FIRST, generated_max_tokens=5)
    seen = fit(module, tmp_path).callback_metrics
    names = {name.removeprefix("generated/") for name in seen if name.startswith("generated/")}
    assert names == {"log_likelihood", "probability", "erased", "shuffled_accuracy", "overlap", "shuffled_overlap"}
    batches = list(loader(24, seed=1, batch_size=16, length=(2, 3)))
    rows = [row for batch in batches for row in module.explain(batch)]
    for name in ("log_likelihood", "probability", "erased", "overlap"):
        mean = sum(getattr(row, name) for row in rows) / len(rows)
        assert float(seen[f"generated/{name}"]) == pytest.approx(mean, abs=1e-5), name
    after = Explaining(generated_max_tokens=5, generated_validated=3)
    seen = fit(after, tmp_path).callback_metrics
    names = {name.removeprefix("generated/") for name in seen if name.startswith("generated/")}
    assert names == {"log_likelihood", "probability", "overlap", "shuffled_overlap"}
    first = after.explain(batches[0])[:3]
    assert float(seen["generated/overlap"]) == pytest.approx(sum(row.overlap for row in first) / 3, abs=1e-5)


def test_a_monitor_shows_what_is_written_and_leaves_the_run_as_it_is(tmp_path):
    watching = RationaleMonitor(probes=2, on_error="raise", save_jsonl=str(tmp_path / "said.jsonl"))
    module, alone = Explaining(**FIRST), Explaining(**FIRST)
    seen = fit(module, tmp_path, callbacks=[watching]).callback_metrics
    fit(alone, tmp_path)
    assert module.losses == alone.losses
    said = [GeneratedRow.from_dict(json.loads(line)) for line in (tmp_path / "said.jsonl").read_text().splitlines()]
    mean = sum(row.overlap for row in said[-2:]) / 2
    assert float(seen["interpret/rationale/overlap"]) == pytest.approx(mean, abs=1e-5)
    assert {row.order for row in said} == {"explain_then_predict"}


def test_a_module_with_its_checkpoint_is_the_one_that_was_saved(tmp_path):
    trainer = fit(module := Explaining(**FIRST), tmp_path)
    trainer.save_checkpoint(tmp_path / "it.ckpt")
    again = Explaining(**FIRST, seed=3)
    again.load_state_dict(torch.load(tmp_path / "it.ckpt", weights_only=True)["state_dict"])
    batch = batch_of(*made(6))
    assert torch.equal(module.eval()(batch), again.eval()(batch))
    other = Explaining(generated_order="jointly")
    with pytest.warns(UserWarning, match="order explain_then_predict, and here jointly"):
        other.load_state_dict(module.state_dict())


def test_the_plain_module_reads_and_learns_no_explanation():
    module = explaining_model("t5", "explain_then_predict").train()
    batch = batch_of(*made(5))
    module.become_plain()
    assert torch.equal(module.training_step(batch, 0), F.cross_entropy(module(batch), batch["labels"]))
    without = batch_of(*made(5)[:2])
    assert torch.equal(module(batch), module(without))


@pytest.mark.parametrize("kind", [BertModel, BertLMHeadModel])
def test_a_model_without_a_decoder_is_named(kind):
    class Wrong(GeneratedRationaleMixin, LightningModule):
        def __init__(self):
            super().__init__(generated_labels=LABELS)
            sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
            self.model, self.tokenizer = kind(BertConfig(vocab_size=60, **sizes)), word_tokenizer()

    with pytest.raises(ValueError, match=f"{kind.__name__} has no decoder.*T5"):
        Wrong().label_scores(batch_of(["one day"]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"generated_labels": ["sun", "rain", "hail"]}, "generated_labels.*does not know all of 'hail'"),
        ({"generated_labels": ["sun", "rain", "rain "]}, "'rain' and 'rain ' are written alike"),
        ({"generated_labels": ["sun", " ", "rain"]}, "has no tokens"),
        ({"generated_labels": ["sun", "rain"]}, "what is written for each class.*'snow'"),
        ({"generated_explanation_mark": "therefore:"}, "generated_explanation_mark.*does not know"),
        ({"name": "gpt2", "generated_label_mark": ""}, "generated_label_mark.*has no tokens"),
        ({"generated_order": "jointly", "generated_explanation_mark": " "}, "generated_explanation_mark"),
        ({"generated_order": "explain"}, "Did you mean 'explain_then_predict'|generated_order='explain'"),
        ({"generated_reads": "both"}, "no prediction reads an explanation"),
        ({"generated_weight": -1.0}, "generated_weight=-1.0"),
        ({"generated_max_tokens": 0}, "generated_max_tokens=0"),
        ({"tokenizer": word_tokenizer(eos_token=None)}, "no token that ends a text"),
    ],
)
def test_options_that_make_no_sense_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        Explaining(**options).label_scores(batch_of(["one day"]))


def test_what_is_missing_of_module_or_batch_is_named():
    module = explaining_model().train()
    with pytest.raises(ValueError, match=r"no `explanation_ids`.*explanation_column"):
        module.training_step(batch_of(*made(2)[:2]), 0)
    words, _, explanations = made(2)
    with pytest.raises(ValueError, match="no labels"):
        module.training_step(batch_of(words, None, explanations), 0)
    module.tokenizer = None
    with pytest.raises(ValueError, match="no `tokenizer`"):
        module.label_scores(batch_of(words))


def test_training_rows_without_explanations_are_told_of(tmp_path):
    with pytest.warns(UserWarning, match="no training row of this epoch has an explanation"):
        fit(Explaining(), tmp_path, loader(32, batch_size=16, share=0, length=(2, 3)))


@pytest.mark.parametrize(("name", "order"), [("gpt2", "predict_then_explain"), ("bart", "explain_then_predict")])
def test_what_is_too_long_is_cut_and_told_of_once(name, order):
    options = {"generated_reads": "both"} if order == "explain_then_predict" else {}
    module = explaining_model(name, order, generated_max_tokens=6, **options).train()
    words, labels, explanations = made(2, length=(62, 62))
    batch = batch_of(words, labels, [" ".join(explanations * 3), ""])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            module.training_step(batch, 0)
        rows = module.explain(batch)
    told = [str(each.message) for each in told if "Generated explanations" in str(each.message)]
    assert sorted(text.split(" are cut")[0].split(": ")[1] for text in told) == ["explanations", "texts"]
    assert all(len(row.explanation.split()) <= 6 for row in rows)
    assert rows[0].gold_explanation == " ".join(" ".join(explanations * 3).split()[:6])


def test_words_in_common():
    assert word_f1("It was wet.", "it was WET") == 1
    assert word_f1("wet wet day", "the wet day") == pytest.approx(2 / 3)
    assert word_f1("", "wet") == 0 == word_f1("wet", "")
    assert word_f1("", "!") == 1
    assert len({word for words in EVIDENCE for word in words}) == 9
    assert not hasattr(Own, "label_scores")
