"""What may be measured at a query in the place of its loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.tasks import Task


class LossOfPrediction:
    """The loss of what is predicted: of queries without a label, −log p of their most probable class, ``(B,)``.

    Args:
        task: How module and batch are read.
        classes: The classes, long ``(B,)``; by default those that are predicted at each call.

    Raises:
        ValueError: When called, if the task knows no probabilities.
    """

    def __init__(self, task: Task, classes: Tensor | None = None) -> None:
        self._task, self._classes = task, classes

    def __call__(self, module: nn.Module, batch: Any) -> Tensor:
        """Return the loss of each example; of settled ones the batch may hold them repeated, all in turn."""
        known = self._known(module, batch)
        classes = known.argmax(dim=1) if self._classes is None else self._classes
        return -known.gather(1, classes.repeat(len(known) // len(classes))[:, None]).squeeze(1)

    @torch.no_grad()
    def settled(self, module: nn.Module, batch: Any) -> LossOfPrediction:
        """Return this for the classes that the module predicts as it is, whatever a part of it would predict."""
        return LossOfPrediction(self._task, self._known(module, batch).argmax(dim=1))

    def _known(self, module: nn.Module, batch: Any) -> Tensor:
        known = self._task.log_probabilities(self._task.logits(module, batch))
        if known is None:
            raise ValueError(
                "The queries have no labels, and the model says no probabilities: there is no loss to explain."
            )
        return known
