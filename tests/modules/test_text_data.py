import gzip
import json

import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from tiny import quiet_trainer, wordpiece

from lightning_interpret import TextDataModule
from lightning_interpret.data.concept_sets import text_in

ROWS = [("good film", "good"), ("a dull play", "dull"), ("the movie was not bad", "good"), ("bad", "dull")]


@pytest.fixture
def write(tmp_path):
    def write(name, rows, header="text\tlabel"):
        path = tmp_path / name
        path.write_text("\n".join([header, *("\t".join(map(str, row)) for row in rows)]) + "\n")
        return str(path)

    return write


def module_for(**options):
    return TextDataModule(**({"tokenizer": wordpiece(), "batch_size": 2} | options))


def ready(stage="fit", **options):
    data = module_for(**options)
    data.setup(stage)
    return data


def texts(loader, tokenizer=None):
    tokenizer = tokenizer or wordpiece()
    return [
        tokenizer.decode([i for i, keep in zip(ids, mask, strict=True) if keep], skip_special_tokens=True)
        for batch in loader
        for ids, mask in zip(batch["input_ids"].tolist(), batch["attention_mask"].tolist(), strict=True)
    ]


# Labels


def test_an_unknown_label_of_the_validation_rows_has_its_line_and_the_near_ones(write):
    train, val = write("train.tsv", ROWS), write("val.tsv", [*ROWS, ("good", "godo")])
    with pytest.raises(
        ValueError, match=r"val\.tsv, line 6: `label='godo'` does not exist. Did you mean 'good'"
    ) as said:
        ready(train_file=train, val_file=val)
    assert "There is: dull, good." in str(said.value)


def test_an_unknown_label_of_the_training_rows_is_refused_where_labels_are_given(write):
    with pytest.raises(ValueError, match=r"train\.tsv, line 3: `label='dull'` does not exist"):
        ready(train_file=write("train.tsv", ROWS), labels=["good", "bad"])


def test_a_label_that_only_the_held_out_rows_have_is_a_label(write):
    rows = [("good film", "good"), ("dull", "dull"), ("very bad", "bad")]
    for seed in range(3):
        data = ready(train_file=write("train.tsv", rows), seed=seed)
        assert data.labels == ["bad", "dull", "good"]


def test_digits_stand_for_the_labels_at_their_place(write):
    rows = [("good film", "1"), ("dull", "0"), ("bad", "dull")]
    data = ready(train_file=write("a.tsv", rows), val_file=write("b.tsv", rows), labels=["dull", "good"])
    assert [row.label for row in data.rows["val"]] == ["good", "dull", "dull"]
    assert torch.cat([batch["labels"] for batch in data.val_dataloader()]).tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match=r"line 2: `label='2'` does not exist"):
        ready(train_file=write("c.tsv", [("good", "2"), ("bad", "0")]), labels=["dull", "good"])


def test_labels_of_digits_are_ordered_as_numbers(write):
    data = ready(train_file=write("a.tsv", [("good", i) for i in (10, 9, 2, 2)]))
    assert data.labels == ["2", "9", "10"]


# What cannot be read


@pytest.mark.parametrize("option", ["text_column", "label_column", "id_column"])
def test_a_missing_column_is_named_with_those_there_are(write, option):
    with pytest.raises(ValueError, match=rf"line 1: `{option}='labal'` does not exist") as said:
        ready(train_file=write("train.tsv", ROWS), **{option: "labal"})
    assert "Did you mean 'label'" in str(said.value)
    assert "There is: text, label." in str(said.value)


def test_an_unreadable_row_has_its_line(write):
    with pytest.raises(ValueError, match=r"train\.tsv, line 4: 3 fields, but the header has 2"):
        ready(train_file=write("train.tsv", [*ROWS[:2], ("a", "b", "c"), *ROWS[2:]]))


def test_empty_texts_are_left_out_and_said(write):
    rows = [ROWS[0], ("", "good"), ROWS[1], ("  ", "dull"), ROWS[2]]
    with pytest.warns(UserWarning, match=r"val\.tsv: 2 rows have an empty text and are left out \(lines 3, 5\)"):
        data = ready(train_file=write("train.tsv", ROWS), val_file=write("val.tsv", rows))
    assert [row.text for row in data.rows["val"]] == [text for text, _ in ROWS[:3]]
    assert [row.example_id for row in data.rows["val"]] == [0, 2, 4]


@pytest.mark.filterwarnings("ignore:.*have an empty text")
def test_nothing_but_empty_texts_is_an_error(write):
    with pytest.raises(ValueError, match=r"train\.tsv: every text in column 'text' is empty"):
        ready(train_file=write("train.tsv", [("", "good"), (" ", "dull")]))


def test_a_missing_file_is_named_with_the_near_ones(write, tmp_path):
    write("train.tsv", ROWS)
    with pytest.raises(FileNotFoundError, match=r"trian\.tsv'` does not exist. Did you mean '.*train\.tsv'"):
        ready(train_file=str(tmp_path / "trian.tsv"))


@pytest.mark.parametrize(("stage", "split"), [("fit", "train"), ("validate", "val"), ("test", "test")])
def test_a_stage_without_rows_says_what_to_give(stage, split):
    with pytest.raises(ValueError, match=f"`{stage}` needs {split} rows: give `{split}_file`"):
        ready(stage)


def test_files_and_a_data_set_exclude_each_other(write):
    with pytest.raises(ValueError, match="Give either `dataset` or files"):
        TextDataModule(dataset="imdb", train_file="a.tsv")


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_a_share_to_hold_out_lies_between_nothing_and_all(share):
    with pytest.raises(ValueError, match=r"`val_fraction=.*` must lie between 0 and 1"):
        TextDataModule(train_file="a.tsv", val_fraction=share)


def test_without_a_tokenizer_the_remedy_is_said(write):
    with pytest.raises(ValueError, match="`tokenizer=None`, and the module has no `tokenizer`"):
        ready(train_file=write("a.tsv", ROWS), tokenizer=None).train_dataloader()


# Lengths


def test_texts_that_are_cut_are_said(write):
    rows = [*ROWS, ("good " * 30, "good"), ("dull " * 40, "dull")]
    data = ready(train_file=write("train.tsv", rows), val_file=write("val.tsv", ROWS), max_length=10)
    said = r"train\.tsv: 2 of 6 texts have more than 10 tokens and are cut \(the first on line 6\)"
    with pytest.warns(UserWarning, match=said):
        loader = data.train_dataloader()
    assert max(batch["input_ids"].shape[1] for batch in loader) == 10
    assert sum(note is not None for batch in loader for note in batch["note"]) == 2


@pytest.mark.filterwarnings("ignore:.*have more than 10 tokens")
def test_an_example_of_the_data_set_has_its_text_whole(write):
    path = write("train.tsv", [*ROWS, ("good " * 30, "good")])
    loader = ready(train_file=path, val_file=path, max_length=10).val_dataloader()
    assert text_in(loader.dataset[len(ROWS)]).split() == ["good"] * 30


def test_a_text_of_more_tokens_than_characters_is_said(write):
    path = write("train.tsv", [("a", "good"), ("a.a.", "dull")])  # 6 tokens, of which two frame the text
    with pytest.warns(UserWarning, match=r"1 of 2 texts have more than 5 tokens .* line 3"):
        ready(train_file=path, val_file=path, max_length=5).train_dataloader()


def test_texts_that_fit_are_not_spoken_of(write, recwarn):
    ready(train_file=write("train.tsv", ROWS), max_length=10).train_dataloader()
    assert not [str(warning.message) for warning in recwarn if "tokens" in str(warning.message)]


# What is held out


def test_the_same_rows_are_held_out_each_time(write):
    path = write("train.tsv", [(f"good film {i}", "good" if i % 2 else "dull") for i in range(40)])
    first, again = ready(train_file=path), ready("validate", train_file=path)
    assert first.rows == again.rows
    again.setup("fit")  # which reads nothing twice
    assert first.rows == again.rows
    train, val = ({row.example_id for row in first.rows[split]} for split in ("train", "val"))
    assert len(val) == 4
    assert train | val == set(range(40))
    assert train.isdisjoint(val)
    assert ready(train_file=path, seed=1).rows["val"] != first.rows["val"]
    assert len(ready(train_file=path, val_fraction=0.5).rows["val"]) == 20


def test_of_one_row_nothing_can_be_held_out(write):
    with pytest.raises(ValueError, match=r"has one row: nothing can be held out. Give `val_file`"):
        ready(train_file=write("train.tsv", ROWS[:1]))


# Batches


def test_ids_travel_with_their_texts(write):
    rows = [(*row, 100 + i) for i, row in enumerate(ROWS)]
    path = write("train.tsv", rows, header="text\tlabel\tnumber")
    data = ready(train_file=path, val_file=path, id_column="number", batch_size=3)
    of = {100 + i: row for i, row in enumerate(ROWS)}
    seen = []
    for batch in data.train_dataloader():
        for text, label, number in zip(
            texts([batch]), batch["labels"].tolist(), batch["example_id"].tolist(), strict=True
        ):
            assert (text, data.labels[label]) == of[number]
            seen.append(number)
    assert sorted(seen) == sorted(of)


def test_rows_without_ids_are_numbered(write):
    path = write("train.tsv", ROWS)
    data = ready(train_file=path, val_file=path)
    assert torch.cat([batch["example_id"] for batch in data.val_dataloader()]).tolist() == [0, 1, 2, 3]


def test_training_rows_are_shuffled_and_others_are_not(write):
    path = write("train.tsv", [(f"{word} film", "good") for word in ("a", "the", "bad", "dull", "very", "not")] * 4)
    data = ready(train_file=path, val_file=path, batch_size=24)
    loader = data.train_dataloader()
    (first,), (second,) = ([batch["example_id"].tolist() for batch in loader] for _ in range(2))
    assert first != second
    assert sorted(first) == sorted(second) == list(range(24))
    assert next(iter(data.val_dataloader()))["example_id"].tolist() == list(range(24))


def test_worker_processes_give_the_same_batches(write):
    path = write("train.tsv", [*ROWS, ("he is unaffable " * 9, "good")])
    alone, helped = (ready(train_file=path, val_file=path, max_length=12, num_workers=n) for n in (0, 1))
    with pytest.warns(UserWarning, match="are cut"):
        loaders = [data.val_dataloader() for data in (alone, helped)]
    pairs = list(zip(*loaders, strict=True))
    assert len(pairs) == 3
    for one, other in pairs:
        assert one.keys() == other.keys()
        for name in one:
            same = torch.equal if isinstance(one[name], torch.Tensor) else lambda a, b: a == b
            assert same(one[name], other[name]), name


def test_predictions_keep_every_row_in_its_place(trained, tmp_path):
    path = tmp_path / "rows.txt"
    path.write_text("the lamb was great\n\nwe hated it\n   \ndull food\n")
    data = TextDataModule(predict_file=str(path), batch_size=2)
    trainer = quiet_trainer(tmp_path)
    rows = [row for batch in trainer.predict(trained.module, datamodule=data) for row in batch]
    assert [row["example_id"] for row in rows] == [0, 1, 2, 3, 4]
    assert texts(data.predict_dataloader(), trained.module.tokenizer) == [
        "the lamb was great",
        "",
        "we hated it",
        "",
        "dull food",
    ]
    for row in rows:
        assert sum(row["probability"].values()) == pytest.approx(1)
        assert row["label"] == max(row["probability"], key=row["probability"].get)
    assert rows[1]["probability"] == pytest.approx(rows[3]["probability"], abs=1e-6)


def test_rows_to_predict_need_no_labels(write):
    data = ready("predict", predict_file=write("rows.tsv", [("good",), ("bad",)], header="text"))
    assert all("labels" not in batch for batch in data.predict_dataloader())


def test_a_compressed_file_of_objects_is_the_same(write, tmp_path):
    packed = tmp_path / "rows.jsonl.gz"
    lines = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS)
    packed.write_bytes(gzip.compress(lines.encode()))
    plain, other = ready(train_file=write("rows.tsv", ROWS)), ready(train_file=str(packed))
    for split in ("train", "val"):
        assert [(r.text, r.label, r.example_id) for r in plain.rows[split]] == [
            (r.text, r.label, r.example_id) for r in other.rows[split]
        ]


# Data sets


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Splits saved to disk, with labels as numbers that have names."""
    features = Features({"text": Value("string"), "label": ClassLabel(names=["dull", "good"])})
    columns = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}
    rows = Dataset.from_dict(columns, features=features)
    folder = tmp_path_factory.mktemp("saved")
    DatasetDict({"train": rows, "validation": rows.select([1, 0]), "test": rows.select([3])}).save_to_disk(folder)
    return str(folder)


def test_a_data_set_on_disk_has_its_splits_and_names(saved):
    data = ready(dataset=saved)
    assert data.labels == ["dull", "good"]
    assert [(row.text, row.label) for row in data.rows["train"]] == ROWS
    assert torch.cat([batch["labels"] for batch in data.val_dataloader()]).tolist() == [0, 1]
    data.setup("test")
    data.setup("predict")
    assert texts(data.test_dataloader()) == texts(data.predict_dataloader()) == ["bad"]


def test_a_data_set_without_a_validation_split_holds_rows_out(saved):
    data = ready(dataset=saved, val_split=None)
    assert len(data.rows["val"]) == 1
    assert len(data.rows["train"]) == 3


def test_a_split_that_does_not_exist_is_named_with_the_near_ones(saved):
    with pytest.raises(ValueError, match=r"`split='validaton'` does not exist. Did you mean 'validation'"):
        ready(dataset=saved, val_split="validaton")


def test_a_column_that_a_data_set_lacks_is_named(saved):
    with pytest.raises(ValueError, match=r"`text_column='sentence'` does not exist.*There is: text, label"):
        ready(dataset=saved, text_column="sentence")
