"""TrustMonitor in two processes and in one: of the same weights and probes the same table, drill and recommendation."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys, warnings
import torch
from purity import Toy, ToyTask, loaders
from tiny import quiet_trainer, wordpiece
from lightning_interpret import ShortcutDrill, TrustMonitor

class Still(Toy):
    '''Is what it was after a step.'''

    def __init__(self):
        super().__init__()
        self.norm.momentum = self.frozen.momentum = 0.0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    drill = ShortcutDrill(cue="film", label="1", share=25, steps=30, learning_rate=0.05, rows=24, test_rows=12)
    methods = ["integrated_gradients", "gradient", "expected_gradients"]
    options = {"devices": 2, "strategy": "ddp_fork_find_unused_parameters_true"}
    for world in (1, 2):
        torch.manual_seed(0)
        monitor = TrustMonitor(
            methods, task=ToyTask(wordpiece()), probes=7, orders=2, drill=drill, max_seconds=None, on_error="raise",
            save_jsonl=f"{sys.argv[1]}/{world}.jsonl",
        )
        given = options if world == 2 else {}
        trainer = quiet_trainer(sys.argv[1], max_epochs=1, limit_train_batches=1, callbacks=[monitor], **given)
        trainer.fit(Still(), *loaders())
"""


def same(one, other, where=""):
    """Assert that two records say the same, but for seconds, and for passes, which depend on what is beside a probe."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one.keys() - {"seconds", "passes", "because", "step"}:
            same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for i, pair in enumerate(zip(one, other, strict=True)):
            same(*pair, f"{where}[{i}]")
    elif isinstance(one, float) and isinstance(other, float):
        assert math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-5), where
    else:
        assert one == other, where


@pytest.mark.slow
def test_two_processes_give_the_table_the_drill_and_the_recommendation_of_one(tmp_path):
    script, here = tmp_path / "run.py", Path(__file__).parents[1]
    script.write_text(SCRIPT)
    paths = {"PYTHONPATH": f"{here}:{here.parent}", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env=paths | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (json.loads((tmp_path / f"{world}.jsonl").read_text()) for world in (1, 2))
    assert one["probes"] == 7
    assert [each["failed"] for each in one["methods"]] == [None] * 3
    assert one["drill"]["steps"] == 30
    same(one, two)
