"""Two processes on one machine: the same training, every probe explained once, one record of all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys, warnings
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from purity import Toy, ToyTask, loaders
from tiny import wordpiece
from lightning_interpret import IntegratedGradients, SaliencyMonitor

def main(folder, watched):
    torch.manual_seed(0)
    watcher = SaliencyMonitor(
        IntegratedGradients(steps=4), task=ToyTask(wordpiece()), probes=5, on_error="raise",
        save_jsonl=folder + "/r.jsonl",
    )
    trainer = Trainer(
        default_root_dir=folder, accelerator="cpu", devices=2, max_epochs=2, val_check_interval=2,
        strategy="ddp_fork_find_unused_parameters_true",
        callbacks=[watcher] if watched else [], logger=TensorBoardLogger(folder), enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )
    module = Toy()
    trainer.fit(module, *loaders())
    weights = {name: value.double().sum().item() for name, value in module.state_dict().items()}
    scalars = {k: v.item() for k, v in trainer.callback_metrics.items() if "interpret" in k}
    print("RESULT" + json.dumps([weights, scalars]))

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1], False)
    main(sys.argv[1], True)
"""


def test_two_processes_train_the_same_and_gather_every_probe(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    here = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env={"PYTHONPATH": f"{here}:{here.parent}", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (plain, _), (watched, scalars) = [
        json.loads(line.removeprefix("RESULT")) for line in done.stdout.splitlines() if line.startswith("RESULT")
    ]
    assert watched == plain
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    steps = sorted({row["step"] for row in rows})
    assert [(row["step"], row["probe"]) for row in rows] == [(step, k) for step in steps for k in range(5)]
    last = [row for row in rows if row["step"] == steps[-1]]
    assert scalars["interpret/saliency/attribution_error"] == pytest.approx(
        sum(abs(r["error"]) for r in last) / 5, rel=1e-4
    )
    assert scalars["interpret/saliency/failures"] == 0
