"""The examples run as they stand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["own_module", "own_model", "images"])
def test_an_example_runs_and_writes_what_tensorboard_shows(tmp_path, name):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "'interpret/saliency/failures': 0.0" in done.stdout
    assert list((tmp_path / name / "runs").rglob("events.out.tfevents*"))
