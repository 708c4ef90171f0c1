"""Two processes on one machine: the same training, every probe explained once, one record of all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from purity import FIRST_ALONE, MONITORS, assert_same

SCRIPT = """
import random, sys, warnings
from pathlib import Path
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from purity import FIRST_ALONE, MONITORS, Cell, ToyTask, Witness, watched
from tiny import wordpiece

class Saves(Witness):
    '''Writes down what each process saw, and the Monitor's scalars.'''

    def __init__(self, path):
        super().__init__()
        self.path = path

    def setup(self, trainer, pl_module, stage):
        random.seed(trainer.global_rank)  # Python seeds anew in a process that is forked

    def on_fit_end(self, trainer, pl_module):
        super().on_fit_end(trainer, pl_module)
        scalars = {k: v.item() for k, v in trainer.callback_metrics.items() if k.startswith("interpret/")}
        shown = {"seen": self.seen, "batches": self.batches}
        torch.save((shown, scalars), f"{self.path}-{trainer.global_rank}.pt")

class TiresOnOne(ToyTask):
    '''Fails on one process, and draws random numbers before it does.'''

    def __init__(self, rank):
        super().__init__(wordpiece())
        self.rank = rank

    def logits(self, module, batch):
        if torch.distributed.get_rank() == self.rank:
            torch.rand(3)
            raise RuntimeError("on one process")
        return super().logits(module, batch)

def run(folder, label, callbacks):
    Cell(
        epochs=2, others=lambda _: ([], [Saves(folder / label)]),
        options={"devices": 2, "strategy": "ddp_fork_find_unused_parameters_true"},
    ).run(callbacks, folder)

def main(folder):
    warnings.simplefilter("ignore")
    run(folder, "plain", [])
    run(folder, "plain again", [])
    for name in MONITORS:
        own = folder / name
        own.mkdir()
        run(own, "watched", [watched(name, probes=5, save_jsonl=str(own / "r.jsonl"))])
        run(own, "one probe", [watched(name, probes=1)])
        tired = TiresOnOne(0 if name in FIRST_ALONE else 1)
        run(own, "fails on one", [watched(name, probes=5, task=tired, on_error="warn")])
        try:
            run(own, "stops on one", [watched(name, probes=5, task=tired)])
        except Exception as error:
            (own / "stopped.txt").write_text(str(error))

if __name__ == "__main__":
    main(Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory, worker_id):
    """The folder of two runs without a Monitor, and of folders of runs with each; one for all workers of a test run."""
    if worker_id == "master":
        return ran(tmp_path_factory.mktemp("ddp"))
    folder = tmp_path_factory.getbasetemp().parent / "ddp"  # the workers' temporary folders stand beside it
    with FileLock(f"{folder}.lock"):
        return folder if folder.exists() else ran(folder)


def ran(folder):
    """Run it all in one process, which forks two for each run."""
    folder.mkdir(exist_ok=True)
    script = folder / "run.py"
    script.write_text(SCRIPT)
    here = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(script), str(folder)],
        capture_output=True,
        text=True,
        timeout=600,
        env={
            "PYTHONPATH": f"{here}:{here.parent}",
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "OMP_NUM_THREADS": "1",
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module", params=MONITORS)
def runs(request, plain):
    """Return a Monitor's name and the folder of its runs."""
    return request.param, plain / request.param


def trained(folder, run, rank):
    return torch.load(folder / f"{run}-{rank}.pt", weights_only=False)[0]


@pytest.mark.parametrize("rank", [0, 1])
def test_each_of_two_processes_trains_the_same_again(plain, rank):
    first = trained(plain, "plain", rank)
    assert len(first["batches"]) > 8
    assert_same(first, trained(plain, "plain again", rank))


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("run", ["watched", "one probe", "fails on one"])
def test_each_of_two_processes_trains_the_same_with_the_monitor(runs, plain, run, rank):
    _, folder = runs
    assert_same(trained(plain, "plain", rank), trained(folder, run, rank))


def test_every_probe_is_explained_once_and_gathered_in_one_record(runs):
    name, folder = runs
    rows = [json.loads(line) for line in (folder / "r.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["probe"] < 5]  # after them there may be a record of no probe
    steps = sorted({row["step"] for row in rows})
    one = name == "TrustMonitor" or name in FIRST_ALONE  # one record of all probes, the first
    rows, shown = [row for row in rows if not one or row["probe"] == 0], range(1 if one else 5)
    assert [(row["step"], row["probe"]) for row in rows] == [(step, k) for step in steps for k in shown]
    assert all(row.get("probes", 5) == 5 for row in rows)
    scalars = [torch.load(folder / f"watched-{rank}.pt", weights_only=False)[1] for rank in (0, 1)]
    assert scalars[0].keys() == scalars[1].keys()
    tag = f"interpret/{rows[0]['monitor']}"
    assert scalars[0][f"{tag}/failures"] == 0
    if name == "SaliencyMonitor":
        last = [row for row in rows if row["step"] == steps[-1]]
        mean = sum(abs(row["error"]) for row in last) / 5
        assert scalars[0][f"{tag}/attribution_error"] == pytest.approx(mean, rel=1e-4)


def test_what_fails_on_one_process_is_counted_on_all_and_nothing_waits(runs):
    name, folder = runs
    failed = 5 if getattr(MONITORS[name](), "sharded", False) else 2  # each lacks a share of the evidence, or two all
    failed = 1 if name in FIRST_ALONE else failed  # it all
    for rank in (0, 1):
        _, scalars = torch.load(folder / f"fails on one-{rank}.pt", weights_only=False)
        assert [value for tag, value in scalars.items() if tag.endswith("/failures")] == [failed]


def test_on_error_raise_on_one_process_ends_all(runs):
    _, folder = runs
    assert "on one process" in (folder / "stopped.txt").read_text()
    assert not list(folder.glob("stops on one-*"))
