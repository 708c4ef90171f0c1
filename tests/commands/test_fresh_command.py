"""`lightning-interpret fresh`: a classifier that reads the rationale and nothing else."""

import json
from itertools import combinations

import pytest
from tiny import write_reviews

from lightning_interpret.commands.fresh import excerpt


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]


@pytest.mark.parametrize("scores", [(0.1, 3.0, -2.0, 2.0, 0.5, 0.5, 1.0), (1.0,), (0.0, 0.0, 0.0), (-1.0, -3.0)])
@pytest.mark.parametrize("rate", [0.2, 0.3, 0.5, 0.99])
def test_no_other_words_or_stretch_score_more(scores, rate):
    top, span = excerpt(scores, rate, "top"), excerpt(scores, rate, "span")
    assert len(top) == len(span) >= rate * len(scores) > len(top) - 1
    assert top == sorted(top)
    best = max(sum(scores[i] for i in chosen) for chosen in combinations(range(len(scores)), len(top)))
    assert sum(scores[i] for i in top) == pytest.approx(best)
    starts = range(len(scores) - len(span) + 1)
    assert sum(scores[i] for i in span) == pytest.approx(max(sum(scores[s : s + len(span)]) for s in starts))
    assert span == list(range(span[0], span[0] + len(span)))


def test_the_second_classifier_reads_the_rationale_and_is_compared(saved, command, tmp_path):
    train, val = write_reviews(tmp_path / "train.tsv", 160, seed=2), write_reviews(tmp_path / "val.tsv", 24, seed=3)
    files = ("--train-file", train, "--val-file", val, "--output-dir", tmp_path / "out")
    words = ("fresh", "--model", saved.model, *files, "--rate", 0.25, "--rule", "span", "--epochs", 2)
    words += ("--controls", "random", "whole")
    done = command(*words)
    assert done.status == 0, done.err
    figures = json.loads((tmp_path / "out" / "fresh.json").read_text())
    explained = rows_of(tmp_path / "out" / "val_explained.jsonl")
    assert figures["rows"] == len(explained) == 24
    assert figures["explained"]["accuracy"] == sum(r["prediction"] == r["gold"] for r in explained) / 24
    for row, whole, line in zip(
        *(rows_of(tmp_path / "out" / name / "val.jsonl") for name in ("rationale", "whole")), explained, strict=True
    ):
        assert row["label"] == line["gold"]
        assert row["example_id"] == line["example_id"]
        assert row["words"] == list(range(row["words"][0], row["words"][-1] + 1))
        assert len(row["words"]) == -(-row["of"] // 4)
        assert row["text"].split() == [whole["text"].split()[i] for i in row["words"]]
    assert all(0 <= figures[name]["accuracy"] <= 1 for name in ("rationale", "random", "whole"))
    assert figures["whole"]["kept"] == 1.0
    assert figures["rationale"]["kept"] == figures["random"]["kept"] == pytest.approx(0.25, abs=0.05)
    assert f"{figures['rationale']['accuracy']:.3f}" in done.out
    before = (tmp_path / "out" / "train_explained.jsonl").read_bytes()
    assert command(*words[:-3], "--controls").status == 0  # goes on with what is there
    assert (tmp_path / "out" / "train_explained.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--rate", "1.5"), "`--rate 1.5` must lie between 0 and 1"),
        (("--rule", "sentence"), "--rule"),
        (("--controls", "none"), "--controls"),
        (("--method", "magic"), "--method"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_done(more, message, saved, refused, tmp_path):
    files = ("--train-file", saved.train, "--val-file", saved.val, "--output-dir", tmp_path / "out")
    assert message in refused("fresh", "--model", saved.model, *files, *more)
    assert not list(tmp_path.glob("out/*"))
