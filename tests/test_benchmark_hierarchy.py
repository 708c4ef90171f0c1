"""The benchmark of span scores: how trees are read, that it runs on a few, and what it finds on the real ones."""

import gzip
import re
import sys

import pytest
import torch
from test_benchmarks import ROOT, run

sys.path.insert(0, str(ROOT / "benchmarks"))
from hierarchy import correlations
from sst_trees import parse, rated

LINES = (
    "(3 (2 It) (4 (2 's) (4 (3 very) (4 good))))",
    "(1 (2 The) (1 (1 (2 plot) (0 (2 is) (1 bad))) (2 .)))",
    "(1 (1 (1 not) (3 good)) (2 .))",
    "(4 (4 good) (4 (2 fun) (2 .)))",
)


def test_a_tree_is_its_words_and_what_people_said_of_its_phrases():
    found = parse(LINES[0])
    assert found.words == ("it", "'s", "very", "good")
    assert dict(zip(found.phrases, found.ratings, strict=True)) == {
        (0, 1): 0, (1, 2): 0, (2, 3): 1, (3, 4): 2, (2, 4): 2, (1, 4): 2, (0, 4): 1,
    }  # fmt: skip
    assert parse("(2 8\u00a01\\/2)").words == ("8_1\\/2",)
    assert dict(rated([found]))["very good"] == 1
    assert "it" not in dict(rated([found]))


def test_correlations_are_those_of_the_textbook():
    a, b = torch.tensor([1.0, 2.0, 3.0, 10.0]).double(), torch.tensor([1.0, 2.0, 3.0, 4.0]).double()
    assert correlations(a, b) == pytest.approx((14 / 250**0.5, 1.0))
    assert correlations(a, -b)[1] == pytest.approx(-1.0)
    assert all(map(torch.isnan, map(torch.tensor, correlations(a[:2], b[:2]))))


def _tables(printed):
    rows = [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines() if re.search(r"\d\.\d{3}|nan", line)]
    found = [row for row in rows if len(row) == 6]
    return {row[0]: row[1:] for row in found[: len(found) // 2]}  # the second table is by length


@pytest.mark.slow
def test_it_runs_on_a_few_trees(tmp_path):
    (tmp_path / "sst_trees").mkdir()
    text = "\n".join(LINES * 3) + "\n"
    for split in ("dev", "test"):
        (tmp_path / "sst_trees" / f"{split}.txt").write_text(text)
    with gzip.open(tmp_path / "sst_trees" / "train.txt.gz", "wt") as file:
        file.write(text)
    words = "--sentences 4 --epochs 1 --language-epochs 1 --width 8 --samples 2"
    found = _tables(run("hierarchy.py", tmp_path, *words.split()))
    assert {"bag of words", "HEDGE", "SOC", "contextual decomposition (ACD)", "random"} <= set(found)


@pytest.mark.slow
def test_scores_of_phrases_agree_with_people_far_more_than_chance(request, tmp_path):
    """On a third of the sentences, which takes minutes; the figures of all of them are in the guide."""
    data = request.config.getoption("--data-folder")
    if data is None:
        pytest.skip("--data-folder (with sst_trees/) is not given")
    words = f"--data-folder {data} --train 3000 --sentences 40 --longest 25 --epochs 2 --language-epochs 1 --samples 2"
    found = _tables(run("hierarchy.py", tmp_path, *words.split(), data=False))
    phrases = {name: float(row[3]) for name, row in found.items()}
    assert abs(phrases["random"]) < 0.15
    assert phrases["bag of words"] > 0.25
    for name in ("HEDGE", "HEDGE, rest deleted", "ACD, products shared", "occlusion of the span", "SOC"):
        assert phrases[name] > phrases["random"] + 0.15, name


@pytest.mark.slow
def test_a_tree_is_counted_in_forward_passes(tmp_path):
    words = "--words 4 6 --rounds 1 --samples 2 --width 32 --blocks 1 --threads 1"
    printed = run("hierarchy_cost.py", tmp_path, *words.split(), data=False)
    rows = [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines() if re.match(r"\s*[46]\s", line)]
    assert len(rows) == 2 * 5
    forwards = {(int(size), name): int(count.replace(",", "")) for size, name, count, *_ in rows}
    for size in (4, 6):
        assert forwards[size, "hedge"] <= forwards[size, "hedge, window=2"]
        assert (
            4 * (2 * size - 1) < forwards[size, "acd"] <= 4 * 4 * size + 12
        )  # fewer than 4 spans a word are looked at
        assert forwards[size, "occlusion"] < forwards[size, "soc, 2 contexts"]
