"""Explanations in two processes: one loss and one set of weights, and figures of the examples of both."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from generated_toys import Explaining, loader
from tiny import quiet_trainer

pytestmark = pytest.mark.slow  # by default `test_kernel_ways.py` has two processes

SHORT = {"length": (3, 3)}
SCRIPT = """
import sys, warnings
import torch
from lightning.pytorch import Callback
from generated_toys import Explaining, loader
from tiny import quiet_trainer

class Saves(Callback):
    def on_fit_end(self, trainer, pl_module):
        seen = {"weights": pl_module.state_dict(), "metrics": dict(trainer.callback_metrics)}
        torch.save(seen, f"{sys.argv[1]}/{trainer.global_rank}.pt")

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    # of the validation rows every second one has an explanation of a person, all of them in one process
    own = loader(8, seed=1, batch_size=1, length=(3, 3))
    for i in range(1, 8, 2):
        own.dataset.rows[i] = (*own.dataset.rows[i][:2], "")
    trainer = quiet_trainer(sys.argv[1], max_epochs=4, devices=2, strategy="ddp_fork", callbacks=[Saves()])
    module = Explaining(generated_order=sys.argv[2], generated_max_tokens=5, optimizer=torch.optim.SGD, rate=0.1)
    trainer.fit(module, loader(32, batch_size=16, length=(3, 3)), own)
"""


@pytest.mark.parametrize("order", ["predict_then_explain", "explain_then_predict"])
def test_two_processes_learn_and_measure_as_one(order, tmp_path):
    (tmp_path / "run.py").write_text(SCRIPT)
    here = Path(__file__).parents[1]
    environment = {"PYTHONPATH": f"{here}:{here.parent}", "PATH": os.defpath, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "run.py"), str(tmp_path), order],
        capture_output=True,
        text=True,
        timeout=300,
        env={**environment, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1))
    for name, value in first["weights"].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, second["weights"][name]), name
    torch.manual_seed(0)
    one = Explaining(generated_order=order, generated_max_tokens=5, optimizer=torch.optim.SGD, rate=0.1)
    trainer = quiet_trainer(tmp_path, max_epochs=4)
    own = loader(8, seed=1, batch_size=1, **SHORT)
    for i in range(1, 8, 2):
        own.dataset.rows[i] = (*own.dataset.rows[i][:2], "")
    trainer.fit(one, loader(32, batch_size=32, **SHORT), own)  # all rows in a step: processes shuffle them
    for name, value in one.state_dict().items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            assert torch.allclose(value, first["weights"][name], rtol=0, atol=1e-5), name
    seen = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("generated/")}
    for rank in (first, second):
        there = {name: float(value) for name, value in rank["metrics"].items() if name.startswith("generated/")}
        assert there == pytest.approx(seen, abs=1e-4)
    assert "generated/overlap" in seen
