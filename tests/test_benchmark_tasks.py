"""The benchmark of tasks runs on tiny models and generated rows; what it measures is not tested."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHARES = {
    "wnut": ("evidence of wrong entities", ("of the scores' size, at the entity %", "of the tokens, at the entity %")),
    "xquad": ("tokens", ("the question %", "elsewhere %")),
    "multi30k": ("source word of a translated word", ("attribution %", "attention %")),
    "esnli": ("people's marks of the hypothesis", ("AUPRC, random order", "words marked in them %")),
}


@pytest.mark.slow
@pytest.mark.parametrize("part", SHARES)
def test_each_part_prints_and_writes_its_figures(part, tmp_path):
    words = ["--epochs", "1", "--examples", "16", "--threads", "1", "--quick"]
    words += ["--part", part, "--output", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "tasks.py"), *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    written = json.loads((tmp_path / f"{part}.json").read_text())
    assert written["options"]["part"] == part
    figures = written["figures"]
    assert figures["model"]["training steps"] == 3
    assert figures["attributions"]["targets explained"] >= 16
    assert figures["attributions"]["relative attribution error %, p95"] < 1
    title, names = SHARES[part]
    assert all(0 < figures[title][name] < 100 for name in names)
    assert f"| {title} | |" in done.stdout
    assert (tmp_path / f"{part}.ckpt").exists()
    assert list((tmp_path / "runs" / part).glob("*/events*"))
