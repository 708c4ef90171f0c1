"""One method asked for its scores of some probes, of settled targets; what it fails at is told, not raised."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.methods import Method
from lightning_interpret.methods.perturbed import settled
from lightning_interpret.tasks import Targets, Task

RANKS_ONLY = "ranks only"


@dataclass(frozen=True)
class Said:
    """What a method says of N probes.

    Attributes:
        scores: ``(N, T)`` in double precision, on the CPU; 0 where it failed.
        failed: Why it failed at each probe; ``None`` where it did not.
        figures: ``(N,)`` each: ``seconds``, ``passes``, and ``error`` and ``target`` where it has one.
        reasons: By figure, why it is missing.
    """

    scores: Tensor
    failed: list[str | None]
    figures: dict[str, Tensor]
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def known(self) -> Tensor:
        """Which probes it explained, bool ``(N,)``."""
        return torch.tensor([why is None for why in self.failed])


def ask(
    method: Method, module: nn.Module, batch: Any, task: Task, targets: Targets, output: str, shape: torch.Size
) -> Said:
    """Return what a method says of a batch; where it fails at several examples, each is tried alone.

    Args:
        method: The method.
        module: The module.
        batch: The probes, prepared.
        task: How both are read.
        targets: What is explained, whatever the module predicts, or writes, now.
        output: What of the targets is attributed.
        shape: ``(N, T)`` that the scores must have.
    """
    begin = _now(module)
    try:
        record = method(module, batch, settled(task, targets), output=output)
        scores = record.scores.double().flatten(1)  # of a picture, location after location
        if scores.shape != shape:
            raise ValueError(f"its scores {tuple(scores.shape)} are not for the units {tuple(shape)} of the input")
    except Exception as error:  # of the method's own making, whatever it is: the others are still compared
        if len(targets.index) > 1:
            return _one_by_one(method, module, batch, task, targets, output, shape)
        nothing = torch.full((1,), torch.nan, dtype=torch.float64)
        figures = {"seconds": torch.full_like(nothing, _now(module) - begin), "passes": nothing}
        return Said(torch.zeros(shape, dtype=torch.float64), [f"{type(error).__name__}: {error}"], figures)
    count = shape[0]
    figures = {
        "seconds": torch.full((count,), (_now(module) - begin) / count, dtype=torch.float64),
        "passes": (record.forwards + record.gradients).double(),
    }
    reasons = {}
    if record.error is None or record.attribution_target is None:
        reasons["relative_error"] = f"{RANKS_ONLY}: {record.reasons.get('error', 'it has no target')}"
    else:
        figures["error"] = record.error.double().abs()
        figures["target"] = record.attribution_target.double().abs().clamp(min=record.error_floor or 1e-12)
    finite = scores.isfinite().all(dim=1).tolist()
    failed = [None if fine else "its scores are not finite" for fine in finite]
    return Said(scores.nan_to_num(0.0, 0.0, 0.0), failed, figures, reasons)


def _one_by_one(
    method: Method, module: nn.Module, batch: Any, task: Task, targets: Targets, output: str, shape: torch.Size
) -> Said:
    parts = []
    for i in range(shape[0]):
        row = torch.tensor([i])
        one = task.take(batch, targets.example[row].cpu())
        parts.append(ask(method, module, one, task, targets.at(row), output, torch.Size((1, shape[1]))))
    names = dict.fromkeys(name for part in parts for name in part.figures)
    missing = torch.full((1,), torch.nan, dtype=torch.float64)
    return Said(
        torch.cat([part.scores for part in parts]),
        [why for part in parts for why in part.failed],
        {name: torch.cat([part.figures.get(name, missing) for part in parts]) for name in names},
        {name: why for part in parts for name, why in part.reasons.items()},
    )


def _now(module: nn.Module) -> float:
    device = next((weight.device for weight in module.parameters()), None)
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
