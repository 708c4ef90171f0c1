"""TextDataModule hands people's rationales on, on this tokenizer's tokens, to the mixin that learns from them."""

import json

import pytest
from datasets import Dataset, DatasetDict
from tiny import quiet_trainer, wordpiece

from lightning_interpret import RationaleMixin, RationaleMonitor, TextClassifier, TextDataModule
from lightning_interpret.tasks.encode import encode

ROWS = [
    ("the player was great .", "good", [[4, 10], [15, 20]]),
    ("un  aff bad", "bad", [0, 0, 1]),
    ("good", "good", None),
    ("the dull movie", "bad", []),
] * 2
CONFIG = {
    "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
    "vocab_size": 40, "max_position_embeddings": 40,
}  # fmt: skip


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": t, "label": y, "why": w}) + "\n" for t, y, w in ROWS))

    def made(**options):
        return TextDataModule(train_file=str(path), val_file=str(path), predict_file=str(path), batch_size=4, **options)

    return made


def test_a_batch_says_of_each_token_whether_it_was_selected(data):
    made = data(tokenizer=wordpiece(), rationale_column="why")
    made.setup("fit")
    batch = next(iter(made.val_dataloader()))
    tokens = [made.tokenizer.convert_ids_to_tokens(ids) for ids in batch["input_ids"].tolist()]
    assert tokens[0] == ["[CLS]", "the", "play", "##er", "was", "great", ".", "[SEP]"]
    assert batch["rationale"].tolist() == [
        [-100, 0, 1, 1, 0, 1, 0, -100],
        [-100, 0, 0, 1, -100, -100, -100, -100],
        [-100] * 8,
        [-100, 0, 0, 0, -100, -100, -100, -100],
    ]
    made.setup("predict")
    assert "rationale" not in next(iter(made.predict_dataloader()))
    without = data(tokenizer=wordpiece())
    without.setup("fit")
    assert "rationale" not in next(iter(without.val_dataloader()))


def test_padding_on_the_left_and_a_cut_leave_the_tokens_their_flags():
    left = encode(wordpiece(padding_side="left"), ["bad", "a bad film"], rationales=[[(0, 3)], [(2, 5)]])
    assert left["rationale"].tolist() == [[-100, -100, -100, 1, -100], [-100, 0, 1, 0, -100]]
    cut = encode(wordpiece(), ["a bad film"], max_length=3, rationales=[[(2, 10)]])
    assert cut["rationale"].tolist() == [[-100, 0, -100]]


def test_a_tokenizer_that_does_not_know_where_tokens_stand_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(ValueError, match="which Slow does not know: use a fast tokenizer"):
        encode(Slow(), ["bad"], rationales=[[(0, 3)]])


def test_a_data_set_has_rationales_too(tmp_path):
    columns = {"text": [t for t, _, _ in ROWS], "label": [y for _, y, _ in ROWS]}
    columns["why"] = [json.dumps(w) if w is not None else "" for _, _, w in ROWS]
    DatasetDict({"train": Dataset.from_dict(columns)}).save_to_disk(tmp_path / "set")
    made = TextDataModule(
        dataset=str(tmp_path / "set"), val_split=None, tokenizer=wordpiece(), rationale_column="why", batch_size=8
    )
    made.setup("fit")
    spans = {row.text: row.rationale for split in made.rows.values() for row in split}
    assert spans == {
        t: {0: ((4, 10), (15, 20)), 1: ((8, 11),), 2: None, 3: ()}[i] for i, (t, _, _) in enumerate(ROWS[:4])
    }


def test_a_gate_is_measured_against_people_by_a_monitor(data, tmp_path):
    class Gated(RationaleMixin, TextClassifier):
        pass

    module = Gated(config=CONFIG, labels=["bad", "good"], tokenizer=wordpiece(), rationale_supervision=1.0)
    monitor = RationaleMonitor(probes=4, on_error="raise", save_jsonl=str(tmp_path / "rows.jsonl.out"))
    trainer = quiet_trainer(tmp_path, max_epochs=1, callbacks=[monitor])
    trainer.fit(module, datamodule=data(rationale_column="why"))
    logged = trainer.callback_metrics
    assert 0 <= logged["interpret/rationale/token_f1"] <= 1
    assert logged["interpret/rationale/failures"] == 0
    for name in ("rate", "sufficiency", "comprehensiveness", "sufficiency_control", "comprehensiveness_control"):
        assert logged[f"interpret/rationale/{name}"].isfinite()
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl.out").read_text().splitlines()]
    assert [line["gold_rationale"] is not None for line in lines] == [True, False] * 2  # rows 0, 2, 4, 6
