"""How far a run has come."""

from __future__ import annotations

import math

from lightning.pytorch import Trainer


def progress(trainer: Trainer, batch_idx: int) -> float | None:
    """Return the share of a fit that is done as a batch begins, in [0, 1].

    None where no end is known: of a run without one, and of a single epoch over data that has no length. Of several
    such epochs it is the share at the beginning of each.

    Args:
        trainer: The trainer.
        batch_idx: The batch's index in its epoch.
    """
    shares = []
    if trainer.max_steps > 0:
        shares.append(trainer.global_step / trainer.max_steps)
    epochs, size = trainer.max_epochs, trainer.num_training_batches
    if epochs is not None and epochs > 0 and (epochs > 1 or size < math.inf):
        begun = batch_idx / size if 0 < size < math.inf else 0.0
        shares.append((trainer.current_epoch + begun) / epochs)
    return min(max(shares), 1.0) if shares else None


def last_known(trainer: Trainer) -> float:
    """Return the largest share of a fit that :func:`progress` will tell: less than 1 where data has no length."""
    if trainer.max_steps > 0 or trainer.num_training_batches < math.inf:
        return 1.0
    return 1 - 1 / max(trainer.max_epochs or 0, 1)
