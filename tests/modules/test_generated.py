"""GeneratedTextClassifier with TextDataModule: explanations read from a column, written for predictions, kept."""

import json

import pytest
import torch
from generated_toys import LABELS, MODELS, batch_of, made, word_tokenizer
from tiny import lively, quiet_trainer
from transformers import BertConfig, DistilBertConfig

from lightning_interpret import GeneratedTextClassifier, IntegratedGradients, TextDataModule, explain
from lightning_interpret.modules.portable import config_values


@pytest.fixture
def written(tmp_path):
    """Write rows with explanations, some of them empty, and return the path."""

    def written(count=24, seed=0, name="rows.jsonl", without=4):
        rows = zip(*made(count, seed, length=(2, 4)), strict=True)
        lines = [
            {"text": text, "label": LABELS[label], "why": [explanation, "", None][0 if i >= without else 1 + i % 2]}
            for i, (text, label, explanation) in enumerate(rows)
        ]
        path = tmp_path / name
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return str(path)

    return written


def module_of(name="t5", **options):
    torch.manual_seed(0)
    given = {"labels": LABELS, "learning_rate": 1e-2, "tokenizer": word_tokenizer(), "generated_max_tokens": 6}
    return GeneratedTextClassifier(config=config_values(MODELS[name]().config), **given | options)


def test_explanations_are_read_with_the_rows(written):
    data = TextDataModule(train_file=written(), tokenizer=word_tokenizer(), batch_size=4, explanation_column="why")
    data.setup("fit")
    tokenizer = word_tokenizer()
    found = {}
    for batch in data.train_dataloader():
        for example, ids in zip(batch["example_id"].tolist(), batch["explanation_ids"], strict=True):
            found[example] = tokenizer.decode(ids[ids >= 0])
            assert ids[(ids >= 0).sum() :].eq(-100).all()
    explanations = made(24, 0, length=(2, 4))[2]
    assert {i: found[i] for i in found} == {i: "" if i < 4 else explanations[i] for i in found}
    assert len(found) == 22  # the others are held out
    data.setup("validate")
    assert "explanation_ids" in next(iter(data.val_dataloader()))


def test_columns_that_hold_no_explanations_are_named(written, tmp_path):
    given = {"tokenizer": word_tokenizer(), "explanation_column": "why"}
    with pytest.raises(ValueError, match="no row has an explanation in column 'why'"):
        TextDataModule(train_file=written(without=24), **given).setup("fit")
    with pytest.raises(ValueError, match="explanation_column='reason'"):
        TextDataModule(train_file=written(), **given | {"explanation_column": "reason"}).setup("fit")
    path = tmp_path / "numbers.jsonl"
    path.write_text(json.dumps({"text": "one day", "label": "sun", "why": 3}) + "\n")
    with pytest.raises(ValueError, match="'why' holds 3"):
        TextDataModule(train_file=str(path), **given).setup("fit")
    path = tmp_path / "texts.txt"
    path.write_text("one day\n")
    with pytest.raises(ValueError, match="has no columns"):
        TextDataModule(train_file=str(path), **given).setup("fit")


@pytest.mark.parametrize(("name", "order"), [("t5", "explain_then_predict"), ("gpt2", "jointly")])
def test_a_run_from_rows_to_predictions(name, order, written, tmp_path):
    rows = written()
    data = TextDataModule(
        train_file=rows,
        val_file=rows,
        predict_file=written(8, 1, "others.jsonl"),
        batch_size=8,
        explanation_column="why",
    )
    module = module_of(name, generated_order=order)
    trainer = quiet_trainer(tmp_path, max_epochs=2)
    trainer.fit(module, data)
    assert {"generated/overlap", "generated/shuffled_overlap", "val_f1"} <= set(trainer.callback_metrics)
    trainer.save_checkpoint(tmp_path / "it.ckpt")
    again = GeneratedTextClassifier.load_from_checkpoint(tmp_path / "it.ckpt").eval()
    assert (again.hparams["generated_order"], again.labels) == (order, LABELS)
    (found,) = trainer.predict(again, data)
    batch = next(iter(data.predict_dataloader()))
    for row, expected in zip(found, again.explain(batch), strict=True):
        assert (row["label"], row["explanation"]) == (expected.prediction, expected.explanation)
        assert row["probability"][row["label"]] == pytest.approx(expected.probability, abs=1e-5)
    with torch.no_grad():
        assert torch.equal(module.eval()(batch), again(batch))


@pytest.mark.parametrize("name", ["t5", "bart", "gpt2", "llama"])
@pytest.mark.parametrize("order", ["predict_then_explain", "jointly"])
def test_saliency_is_of_the_words_that_the_label_is_read_from(name, order):
    module, texts = module_of(name, generated_order=order).double().eval(), ["one day it was hot", "icy"]
    method = IntegratedGradients(steps=64)
    found = explain(module, word_tokenizer(), texts, method=method)
    with torch.no_grad():
        scores = module(batch_of(texts))
    for row, text, best in zip(found, texts, scores.max(dim=1).values.tolist(), strict=True):
        assert [token for token, pad in zip(row.tokens, row.special, strict=True) if not pad] == text.split()
        assert row.target == pytest.approx(best)
        assert abs(row.error) < 1e-2 * max(1, abs(row.attribution_target))


@pytest.mark.parametrize("name", ["t5", "gpt2"])
@pytest.mark.parametrize("reads", ["explanation", "both"])
def test_saliency_of_a_label_that_is_read_from_an_explanation_is_of_its_words(name, reads):
    module = lively(module_of(name, generated_order="explain_then_predict", generated_reads=reads).double())
    texts = ["one day it was hot", "icy"]
    written = [row.explanation for row in module.explain(batch_of(texts))]
    found = explain(module, word_tokenizer(), texts, method=IntegratedGradients(steps=64))
    with torch.no_grad():
        best = module(batch_of(texts)).max(dim=1).values.tolist()
    for row, text, explanation, score in zip(found, texts, written, best, strict=True):
        words = [token for token in row.tokens if token not in ("[EOS]", "[UNK]", "[PAD]")]  # as it is decoded
        assert " ".join(words) == " ".join([*([text] if reads == "both" else []), "explanation:", explanation]).strip()
        assert row.target == pytest.approx(score)
        assert abs(row.error) < 1e-2 * max(1, abs(row.attribution_target))


@pytest.mark.parametrize("kind", [BertConfig, DistilBertConfig])
def test_a_configuration_without_a_decoder_is_refused(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__} has no decoder"):
        GeneratedTextClassifier(config=config_values(kind()), labels=LABELS, tokenizer=word_tokenizer())
