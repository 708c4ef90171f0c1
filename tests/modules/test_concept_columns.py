"""Columns of concepts: read from files and data sets, checked by the line, handed on in batches."""

import json

import pytest
import torch
from datasets import Dataset, DatasetDict
from tiny import VOCABULARY, quiet_trainer, wordpiece

from lightning_interpret import TextDataModule
from lightning_interpret.data import read_rows
from lightning_interpret.modules.joint import ConceptTextClassifier

ROWS = [
    ("good film", "good", "1", "0"),
    ("a dull play", "dull", "", "1.0"),
    ("not bad", "good", "true", "-1"),
    ("bad", "dull", "0.25", "NaN"),
]
VALUES = [[1, 0], [float("nan"), 1], [1, float("nan")], [0.25, float("nan")]]
COLUMNS = ["kind", "short"]


def write(folder, rows=ROWS, header="text\tlabel\tkind\tshort", name="rows.tsv"):
    path = folder / name
    path.write_text("\n".join([header, *("\t".join(row) for row in rows)]) + "\n")
    return str(path)


def ready(**options):
    data = TextDataModule(**{"tokenizer": wordpiece(), "batch_size": 4} | options)
    data.setup("fit")
    return data


def model_of(**options):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    config = {"model_type": "bert", "vocab_size": VOCABULARY, "max_position_embeddings": 40, **sizes}
    given = {"labels": ["dull", "good"], "tokenizer": wordpiece(), "concept_names": COLUMNS}
    return ConceptTextClassifier(config=config, **given | options)


def same(found, wanted):
    return torch.equal(found.nan_to_num(-7), torch.tensor(wanted).nan_to_num(-7))


def test_they_are_in_the_batch_in_the_order_asked_for(tmp_path):
    path = write(tmp_path)
    batch = next(iter(ready(train_file=path, val_file=path, concept_columns=COLUMNS).val_dataloader()))
    assert batch["concepts"].dtype == torch.float32
    assert same(batch["concepts"], VALUES)
    turned = next(iter(ready(train_file=path, val_file=path, concept_columns=COLUMNS[::-1]).val_dataloader()))
    assert same(turned["concepts"], [row[::-1] for row in VALUES])
    assert "concepts" not in next(iter(ready(train_file=path, val_file=path).val_dataloader()))


def test_they_are_read_from_json_and_from_data_sets(tmp_path):
    rows = [{"text": "good film", "label": "good", "kind": 1, "short": None}]
    rows += [{"text": "bad", "label": "dull", "kind": False, "short": 0.5}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = list(read_rows(tmp_path / "rows.jsonl", concept_columns=COLUMNS))
    assert found[1].concepts == (0.0, 0.5)
    assert found[0].concepts[0] == 1.0
    assert found[0].concepts[1] != found[0].concepts[1]
    columns = {"text": ["good film", "bad"], "label": ["good", "dull"], "kind": [1, 0], "short": [None, 0.5]}
    DatasetDict({name: Dataset.from_dict(columns) for name in ("train", "validation")}).save_to_disk(tmp_path / "saved")
    data = ready(dataset=str(tmp_path / "saved"), concept_columns=COLUMNS)
    assert same(next(iter(data.val_dataloader()))["concepts"], [[1, float("nan")], [0, 0.5]])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("2", r"rows\.tsv, line 2: column 'kind' holds '2' \(str\), not a concept.*Make one column of each value"),
        ("yes", r"column 'kind' holds 'yes' \(str\), not a concept"),
        ("-0.5", "column 'kind' holds '-0.5'"),
    ],
)
def test_a_value_that_is_no_concept_has_its_line(value, said, tmp_path):
    path = write(tmp_path, [("good film", "good", value, "0"), *ROWS])
    with pytest.raises(ValueError, match=said):
        ready(train_file=path, val_file=path, concept_columns=COLUMNS)


def test_a_column_that_is_not_there_is_named_and_a_text_file_has_none(tmp_path):
    path = write(tmp_path)
    with pytest.raises(ValueError, match=r"`concept_columns='kid'` does not exist. Did you mean 'kind'"):
        ready(train_file=path, val_file=path, concept_columns=["kid"])
    (tmp_path / "rows.txt").write_text("good film\n")
    with pytest.raises(ValueError, match=r"`concept_columns=\['kind'\]`.*has no columns"):
        read_rows(tmp_path / "rows.txt", concept_columns=["kind"])


def test_a_module_with_concepts_asks_for_its_own_and_is_trained_on_them(tmp_path):
    path, model = write(tmp_path), model_of()
    data = TextDataModule(train_file=path, val_file=path, predict_file=write(tmp_path, [("bad",)], "text", "new.tsv"))
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(model, data)
    assert data.train_dataloader().dataset[0][0].concepts == (1.0, 0.0)
    assert {"train_concepts", "concepts/accuracy", "val_accuracy"} <= trainer.callback_metrics.keys()
    assert trainer.predict(model, data)[0][0]["label"] in ("dull", "good")  # rows to predict need no concepts


@pytest.mark.parametrize("columns", [["short", "kind"], ["kind"], ["short", "text"]])
def test_other_columns_than_the_modules_concepts_are_refused(columns, tmp_path):
    path = write(tmp_path)
    data = TextDataModule(train_file=path, val_file=path, concept_columns=columns)
    with pytest.raises(ValueError, match=r"the module has `concept_names=\['kind', 'short'\]`: give a column for each"):
        quiet_trainer(tmp_path, max_epochs=1).fit(model_of(), data)


def test_columns_of_other_names_may_stand_for_the_concepts(tmp_path):
    path = write(tmp_path)
    data = TextDataModule(train_file=path, val_file=path, concept_columns=COLUMNS)
    quiet_trainer(tmp_path, max_epochs=1).fit(model_of(concept_names=["genre", "brief"]), data)


def test_columns_may_be_a_tuple_and_are_no_single_name(tmp_path):
    path = write(tmp_path)
    data = TextDataModule(train_file=path, val_file=path, concept_columns=tuple(COLUMNS))
    quiet_trainer(tmp_path, fast_dev_run=True).fit(model_of(), data)
    with pytest.raises(ValueError, match=r"`concept_columns='kind'` must be a list of columns: \['kind'\]"):
        TextDataModule(train_file=path, concept_columns="kind")


def test_explanations_that_a_table_leaves_out_are_none(tmp_path):
    rows = [{"text": "good", "label": "good", "why": why} for why in ("it says so", float("nan"), None, "")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_rows(tmp_path / "rows.jsonl", explanation_column="why")
    assert [row.explanation for row in found] == ["it says so", None, None, ""]


def test_a_classifier_comes_back_from_its_checkpoint(tmp_path):
    path, model = write(tmp_path), model_of(concept_mode="hard", concept_residual=True)
    data = TextDataModule(train_file=path, val_file=path, batch_size=4)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "concepts.ckpt")
    loaded = ConceptTextClassifier.load_from_checkpoint(tmp_path / "concepts.ckpt")
    assert dict(loaded.hparams)["concept_names"] == COLUMNS
    batch = next(iter(data.val_dataloader()))
    with torch.no_grad():
        assert torch.equal(loaded.eval()(batch), model.eval()(batch))
    rows, before = loaded.explain(batch), model.explain(batch)
    assert [row.concepts for row in rows] == [row.concepts for row in before]
    assert all(abs(row.error) < 1e-5 for row in rows)
    assert rows[0].text == "good film"
