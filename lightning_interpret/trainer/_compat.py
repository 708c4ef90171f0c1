"""What we read of Lightning that is not public: one place, held by contract tests."""

from copy import deepcopy
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.core.optimizer import _init_optimizers_and_lr_schedulers
from torch.optim import Optimizer


def logging_step(trainer: Trainer) -> int:
    """Return the step at which Lightning stamps validation scalars, so that our points sit on the same x."""
    loop = getattr(trainer.fit_loop, "epoch_loop", None)
    return int(getattr(loop, "_batches_that_stepped", trainer.global_step))


def before_batch_transfer(module: LightningModule, batch: Any) -> Any:
    """Return the batch after ``on_before_batch_transfer``: the module's hook, or the data module's where it has one."""
    hook = getattr(module, "_on_before_batch_transfer", module.on_before_batch_transfer)
    return hook(batch, 0)


def fast_dev_run(trainer: Trainer) -> bool:
    """Return whether the trainer only tries the code: an attribute that Lightning sets and does not declare."""
    return bool(getattr(trainer, "fast_dev_run", False))


def own_sampler(sampler: Any) -> Any:
    """Return the user's sampler, taken out of what Lightning puts around it in distributed training."""
    return getattr(getattr(sampler, "dataset", None), "_sampler", sampler)


def given_train_loaders(trainer: Trainer) -> Any:
    """Return the loaders that were handed to ``trainer.fit``, or None.

    ``trainer.train_dataloader`` is None until the loop has set them up, which is after ``on_fit_start``.
    """
    source = getattr(getattr(trainer.fit_loop, "_data_source", None), "instance", None)
    return None if isinstance(source, LightningModule | LightningDataModule) else source


def logs_in_training_step(module: LightningModule) -> bool:
    """Return whether what a module logs now is of a training step that a trainer runs."""
    trainer = getattr(module, "_trainer", None)
    current = getattr(module, "_current_fx_name", None)
    return trainer is not None and current == "training_step" and not trainer.barebones


def optimizers_of(module: LightningModule) -> tuple[list[Optimizer], list[Any]]:
    """Return what ``configure_optimizers`` gives, read and checked as the trainer does it: optimizers and schedules."""
    return _init_optimizers_and_lr_schedulers(module)


def copy_of(module: LightningModule) -> LightningModule:
    """Return a copy of a module that shares nothing with it; of a compiled one, a copy that is not compiled."""
    context = module._compiler_ctx
    copied = deepcopy(module, {} if context is None else {id(context): None})
    if context is not None:  # its compiled steps are functions of the module, not of the copy
        for name in ("forward", "training_step", "validation_step", "test_step", "predict_step"):
            vars(copied).pop(name, None)
    return copied


def averaged_copies(trainer: Trainer) -> list[LightningModule]:
    """Return the modules in which callbacks of ``StochasticWeightAveraging`` keep their averages."""
    averaging = [each for each in trainer.callbacks if isinstance(each, StochasticWeightAveraging)]  # type: ignore[attr-defined]
    return [copied for each in averaging if (copied := getattr(each, "_average_model", None)) is not None]
