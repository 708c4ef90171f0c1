"""Pairs of texts, several labels a text, and numbers: their batches, and what TextClassifier learns of them."""

import json

import pytest
import torch
from lightning.pytorch import seed_everything
from tiny import VOCABULARY, quiet_trainer, wordpiece
from torch.nn import functional as F
from transformers import BertConfig

from lightning_interpret import GeneratedTextClassifier, TextClassifier, TextDataModule
from lightning_interpret.modules.portable import config_values

TEXTS = ["the film was great", "a dull movie", "he is bad", "the play was not good ."]
TAGS = [["good"], ["dull", "film"], [], ["film"]]
SCORES = [2.5, -1.0, -2.0, 0.5]
SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
SIZES |= {"initializer_range": 0.2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # learns fast


def write(folder, **columns):
    path = folder / "rows.jsonl"
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def data_of(file, **options):
    given = {"train_file": file, "val_file": file, "predict_file": file, "tokenizer": wordpiece(), "batch_size": 4}
    return TextDataModule(**given | options)


def module_of(**options):
    seed_everything(0, verbose=False)
    config = config_values(BertConfig(vocab_size=VOCABULARY, max_position_embeddings=40, **SIZES))
    return TextClassifier(**{"config": config, "tokenizer": wordpiece(), "learning_rate": 1e-2} | options)


def batch_of(data):
    data.setup("fit")
    return next(iter(data.val_dataloader()))


def fitted(folder, module, data, epochs=30):
    trainer = quiet_trainer(folder, max_epochs=epochs, check_val_every_n_epoch=epochs, num_sanity_val_steps=0)
    trainer.fit(module, data)
    rows = [row for part in quiet_trainer(folder).predict(module, data) for row in part]
    return trainer.callback_metrics, rows, trainer


# Pairs


def test_pairs_are_two_texts_with_their_types_and_places(tmp_path):
    file = write(tmp_path, text=TEXTS, other=TEXTS[::-1], label=["a", "b", "a", "b"])
    tokenizer = wordpiece(model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    batch = batch_of(data_of(file, pair_column="other", tokenizer=tokenizer))
    for row, (first, second) in enumerate(zip(TEXTS, TEXTS[::-1], strict=True)):
        there = batch["attention_mask"][row] == 1
        ids, types = batch["input_ids"][row][there], batch["token_type_ids"][row][there]
        assert ids.tolist() == tokenizer(first, second)["input_ids"]
        for token, (kind, (a, b)) in enumerate(zip(types, batch["offset_mapping"][row][there].tolist(), strict=True)):
            if a < b:
                text = (first, second)[kind]
                assert tokenizer.convert_ids_to_tokens(ids[token].item()).removeprefix("##") == text[a:b]
    assert batch["labels"].tolist() == [0, 1, 0, 1]
    assert batch["note"] == [None] * 4


def test_of_a_pair_the_longer_text_is_cut_first_and_it_is_said(tmp_path):
    long = "he is a very good player and the film was great"
    file = write(tmp_path, text=[long, "bad"], other=["not bad", "dull"], label=["a", "b"])
    with pytest.warns(UserWarning, match=r"1 of 2 texts have more than 9 tokens and are cut \(the first on line 1\)"):
        batch = batch_of(data_of(file, pair_column="other", max_length=9))
    tokens = wordpiece().convert_ids_to_tokens(batch["input_ids"][0].tolist())
    assert tokens == ["[CLS]", *long.split()[:4], "[SEP]", "not", "bad", "[SEP]"]
    assert batch["note"] == ["cut to 9 of 17 tokens: the model takes no more", None]


def test_pairs_and_rationales_exclude_each_other():
    with pytest.raises(ValueError, match=r"`rationale_column='why'` .*`pair_column='other'`: leave one of the two out"):
        TextDataModule(pair_column="other", rationale_column="why")


def test_a_classifier_learns_from_what_two_texts_have_to_do_with_each_other(tmp_path):
    words = ["good", "bad", "film", "play"]
    pairs = [(a, b) for a in words for b in words]
    labels = ["same" if a == b else "other" for a, b in pairs]
    file = write(tmp_path, text=[a for a, _ in pairs], other=[b for _, b in pairs], label=labels)
    module = module_of(learning_rate=2e-2)
    found, rows, _ = fitted(tmp_path, module, data_of(file, pair_column="other", batch_size=16), epochs=60)
    assert found["val_accuracy"] > 0.9
    assert [row["label"] for row in rows].count("same") >= 3


# Several labels


@pytest.mark.parametrize("kind", ["lists", "columns"])
def test_several_labels_are_flags_of_each(tmp_path, kind):
    if kind == "lists":
        file, options = write(tmp_path, text=TEXTS, label=TAGS), {}
    else:
        columns = {name: [int(name in tags) for tags in TAGS] for name in ("dull", "film", "good")}
        file, options = write(tmp_path, text=TEXTS, **columns), {"label_columns": list(columns)}
    data = data_of(file, problem="multi_label", **options)
    batch = batch_of(data)
    assert data.labels == ["dull", "film", "good"]
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].tolist() == [[0, 0, 1], [1, 1, 0], [0, 0, 0], [0, 1, 0]]


def test_a_label_that_is_none_of_several_has_its_line(tmp_path):
    data = data_of(write(tmp_path, text=TEXTS, label=TAGS), problem="multi_label", labels=["good", "dull"])
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 2: `label='film'` does not exist"):
        data.setup("fit")


def test_several_labels_are_learnt_logged_kept_and_predicted(tmp_path):
    module, data = module_of(problem="multi_label"), data_of(write(tmp_path, text=TEXTS, label=TAGS))
    found, rows, trainer = fitted(tmp_path, module, data)
    assert module.model.config.problem_type == "multi_label_classification"
    batch = next(iter(data.val_dataloader()))
    with torch.no_grad():
        scores, gold = module.eval()(batch), batch["labels"]
    said = scores.sigmoid() > 0.5
    assert found["val_loss"].item() == pytest.approx(F.binary_cross_entropy_with_logits(scores, gold).item(), abs=1e-5)
    assert found["val_accuracy"].item() == pytest.approx((said == gold.bool()).float().mean().item())
    f1 = [2 * (s & g).sum() / max(1, s.sum() + g.sum()) for s, g in zip(said.T, gold.bool().T, strict=True)]
    assert found["val_f1"].item() == pytest.approx((sum(f1) / 3).item())
    assert [row["labels"] for row in rows] == TAGS
    assert list(rows[0]["probability"]) == ["dull", "film", "good"]
    assert type(module.interpret_task()).__name__ == "MultiLabelClassification"
    torch.testing.assert_close(module.interpret_task().losses(module, batch).mean(), module._loss(scores, batch))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    module.save_pretrained(tmp_path / "saved")
    for again in (TextClassifier.load_from_checkpoint(tmp_path / "a.ckpt"), TextClassifier(str(tmp_path / "saved"))):
        assert again.problem == "multi_label"
        with torch.no_grad():
            assert torch.equal(again.eval()(batch), scores)


# Numbers


@pytest.mark.parametrize("count", [1, 2])
def test_numbers_are_learnt_logged_kept_and_predicted(tmp_path, count):
    columns = {"mood": SCORES, "length": [float(len(text.split())) for text in TEXTS]}
    names = list(columns)[:count]
    options = {"label_column": "mood"} if count == 1 else {"label_columns": names}
    module = module_of(problem="regression")
    data = data_of(write(tmp_path, text=TEXTS, **columns), **options)
    found, rows, trainer = fitted(tmp_path, module, data, epochs=30)
    assert module.labels == names
    assert module.model.config.problem_type == "regression"
    gold = torch.tensor([columns[name] for name in names]).T
    batch = next(iter(data.val_dataloader()))
    assert torch.equal(batch["labels"].reshape(4, -1), gold)
    assert batch["labels"].dim() == (1 if count == 1 else 2)
    with torch.no_grad():
        scores = module.eval()(batch)
    assert found["val_loss"].item() == pytest.approx(F.mse_loss(scores, gold).item(), abs=1e-4)
    assert found["val_mae"].item() == pytest.approx((scores - gold).abs().mean().item(), abs=1e-4)
    explained = 1 - (gold - scores).var(dim=0) / gold.var(dim=0)
    assert found["val_explained_variance"].item() == pytest.approx(explained.mean().item(), abs=1e-4)
    assert explained.mean() > 0.8
    assert rows[1]["value"] == pytest.approx(dict(zip(names, scores[1].tolist(), strict=True)))
    torch.testing.assert_close(module.interpret_task().losses(module, batch).mean(), module._loss(scores, batch))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = TextClassifier.load_from_checkpoint(tmp_path / "a.ckpt")
    assert again.problem == "regression"
    with torch.no_grad():
        assert torch.equal(again.eval()(batch), scores)


def test_numbers_that_are_not_as_many_as_outputs_are_said(tmp_path):
    data = data_of(write(tmp_path, text=TEXTS, mood=SCORES), label_column="mood", problem="regression")
    module = module_of(problem="regression", labels=["mood", "length"])
    with pytest.raises(ValueError, match=r"`labels=\['mood', 'length'\]` name 2 numbers, but the rows have \['mood'\]"):
        quiet_trainer(tmp_path, fast_dev_run=True).fit(module, data)
    with pytest.raises(ValueError, match=r"Labels \(4,\) do not fit scores \(4, 2\)"):
        module._loss(torch.zeros(4, 2), {"labels": torch.zeros(4)})


# Options


def test_options_that_do_not_go_together_are_refused(tmp_path):
    file = write(tmp_path, text=TEXTS, label=["a", "b", "a", "b"])
    with pytest.raises(ValueError, match=r"`problem='multilabel'` does not exist. Did you mean 'multi_label'"):
        TextDataModule(problem="multilabel")
    with pytest.raises(ValueError, match="`problem='multilabel'` does not exist"):
        module_of(problem="multilabel")
    with pytest.raises(ValueError, match=r"`label_columns=\['label'\]` are of several labels or numbers"):
        data_of(file, label_columns=["label"]).setup("fit")
    with pytest.raises(ValueError, match=r"`label_columns='label'` must be a list"):
        data_of(file, label_columns="label")
    with pytest.raises(ValueError, match="The data has `problem='regression'`, but the module has `problem='single"):
        quiet_trainer(tmp_path, fast_dev_run=True).fit(module_of(), data_of(file, problem="regression"))


def test_a_classifier_that_writes_its_label_has_one_a_text():
    config = {"model_type": "t5", "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    with pytest.raises(ValueError, match="`problem='multi_label'`: GeneratedTextClassifier writes one label a text"):
        GeneratedTextClassifier(config=config, labels=["a", "b"], tokenizer=wordpiece(), problem="multi_label")
