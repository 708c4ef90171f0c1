"""A batch on its way to the module, as the trainer's own loops hand it over."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lightning_interpret.tasks import batches
from lightning_interpret.trainer._compat import before_batch_transfer


def to_module(batch: Any, trainer: Trainer, module: LightningModule, *, precision: str, moved: bool) -> Any:
    """Return a batch as the evaluation loop would hand it to the module, in the precision of the Monitor.

    Args:
        batch: The batch.
        trainer: The trainer.
        module: Its module.
        precision: ``"32"`` for tensors in single precision at least, ``"model"`` for the trainer's own.
        moved: Whether the evaluation loop has moved it already, with the user's hooks.
    """
    batch = batches.clone(batch)
    if not moved:
        batch = trainer.precision_plugin.convert_input(batch)
        batch = trainer.strategy.batch_to_device(before_batch_transfer(module, batch))
    return batches.to_full_precision(batch) if precision == "32" else batch
