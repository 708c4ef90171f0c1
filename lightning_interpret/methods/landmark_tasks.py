"""Tasks as a kernel layer's explanation reads them: without units of the input, or with one kernel value explained."""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.explanations import Units
from lightning_interpret.functional.features import Features
from lightning_interpret.tasks import Layout, Targets, Task, batches


def without_units(task: Task, layer: str) -> Task:
    """Return the task with one layer, whose values need no units of the input: tasks may have none."""
    kernel: Any = copy(task)
    kernel.layer = lambda module: layer
    kernel.units = lambda batch: Units.features(batches.batch_size(batch), 1)
    kernel.layout = _numbered
    return kernel


def resembling(task: Task, module: nn.Module, batch: Any, layer: str, place: int, name: str) -> Task:
    """Return the task of explaining k(query, landmark) in which the kernel values are the scores of the classes.

    Called inside the explaining scope; costs a forward pass.

    Args:
        task: How the module is read.
        module: The module.
        batch: The queries, of which prediction and gold label stay what they are.
        layer: Name of the layer that returns the kernel values, ``(B, l)``, or ``(B, T, l)``, of which the sum counts.
        place: Which landmark.
        name: How it is called.
    """
    with torch.no_grad():
        said = task.names(task.logits(module, batch)), task.gold_names(batch)
    kernel: Any = copy(task)
    kernel.logits = partial(_values, task, layer)
    kernel.resolve = partial(_resolve, place, name)
    kernel.score = _score
    kernel.compared = lambda values, batch, targets: said
    return kernel


def _numbered(module: nn.Module, batch: Any, values: Tensor, layer: str) -> Layout:
    return Layout.leading(Units.features(len(values), values[0].numel()))


def _values(task: Task, layer: str, module: nn.Module, batch: Any) -> Tensor:
    with Features(module, layer) as opened:
        _, values = opened.read(lambda: task.logits(module, batch))
    return values.flatten(1, -2).sum(dim=1) if values.dim() > 2 else values


def _resolve(place: int, name: str, values: Tensor, batch: Any, which: str) -> Targets:
    every = torch.arange(len(values), device=values.device)
    there = torch.full_like(every, place)
    return Targets(every, there, there, False, (name,) * len(values))


def _score(values: Tensor, targets: Targets, output: str) -> Tensor:
    return values[targets.example].gather(1, targets.index[:, None]).squeeze(1)
