"""The benchmark of written explanations runs on a few rows of its two sets; what it measures is not tested."""

import gzip
import json

import pytest
from generated_toys import LABELS, made
from test_benchmarks import run

ENTAILED = ["entailment", "neutral", "contradiction"]


@pytest.mark.slow
def test_orders_are_compared_with_a_model_that_writes_labels_alone(tmp_path):
    for name in ("esnli", "cose"):
        (tmp_path / name).mkdir()
    for split, seed in (("train", 0), ("dev", 1), ("test", 1)):
        rows = list(zip(*made(24, seed), strict=True))
        pairs = [
            {"premise": text, "hypothesis": "so", "label": ENTAILED[label], "annotations": [{"explanation": why}]}
            for text, label, why in rows
        ]
        asked = [
            {"question": text, "choices": LABELS, "answer": label, "explanation": why} for text, label, why in rows
        ]
        for name, found in (("esnli", pairs), ("cose", asked)):
            with gzip.open(tmp_path / name / f"{split}.jsonl.gz", "wt") as file:
                file.writelines(json.dumps(row) + "\n" for row in found)
    words = (
        "--examples 16 --simulated 8 --test 12 --epochs 1 --width 16 --blocks 1 --max-tokens 4 --threads 1 --shown 1"
    )
    printed = run("explanations.py", tmp_path, *words.split())
    tables = [line.strip("| ").split(" | ") for line in printed.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line] for line in tables if line[0] != "---"]
    orders = ["predict_then_explain", "explain_then_predict", "jointly"]
    names = ["labels and explanations", "plain", *orders, "simulatability", *orders]
    assert [row[0] for row in rows] == names * 2
    for table in (rows[:9], rows[9:]):
        assert table[0][1:5] == ["accuracy", "of a person's", "erased", "exchanged"]
        assert all(table[3][1:5])  # where labels are read from explanations
        assert not any(table[i][cell] for i in (1, 2, 4) for cell in (2, 3, 4))
        assert all(0 <= float(row[1]) <= 100 for row in (*table[1:5], *table[6:]))
    assert "16 training texts, 12 read, 8 for the" in printed
    assert printed.count("- jointly: ") == 2
