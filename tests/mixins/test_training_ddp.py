"""Joint methods in two processes: each example has the mask and the loss that it has in one, and weights agree."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from joint_training import KINDS, fit, made, weights

pytestmark = pytest.mark.slow  # by default `test_kernel_ways.py` has two processes

SCRIPT = """
import sys, warnings
from pathlib import Path
import torch
from lightning.pytorch import Callback
from joint_training import fit, made, weights

class Saves(Callback):
    def __init__(self, path):
        self.path = path

    def on_fit_end(self, trainer, pl_module):
        seen = {"met": pl_module.met, "told": pl_module.told, "weights": weights(pl_module)}
        torch.save(seen, f"{self.path}-{trainer.global_rank}.pt")

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    for label, rate in (("still", 0.0), ("moving", 0.5)):
        saves = Saves(folder / label)
        fit(made(kind, rate=rate), folder, max_epochs=1, devices=2, strategy="ddp_fork", callbacks=[saves])
"""


@pytest.fixture(scope="module", params=KINDS)
def runs(request, tmp_path_factory):
    """Return which methods were trained, and what each of two processes saw."""
    folder = tmp_path_factory.mktemp("ddp")
    (folder / "run.py").write_text(SCRIPT)
    here = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(folder / "run.py"), str(folder), request.param],
        capture_output=True,
        text=True,
        timeout=300,
        env={
            "PYTHONPATH": f"{here}:{here.parent}",
            "PATH": os.defpath,
            "HOME": str(folder),
            "OMP_NUM_THREADS": "1",
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return request.param, {
        label: [torch.load(folder / f"{label}-{rank}.pt", weights_only=False) for rank in (0, 1)]
        for label in ("still", "moving")
    }


def test_examples_are_masked_and_told_apart_as_in_one_process(runs, tmp_path):
    kind, seen = runs
    one = made(kind, rate=0.0)
    fit(one, tmp_path, max_epochs=1)
    ranks = seen["still"]
    assert not ranks[0]["told"].keys() & ranks[1]["told"].keys()
    assert {**ranks[0]["met"], **ranks[1]["met"]} == one.met
    assert {**ranks[0]["told"], **ranks[1]["told"]} == pytest.approx(one.told, rel=0, abs=1e-6)


def test_both_processes_have_the_same_weights(runs):
    kind, seen = runs
    first, second = (rank["weights"] for rank in seen["moving"])
    still = seen["still"][0]["weights"]
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not torch.equal(first["first.weight"], still["first.weight"])
    assert first.keys() == weights_of(kind)


def weights_of(kind):
    module = made(kind)
    module.configure_model()
    return weights(module).keys()
