"""Words with tags: their alignment with tokens, and the module that learns them."""

import json

import pytest
import torch
from lightning.pytorch import seed_everything
from tiny import VOCABULARY, quiet_trainer, wordpiece
from torch.nn import functional as F
from transformers import BertConfig, BertForTokenClassification

from lightning_interpret import TaggingDataModule, TokenTagger
from lightning_interpret.functional.entities import entities
from lightning_interpret.modules.from_scratch import byte_level
from lightning_interpret.modules.portable import config_values
from lightning_interpret.modules.tagging_data import words_of

LABELS = ["B-film", "B-who", "I-film", "O"]
ROWS = [
    (["the", "player", "was", "great"], ["O", "B-who", "O", "O"]),
    (["a", "unaffable", "movie"], ["B-film", "I-film", "I-film"]),
    (["he", "is", "bad", "."], ["B-who", "O", "O", "O"]),
]
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}


def write(folder, rows=ROWS, name="rows.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps({"tokens": tokens, "tags": tags}) + "\n" for tokens, tags in rows))
    return str(path)


def data_of(folder, rows=ROWS, **options):
    file = write(folder, rows)
    return TaggingDataModule(
        **{"train_file": file, "val_file": file, "tokenizer": wordpiece(), "batch_size": 8} | options
    )


def module_of(**options):
    config = config_values(BertConfig(vocab_size=VOCABULARY, max_position_embeddings=40, **SIZES))
    return TokenTagger(**{"config": config, "tokenizer": wordpiece(), "learning_rate": 1e-2} | options)


def batch_of(data, stage="fit"):
    data.setup(stage)
    return next(iter(data.predict_dataloader() if stage == "predict" else data.val_dataloader()))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", ["word_piece", "byte_level"])
def test_a_tag_stands_at_the_first_token_of_its_word_and_nowhere_else(tmp_path, side, kind):
    tokenizer = wordpiece() if kind == "word_piece" else byte_level(["the player"], begin=True)
    tokenizer.padding_side = side
    data = data_of(tmp_path, tokenizer=tokenizer)
    batch = batch_of(data)
    assert data.labels == LABELS
    for row, (words, tags) in enumerate(ROWS):
        text, found = " ".join(words), []
        for token in range(batch["input_ids"].shape[1]):
            start, end = batch["offset_mapping"][row, token].tolist()
            label, word = batch["labels"][row, token].item(), batch["word_ids"][row, token].item()
            if start < end:
                assert text[start:end].strip() in words[word]
            if label != -100:
                assert words[word].startswith(text[start:end].strip())
                found.append((word, LABELS[label]))
        assert found == list(enumerate(tags))
    assert bool((batch["labels"][batch["attention_mask"] == 0] == -100).all())
    assert batch["example_id"].tolist() == [0, 1, 2]


def test_a_word_of_several_tokens_has_its_number_at_each(tmp_path):
    batch = batch_of(data_of(tmp_path))
    tokens = wordpiece().convert_ids_to_tokens(batch["input_ids"][1].tolist())
    assert tokens[:7] == ["[CLS]", "a", "un", "##aff", "##able", "movie", "[SEP]"]
    assert batch["word_ids"][1].tolist() == [-1, 0, 1, 1, 1, 2, -1]
    assert [LABELS[i] if i >= 0 else "-" for i in batch["labels"][1].tolist()] == [
        *("-", "B-film", "I-film", "-", "-", "I-film", "-")
    ]


def test_a_token_belongs_to_the_word_that_it_has_a_character_of():
    spans, offsets = [(0, 3), (4, 6), (7, 9)], [(0, 0), (0, 2), (2, 3), (3, 6), (9, 9), (6, 7), (7, 9), (0, 0)]
    assert words_of(spans, offsets) == [-1, 0, 0, 1, -1, -1, 2, -1]


def test_words_that_are_cut_have_no_label_and_it_is_said(tmp_path):
    with pytest.warns(UserWarning, match=r"2 of 3 texts have more than 6 tokens and are cut \(the first on line 1\)"):
        batch = batch_of(data_of(tmp_path, max_length=6))
    assert batch["word_ids"][1].tolist() == [-1, 0, 1, 1, 1, -1]
    assert (batch["labels"][1] != -100).sum() == 2
    assert batch["note"] == [*["cut to 6 of 7 tokens: the model takes no more"] * 2, None]


def test_a_tag_that_is_none_of_the_labels_has_its_line(tmp_path):
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 2: `label='B-film'` does not exist"):
        data_of(tmp_path, labels=["O", "B-who"]).setup("fit")


def test_rows_without_a_word_are_left_out(tmp_path):
    data = data_of(tmp_path, [ROWS[0], ([], []), ROWS[1]])
    with pytest.warns(UserWarning, match=r"1 rows have an empty text and are left out \(lines 2\)"):
        assert batch_of(data)["example_id"].tolist() == [0, 2]


def test_a_slow_tokenizer_is_refused(tmp_path):
    class Slow:
        is_fast, padding_side = False, "right"

    data = data_of(tmp_path, tokenizer=Slow())
    data.setup("fit")
    with pytest.raises(ValueError, match="Tags are aligned by the places of tokens in the text, which Slow does not"):
        data.val_dataloader()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagger")
    seed_everything(0, verbose=False)
    module, data = module_of(), data_of(folder, predict_file=write(folder, name="predict.jsonl"))
    losses = [quiet_trainer(folder).validate(module.train(), data, verbose=False)[0]["val_loss"]]
    trainer = quiet_trainer(folder, max_epochs=40, check_val_every_n_epoch=40, num_sanity_val_steps=0)
    trainer.fit(module, data)
    return module.eval(), data, trainer, losses[0], folder


def test_it_learns_its_tags_and_logs_what_it_says(trained):
    module, data, trainer, before, _ = trained
    found = trainer.callback_metrics
    assert module.labels == LABELS
    assert found["val_loss"] < 0.2 * before
    with torch.no_grad():
        batch = next(iter(data.val_dataloader()))
        scores = module(batch)
    at = batch["labels"] != -100
    loss = F.cross_entropy(scores[at], batch["labels"][at])
    right = (scores.argmax(dim=2)[at] == batch["labels"][at]).float().mean()
    spelled = [
        [
            {tuple(e) for e in entities([LABELS[i] for i in row[keep].tolist()])}
            for row, keep in zip(rows, at, strict=True)
        ]
        for rows in (scores.argmax(dim=2), batch["labels"])
    ]
    same = sum(len(a & b) for a, b in zip(*spelled, strict=True))
    assert found["val_loss"].item() == pytest.approx(loss.item(), abs=1e-5)
    assert found["val_accuracy"].item() == pytest.approx(right.item())
    assert found["val_f1"].item() == pytest.approx(2 * same / sum(len(each) for rows in spelled for each in rows))


def test_it_predicts_words_and_entities(trained):
    module, data, _, _, folder = trained
    rows = [row for part in quiet_trainer(folder).predict(module, data) for row in part]
    assert [row["example_id"] for row in rows] == [0, 1, 2]
    assert [[word["label"] for word in row["words"]] for row in rows] == [tags for _, tags in ROWS]
    assert all(0.25 < word["probability"] <= 1 for row in rows for word in row["words"])
    assert rows[1]["entities"] == [{"label": "film", "start": 0, "end": 3}]


def test_it_comes_back_from_a_checkpoint_and_from_a_directory(trained):
    module, data, trainer, _, folder = trained
    trainer.save_checkpoint(folder / "a.ckpt")
    module.save_pretrained(folder / "saved")
    batch = next(iter(data.val_dataloader()))
    for again in (TokenTagger.load_from_checkpoint(folder / "a.ckpt"), TokenTagger(str(folder / "saved"))):
        assert again.labels == LABELS
        assert again.tokenizer.tokenize("unaffable") == ["un", "##aff", "##able"]
        with torch.no_grad():
            assert torch.equal(again.eval()(batch), module(batch))
    assert isinstance(module.model, BertForTokenClassification)


def test_a_batch_without_a_labelled_word_has_loss_0(tmp_path):
    module, batch = module_of(labels=LABELS), batch_of(data_of(tmp_path))
    batch["labels"] = torch.full_like(batch["labels"], -100)
    loss = module._loss(module(batch), batch)
    assert loss == 0
    loss.backward()


def test_a_batch_that_does_not_say_where_words_begin_is_refused(tmp_path):
    module, batch = module_of(labels=LABELS), batch_of(data_of(tmp_path))
    parts = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with pytest.raises(ValueError, match="does not say where words begin: give `word_ids`"):
        module.predict_step(parts, 0)


def test_monitors_read_it(tmp_path):
    module, batch = module_of(labels=LABELS), batch_of(data_of(tmp_path))
    task = module.interpret_task()
    assert type(task).__name__ == "TokenClassification"
    assert task.labels is not None
    assert task.losses(module, batch).shape == (3,)
    assert [len(rows) for rows in task._gold_tags(batch)] == [4, 3, 4]
