"""Questions: the places of answers in tokens, windows of long contexts, and the module that learns to find them."""

import json
from itertools import pairwise

import pytest
import torch
from lightning.pytorch import seed_everything
from tiny import VOCABULARY, quiet_trainer, wordpiece
from transformers import BertConfig

from lightning_interpret import QuestionAnswerer, QuestionDataModule
from lightning_interpret.functional.answers import exact_match, token_f1
from lightning_interpret.modules.from_scratch import byte_level
from lightning_interpret.modules.portable import config_values

LONG = "the movie was bad . a play was dull . the film was not good . he is unaffable and very great ."
ROWS = [
    ("he is unaffable and great .", "is he great", "unaffable"),
    ("the play was dull . a film was not bad", "a film", "not bad"),
    ("the movie was very good", "a play", None),
    ("dull movie . the player was great", "the player", "great"),
]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


def write(folder, rows=ROWS, name="rows.jsonl"):
    path = folder / name
    lines = []
    for context, question, answer in rows:
        answers = [] if answer is None else [{"text": answer, "start": context.index(answer)}]
        lines.append(json.dumps({"context": context, "question": question, "answers": answers}) + "\n")
    path.write_text("".join(lines))
    return str(path)


def data_of(folder, rows=ROWS, **options):
    file = write(folder, rows)
    given = {"train_file": file, "val_file": file, "predict_file": file, "tokenizer": wordpiece(), "batch_size": 16}
    return QuestionDataModule(**given | options)


def module_of(**options):
    config = config_values(BertConfig(vocab_size=VOCABULARY, max_position_embeddings=48, **SIZES))
    return QuestionAnswerer(**{"config": config, "tokenizer": wordpiece(), "learning_rate": 5e-3} | options)


def typed():
    """A tokenizer that tells two texts apart by types."""
    return wordpiece(model_input_names=["input_ids", "token_type_ids", "attention_mask"])


def batches_of(data, stage="fit"):
    data.setup(stage)
    return list(data.predict_dataloader() if stage == "predict" else data.val_dataloader())


def answer_at(batch, row):
    """The text that start and end say, by the offsets; None at the first token that is there."""
    start, end = (batch[f"{name}_positions"][row].item() for name in ("start", "end"))
    if start == end == batch["attention_mask"][row].tolist().index(1):
        return None
    a, b = batch["offset_mapping"][row, start, 0].item(), batch["offset_mapping"][row, end, 1].item()
    return batch["context"][row][a:b].strip()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", ["word_piece", "byte_level"])
def test_the_places_of_an_answer_spell_it(tmp_path, side, kind):
    tokenizer = typed() if kind == "word_piece" else byte_level(["the film"], begin=True)
    tokenizer.padding_side = side
    (batch,) = batches_of(data_of(tmp_path, tokenizer=tokenizer))
    assert [answer_at(batch, row) for row in range(4)] == [answer for *_, answer in ROWS]
    assert batch["answers"] == [["unaffable"], ["not bad"], [], ["great"]]
    for row, (context, question, _) in enumerate(ROWS):
        for token in range(batch["input_ids"].shape[1]):
            a, b = batch["offset_mapping"][row, token].tolist()
            text = context if batch["context_mask"][row, token] else question
            assert tokenizer.convert_ids_to_tokens(batch["input_ids"][row, token].item()).strip("#Ġ") in (
                *text[a:b].split(),
                *(tokenizer.all_special_tokens if a == b else ()),
                *([""] if a == b else ()),
            )
    if kind == "word_piece":
        assert batch["token_type_ids"][0][batch["context_mask"][0] == 1].unique().tolist() == [1]


def test_an_answer_takes_the_tokens_that_it_has_a_character_of(tmp_path):
    (batch,) = batches_of(data_of(tmp_path, [("he is unaffable", "he", "naff")]))
    tokens = wordpiece().convert_ids_to_tokens(batch["input_ids"][0].tolist())
    start, end = batch["start_positions"].item(), batch["end_positions"].item()
    assert tokens[start : end + 1] == ["un", "##aff"]


def test_each_window_of_a_long_context_is_an_example_whose_row_is_known(tmp_path):
    data = data_of(tmp_path, [ROWS[0], (LONG, "was he great", "not good")], max_length=16, stride=4)
    (batch,) = batches_of(data)
    assert batch["row_id"].tolist() == [0, *[1] * (len(batch["row_id"]) - 1)]
    ids = batch["example_id"].tolist()
    assert ids == [0, *range(1, 2 * (len(ids) - 1), 2)]  # id + k · 2
    assert data.val_dataloader().dataset.example_ids.tolist() == ids
    assert batch["note"][0] is None
    assert batch["note"][2] == f"window 2 of {len(ids) - 1} of a long context"
    parts = [batch["offset_mapping"][i][batch["context_mask"][i] == 1] for i in range(1, len(ids))]
    assert parts[0][0, 0] == 0
    assert parts[-1][-1, 1] == len(LONG)
    for before, after in pairwise(parts):
        assert len({tuple(p) for p in before.tolist()} & {tuple(p) for p in after.tolist()}) == 4
    found = [answer_at(batch, row) for row in range(len(ids))]
    start = LONG.index("not good")
    whole = [bool(p[0, 0] <= start and p[-1, 1] >= start + 8) for p in parts]
    assert any(whole)
    assert not all(whole)
    assert found == ["unaffable", *("not good" if holds else None for holds in whole)]


def test_all_windows_of_a_row_to_predict_are_in_one_batch(tmp_path):
    rows = [(LONG, "was he great", None), ROWS[0], (LONG, "is he", None)]
    data = data_of(tmp_path, rows, max_length=16, stride=4, batch_size=1)
    batches = batches_of(data, "predict")
    assert [batch["row_id"].unique().tolist() for batch in batches] == [[0], [1], [2]]
    assert "start_positions" not in batches[0]
    assert len(batches[0]["row_id"]) > 2


def test_a_question_that_leaves_no_room_has_its_line(tmp_path):
    data = data_of(tmp_path, [ROWS[0], (LONG, "is he very very very very great", None)], max_length=12, stride=4)
    data.setup("fit")
    said = (
        r"rows\.jsonl, line 2: the question has 7 tokens; with a window of 12 tokens and `stride=4` it leaves no room"
    )
    with pytest.raises(ValueError, match=said):
        data.val_dataloader()


def test_ids_that_leave_no_numbers_for_windows_are_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    row = {"context": LONG, "question": "he", "answers": []}
    path.write_text("".join(json.dumps({**row, "id": number}) + "\n" for number in (0, 2**63 - 2)))
    data = QuestionDataModule(
        train_file=str(path), val_file=str(path), id_column="id", tokenizer=wordpiece(), max_length=16
    )
    data.setup("fit")
    with pytest.raises(ValueError, match="leaves no numbers for the windows of long contexts: leave out `id_column`"):
        data.val_dataloader()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("answerer")
    seed_everything(1, verbose=False)
    module, data = module_of(), data_of(folder)
    before = quiet_trainer(folder).validate(module, data, verbose=False)[0]["val_loss"]
    trainer = quiet_trainer(folder, max_epochs=60, check_val_every_n_epoch=60, num_sanity_val_steps=0)
    trainer.fit(module.train(), data)
    return module.eval(), data, trainer, before, folder


def test_it_learns_its_answers_and_logs_what_it_says(trained):
    module, data, trainer, before, folder = trained
    found = trainer.callback_metrics
    assert found["val_loss"] < 0.2 * before
    rows = [row for part in quiet_trainer(folder).predict(module, data) for row in part]
    gold = [[answer] if answer else [] for *_, answer in ROWS]
    exact = [exact_match(row["answer"], each) for row, each in zip(rows, gold, strict=True)]
    f1 = [token_f1(row["answer"], each) for row, each in zip(rows, gold, strict=True)]
    assert sum(exact) >= 3
    assert found["val_exact_match"].item() == pytest.approx(sum(exact) / 4)
    assert found["val_f1"].item() == pytest.approx(sum(f1) / 4)
    for row, (context, *_) in zip(rows, ROWS, strict=True):
        assert set(row) == {"example_id", "answer", "start", "end", "score"}
        assert row["answer"] == ("" if row["start"] is None else context[row["start"] : row["end"]])
        assert (row["score"] < 0) == (row["answer"] == "")


def test_the_loss_is_that_of_transformers(tmp_path):
    module = module_of().eval()
    (batch,) = batches_of(data_of(tmp_path, [ROWS[0]], tokenizer=typed()))
    accepted = ("input_ids", "attention_mask", "token_type_ids", "start_positions", "end_positions")
    wanted = module.model(**{name: batch[name] for name in accepted}).loss
    torch.testing.assert_close(module._loss(module(batch), batch), wanted)


def test_a_row_says_what_its_best_window_says(tmp_path):
    module = module_of(max_answer_length=2).eval()
    data = data_of(tmp_path, [(LONG, "was he great", "not good")], max_length=16, stride=4)
    (batch,) = batches_of(data, "predict")
    width, windows = batch["input_ids"].shape[1], len(batch["row_id"])
    scores = torch.full((windows, 2, width), -9.0)
    place = batch["context_mask"][1].tolist().index(1)
    scores[1, 0, place], scores[1, 1, place + 1] = 3.0, 2.0
    scores[1, 1, place + 5] = 8.0  # too far from where it begins
    scores[:, :, 0] = 4.0
    scores[2, :, 0] = 1.0  # one window is less sure that there is none
    module.forward = lambda parts: scores
    (row,) = module.predict_step(batch, 0)
    (a, _), (_, b) = batch["offset_mapping"][1, [place, place + 1]].tolist()
    assert row == {"example_id": 0, "answer": LONG[a:b], "start": a, "end": b, "score": 3.0 + 2.0 - 2.0}
    scores[2, :, 0] = 4.0
    (row,) = module.predict_step(batch, 0)
    assert row == {"example_id": 0, "answer": "", "start": None, "end": None, "score": 5.0 - 8.0}


def test_it_comes_back_from_a_checkpoint_and_from_a_directory(trained):
    module, data, trainer, _, folder = trained
    trainer.save_checkpoint(folder / "a.ckpt")
    module.save_pretrained(folder / "saved")
    batch = next(iter(data.val_dataloader()))
    for again in (QuestionAnswerer.load_from_checkpoint(folder / "a.ckpt"), QuestionAnswerer(str(folder / "saved"))):
        with torch.no_grad():
            assert torch.equal(again.eval()(batch), module(batch))


def test_monitors_read_it(tmp_path):
    module = module_of(max_answer_length=7)
    (batch,) = batches_of(data_of(tmp_path))
    task = module.interpret_task()
    assert task.longest == 7
    assert task.gold_names(batch) == ("unaffable", "not bad", "no answer", "great")
    torch.testing.assert_close(task.losses(module.eval(), batch).mean(), module._loss(module(batch), batch))


def test_a_batch_without_its_context_is_refused(tmp_path):
    module = module_of()
    (batch,) = batches_of(data_of(tmp_path))
    parts = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with pytest.raises(ValueError, match="a batch needs `context_mask`"):
        module.predict_step(parts, 0)


def test_an_answer_has_a_token_at_least():
    with pytest.raises(ValueError, match="`max_answer_length=0`"):
        module_of(max_answer_length=0)
