"""How a joint method reads the module it is in."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lightning_interpret.tasks import Task, find_task
from lightning_interpret.tasks.classification import Classification


class _CalledTask(Classification):
    """Calls the module with the batch."""

    def logits(self, module: nn.Module, batch: Any) -> Tensor:
        try:
            return module(batch)
        except (TypeError, AttributeError) as error:
            raise ValueError(
                f"{type(module).__name__} cannot be called with a batch ({error}): define `interpret_task()` on it."
            ) from error


def known_task(module: nn.Module) -> Task:
    """Return how a module is read: its own task, one inferred, or else it is called with the batch."""
    try:
        return find_task(module)
    except ValueError:
        return _CalledTask()
