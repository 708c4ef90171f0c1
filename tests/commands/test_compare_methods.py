"""`compare --what methods`: table, page, numbers and picture of a saved model, and what cannot be compared."""

import json
from pathlib import Path

import pytest
from PIL import Image

from lightning_interpret.records.trust import TrustRow
from lightning_interpret.report.presenters import row_of

NAMES = ("integrated_gradients", "gradient", "expected_gradients")


def compared(command, folder, *words):
    done = command("compare", "--output-dir", folder, *words)
    assert done.status == 0, done.err
    return done, row_of(json.loads((folder / "methods.json").read_text()))


def test_a_saved_model_has_a_table_a_page_its_numbers_and_a_picture(command, saved, tmp_path):
    folder = tmp_path / "out"
    words = (
        "--model",
        saved.model,
        "--input",
        saved.val,
        "--examples",
        6,
        "--label-column",
        "label",
        "--methods",
        *NAMES,
    )
    done, row = compared(command, folder, *words)
    assert isinstance(row, TrustRow)
    assert [each.name for each in row.methods] == list(NAMES)
    assert row.probes == 6
    assert row.methods[2].probes == 0
    lines = done.out.splitlines()
    for name in (*NAMES, "random order"):
        assert any(line.startswith(name) for line in lines), name
    assert "ranks only" in done.out
    assert row.because[0] in done.out
    page = (folder / "methods.md").read_text()
    assert "![gain, error and seconds](methods.png)" in page
    assert "random order" in page
    with Image.open(folder / "methods.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 10


def test_rationales_of_people_are_a_column_of_the_table(command, saved, tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [("the food was great", [0, 0, 0, 1]), ("a dull place", [0, 1, 0]), ("bad service", [])]
    file.write_text("".join(json.dumps({"text": text, "rationale": flags}) + "\n" for text, flags in rows))
    words = ("--model", saved.checkpoint, "--input", file, "--rationale-column", "rationale", "--methods", "gradient")
    done, row = compared(command, tmp_path / "out", *words)
    assert {"token_f1", "iou_f1", "auprc"} <= row.methods[0].figures.keys()
    assert "token F1" in done.out


def test_options_of_methods_and_of_the_drill_are_given_with_their_names(command, saved, tmp_path):
    two = ("integrated_gradients:steps=8", "gradient")
    words = ("--model", saved.model, "--input", saved.val, "--methods", *two, "--train-file", saved.train)
    quick = ("--drill", "steps=3", "rows=40", "test_rows=8", "cue=was")
    done, row = compared(command, tmp_path / "out", "--what", "methods", *words, "--label-column", "label", *quick)
    assert [each.name for each in row.methods] == ["integrated_gradients", "gradient"]
    assert "integrated_gradients is asked as integrated_gradients:steps=8" in done.out
    assert row.drill.steps == 3
    assert "was planted in 10% of the training rows" in done.out


def test_what_is_drawn_from_data_is_drawn_from_the_training_file(command, saved, tmp_path):
    words = ("--model", saved.model, "--input", saved.val, "--examples", 2, "--train-file", saved.train)
    _, row = compared(command, tmp_path / "out", *words, "--methods", "expected_gradients:samples=2")
    assert row.methods[0].failed is None
    assert row.drill is None


def test_a_file_that_is_sorted_by_label_has_rows_of_every_label_in_a_drill(command, saved, tmp_path):
    head, *lines = Path(saved.train).read_text().splitlines()
    file = tmp_path / "sorted.tsv"
    file.write_text("\n".join([head, *sorted(lines)]) + "\n")
    words = (
        "--model",
        saved.model,
        "--input",
        saved.val,
        "--examples",
        4,
        "--methods",
        "gradient",
        "--train-file",
        file,
    )
    quick = ("--drill", "steps=1", "rows=20", "test_rows=4", "share=20", "label=negative")
    _, row = compared(command, tmp_path / "out", *words, *quick)
    assert row.drill.share == 0.2


def test_a_file_that_is_missing_is_named_by_its_option(refused, saved, tmp_path):
    words = ("compare", "--output-dir", tmp_path, "--model", saved.model)
    assert "`--input /nowhere.tsv`: " in refused(*words, "--input", "/nowhere.tsv")
    given = ("--input", saved.val, "--train-file", "/nowhere.tsv", "--drill", "steps=1")
    assert "`--train-file /nowhere.tsv`: " in refused(*words, *given)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs `--model`, a model of yours, and `--input`"),
        (["--model", "x", "--input", "y", "--drill"], "give its training rows, `--train-file`"),
        (
            ["--model", "x", "--input", "y", "--train-file", "z", "--drill", "step=3"],
            "`--drill='step=3'` does not exist",
        ),
        (["--model", "x", "--input", "y", "--methods", "integrated"], "`--methods='integrated'` does not exist"),
        (["--model", "x", "--input", "y", "--methods", "gradient:norm=l3"], "norm"),
        (["--model", "x", "--input", "y", "--methods", "gradient", "gradient"], "names 'gradient' twice"),
        (["--model", "x", "--input", "y", "--score", "odds"], "`--score='odds'` does not exist"),
        (["--model", "x", "--input", "y", "--train-file", "z"], "`--train-file` has no use here"),
        (["--model", "x", "--input", "y", "--layer", "z"], "`--layer` is an option of `--what baselines`"),
        (["--what", "influence", "--drill"], "`--drill` is an option of `--what methods`"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_line(refused, tmp_path, words, message):
    assert message in refused("compare", "--output-dir", tmp_path, *words)
