"""RationaleMixin in two processes: weights, multiplier and baseline are the same in both, and figures are logged."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

SCRIPT = """
import sys, warnings
from pathlib import Path
import torch
from joint_training import Net, fit, weights
from lightning.pytorch import Callback
from lightning_interpret import RationaleMixin

class Selects(RationaleMixin, Net):
    pass

class Saves(Callback):
    def __init__(self, path):
        self.path = path

    def on_fit_end(self, trainer, pl_module):
        gate = pl_module.rationale
        seen = {"weights": weights(pl_module), "average": gate.average, "control": gate.control.get_extra_state()}
        seen["ids"], seen["figures"] = sorted(pl_module.told), dict(trainer.callback_metrics)
        torch.save(seen, f"{self.path}-{trainer.global_rank}.pt")

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    options = {"rationale_gate": sys.argv[2], "rationale_control": sys.argv[3], "rationale_consistency": 0.1}
    module = Selects(rationale_target=0.3, **options)
    fit(module, folder, max_epochs=3, devices=2, strategy="ddp_fork", callbacks=[Saves(folder / "seen")])
"""


@pytest.mark.parametrize(("gate", "control"), [("gumbel", "anneal"), ("reinforce", "lagrangian")])
def test_both_processes_learn_the_same(gate, control, tmp_path):
    (tmp_path / "run.py").write_text(SCRIPT)
    here = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(tmp_path / "run.py"), str(tmp_path), gate, control],
        capture_output=True,
        text=True,
        timeout=300,
        env={
            "PYTHONPATH": f"{here}:{here.parent}",
            "PATH": os.defpath,
            "HOME": str(tmp_path),
            "OMP_NUM_THREADS": "1",
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"seen-{rank}.pt", weights_only=False) for rank in (0, 1))
    assert first["ids"] != second["ids"]
    assert first["weights"].keys() == second["weights"].keys()
    assert all(torch.equal(value, second["weights"][name]) for name, value in first["weights"].items())
    assert first["control"] == second["control"]
    assert first["average"] == second["average"]
    assert (first["average"] is None) == (gate == "gumbel")
    assert first["figures"]["rationale/rate_eval"] == second["figures"]["rationale/rate_eval"]
    assert first["figures"]["rationale/rate_eval"] == pytest.approx(2 / 7, abs=1e-4)
