"""`lightning-interpret explain --references`: baselines drawn from a file."""

import json

import pytest
import torch

from lightning_interpret.methods import IntegratedGradients
from lightning_interpret.tasks.encode import encode

TEXTS = ["the waiter was friendly .", "never again"]
FAST = ("--set", "steps=4", "--set", "tolerance=null")


@pytest.fixture
def explain(command, saved, tmp_path):
    """Explain two texts with references and return the rows written; with a status, what was said."""
    (tmp_path / "rows.txt").write_text("\n".join(TEXTS) + "\n")

    def explain(*words, output="out.jsonl", status=0):
        given = ("--model", saved.model, "--input", tmp_path / "rows.txt", "--output", tmp_path / output)
        done = command("explain", *given, *words)
        assert done.status == status, done.err
        return done.err if status else [json.loads(line) for line in (tmp_path / output).read_text().splitlines()]

    return explain


@pytest.fixture
def references(tmp_path):
    """Write a file of references and return its path."""

    def references(rows, name="references.tsv"):
        path = tmp_path / name
        path.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
        return path

    return references


GOOD, BAD = ("the lamb was very good !", "positive"), ("i was bored and cold", "negative")


def test_the_records_are_those_of_the_references(explain, references, saved):
    rows = explain("--references", references([GOOD, BAD]), "--set", "baseline=training_mean", *FAST)
    task = saved.module.interpret_task().with_references(encode(saved.module.tokenizer, [GOOD[0], BAD[0]]))
    batch = encode(saved.module.tokenizer, TEXTS)
    expected = IntegratedGradients(baseline="training_mean", steps=4, tolerance=None)(saved.module, batch, task)
    for row, record in zip(rows, expected, strict=True):
        assert row["scores"] == pytest.approx(record.scores, abs=1e-5)
        assert row["baseline"] == "training_mean"
        assert row["baseline_entropy"] == pytest.approx(record.baseline_entropy, abs=1e-5)
        assert len(row["references"]) == 16


def test_labels_of_the_references_are_read_where_a_column_is_named(explain, references, saved):
    with torch.no_grad():
        predicted = saved.module.interpret_task().names(
            saved.module.interpret_task().logits(saved.module, encode(saved.module.tokenizer, TEXTS))
        )
    other = {"positive": "negative", "negative": "positive"}
    path = references([("a b c", "positive"), ("d e f", "negative")])
    (path.parent / "rows.txt").rename(path.parent / "texts")
    (path.parent / "rows.tsv").write_text("text\tlabel\n" + "".join(f"{text}\tpositive\n" for text in TEXTS))
    words = ("--input", path.parent / "rows.tsv", "--label-column", "label", "--set", "baseline=nearest", *FAST)
    for row, label in zip(explain("--references", path, *words), predicted, strict=True):
        assert row["notes"][0].startswith(f"the baseline is the nearest reference of another class, '{other[label]}'")


def test_rows_of_other_references_are_not_gone_on_with(explain, references):
    words = ("--set", "baseline=training_mean", *FAST)
    explain("--references", references([GOOD, BAD]), *words)
    explain("--references", references([GOOD, BAD], "again.tsv"), *words)  # the same rows
    assert "differs in references" in explain("--references", references([GOOD]), *words, status=1)


def test_expected_gradients_run(explain, references):
    rows = explain(
        "--references",
        references([GOOD, BAD]),
        "--method",
        "expected_gradients",
        "--set",
        "samples=8",
        "--set",
        "seed=1",
    )
    assert all(row["baseline_spread"] > 0 and row["sampling_error"] > 0 and row["steps"] == 8 for row in rows)


@pytest.mark.parametrize(
    ("rows", "words", "message"),
    [
        ([GOOD], (), "`references` are given, but integrated_gradients with baseline='default' draws from none"),
        ([GOOD], ("--method", "gradient"), "but gradient with no baseline draws from none"),
        ([], ("--set", "baseline=training_mean"), "no rows"),
        ([GOOD] * 257, ("--set", "baseline=training_mean"), "has more than 256 rows: give fewer"),
        (None, ("--set", "baseline=nearest"), "`baseline='nearest'` is drawn from reference examples, and there are"),
        (None, ("--method", "expected_gradients"), "`--references FILE`"),
    ],
)
def test_references_that_are_missing_or_of_no_use_are_refused(explain, references, rows, words, message):
    given = () if rows is None else ("--references", references(rows))
    assert message in explain(*given, *words, status=1)
