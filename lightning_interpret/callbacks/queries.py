"""Which validation examples are asked about: the worst, the least sure, or fixed ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_interpret.callbacks.probes import Probes
from lightning_interpret.tasks import Task
from lightning_interpret.trainer.transfer import to_module

QUERIES = ("worst", "unsure", "fixed")
_AT_ONCE = 64


@dataclass(frozen=True)
class Queries:
    """Examples that are asked about.

    Attributes:
        batch: Their batch, on the module's device.
        why: Why each was picked, in words, and where it stands in its data set.
        scanned: How many examples they were picked from.
    """

    batch: Any
    why: tuple[str, ...]
    scanned: int


def pick(
    kind: str,
    probes: Probes,
    scan: int,
    *,
    trainer: Trainer,
    module: LightningModule,
    task: Task,
    current: Any,
    precision: str,
) -> Queries:
    """Return as many queries as there are probes; called in the attribution context.

    Every process picks the same ones: each scans the same examples, and nothing is exchanged.

    Args:
        kind: ``worst`` (highest loss), ``unsure`` (lowest probability of what is predicted) or ``fixed`` (the probes).
        probes: The fixed examples; as many queries are picked.
        scan: How many examples of the data, spread evenly, are looked through for the worst and the least sure.
        trainer: The trainer.
        module: Its module.
        task: How batches are read.
        current: The batch at hand, for data without indices.
        precision: The Monitor's.

    Raises:
        ValueError: If the losses are asked for and there are no labels, or no example has a finite number.
    """

    def ready(found: Probes, numbers: range | list[int]) -> Any:
        batch = found.batch(numbers, current, task)
        return to_module(batch, trainer, module, precision=precision, moved=not found.indexed)

    count = probes.within(current)
    if kind == "fixed":
        why = tuple(f"a fixed probe{_place(probes, i)}" for i in range(count))
        return Queries(ready(probes, range(count)), why, count)
    found = probes.spread(scan)
    size = found.within(current)

    def measured() -> Iterator[Tensor]:
        for start in range(0, size, _AT_ONCE):
            batch = ready(found, range(start, min(size, start + _AT_ONCE)))
            yield _losses(task, module, batch) if kind == "worst" else _doubts(task, module, batch)

    values = torch.cat(list(measured())).double().cpu()
    finite = values.isfinite()
    if not bool(finite.any()):
        raise ValueError(f"`queries={kind!r}`: none of {size} validation examples has a finite number to go by.")
    order = values.masked_fill(~finite, -torch.inf).argsort(descending=True, stable=True)
    chosen = order[: min(count, int(finite.sum()))].tolist()
    what = "loss" if kind == "worst" else "doubt"
    why = tuple(
        f"{what} {values[i]:.3g}: number {rank} of {size}{_place(found, i)}" for rank, i in enumerate(chosen, 1)
    )
    return Queries(ready(found, chosen), why, size)


def _place(found: Probes, number: int) -> str:
    """Return in words where an example stands in its data set, so that one without id and text can be found too."""
    return f", index {found.indices[number]}" if found.indexed else ""


@torch.no_grad()
def _losses(task: Task, module: LightningModule, batch: Any) -> Tensor:
    if task.labels(batch) is None:
        raise ValueError("`queries='worst'`, but the batches have no labels: use 'unsure' or 'fixed'.")
    return task.losses(module, batch)


@torch.no_grad()
def _doubts(task: Task, module: LightningModule, batch: Any) -> Tensor:
    known = task.log_probabilities(task.logits(module, batch))
    if known is None:
        raise ValueError("`queries='unsure'`, but the task knows no probabilities: use 'worst' or 'fixed'.")
    return 1 - known.max(dim=1).values.exp()
