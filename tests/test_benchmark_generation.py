"""The benchmark of generated tokens runs, on tiny models, and its peers find the scores that ours does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "bart"])
def test_methods_are_timed_at_the_same_error(tmp_path, kind):
    words = ("--model", kind, "--quick", "--batch", "2", "--tokens", "3", "--output", str(tmp_path / "found.json"))
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "generation.py"), *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert rows["ours"]["error"] < 0.01
    assert "| ours |" in done.stdout
    for name, row in rows.items():
        if "left out" in row:
            assert f"{name} is left out: {row['left out']}." in done.stdout
        elif name != "ours":
            assert row["apart"] < 1e-4
            assert row["seconds"] > 0
    if kind == "gpt2":
        assert rows["Captum, same error"]["error"] <= max(1e-6, rows["ours"]["error"])
    else:
        assert "left out" in rows["Captum"]
