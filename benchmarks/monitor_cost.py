"""What a SaliencyMonitor with default options costs a `fit`: the same run without it and with it.

    python benchmarks/monitor_cost.py --data-folder DATA --encoder-folder MINILM

The run of `examples/sst2.yaml`: MiniLM on 160 batches of 16 SST-2 sentences, validated four times on 28 batches. Both
runs start from one seed, and have to end in the same weights.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from sst2 import fine_tune, parser

from lightning_interpret import SaliencyMonitor


class Clock(Callback):
    """Seconds from the first training batch to the end, and those that the Monitor says it took to explain."""

    def __init__(self) -> None:
        self.begin = self.wall = self.explaining = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start."""
        self.begin = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add what the last validation run took."""
        if not trainer.sanity_checking:
            self.explaining += float(trainer.callback_metrics.get("interpret/saliency/seconds", 0.0))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop."""
        self.wall = time.perf_counter() - self.begin


class Timed(SaliencyMonitor):
    """A SaliencyMonitor that says how long its hooks took, pictures and logging included."""

    spent = 0.0

    def _compute(self, *args: Any) -> None:
        begin = time.perf_counter()
        super()._compute(*args)
        self.spent += time.perf_counter() - begin

    def _log(self, *args: Any) -> None:
        begin = time.perf_counter()
        super()._log(*args)
        self.spent += time.perf_counter() - begin


def run(args: Any, callbacks: list[Callback]) -> tuple[Clock, dict[str, torch.Tensor]]:
    """Return the clock of a run with some callbacks, and the weights at its end."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        module = fine_tune(args, folder, [*callbacks, clock])
    return clock, {name: value.cpu().clone() for name, value in module.state_dict().items()}


def main() -> None:
    """Run both and print the share."""
    args = parser("The share of a fit that a SaliencyMonitor with default options takes.").parse_args()
    monitor = Timed(name="saliency")
    plain, without = run(args, [])
    watched, with_it = run(args, [monitor])
    same = all(torch.equal(value, with_it[name]) for name, value in without.items())
    print(f"fit without a Monitor      {plain.wall:8.2f} s")
    print(f"fit with SaliencyMonitor   {watched.wall:8.2f} s   ({watched.wall / plain.wall - 1:+.1%})")
    print(f"explaining                 {watched.explaining:8.2f} s   ({watched.explaining / plain.wall:.1%})")
    print(f"all of its hooks           {monitor.spent:8.2f} s   ({monitor.spent / plain.wall:.1%})")
    print(f"weights at the end         {'the same to the last bit' if same else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
