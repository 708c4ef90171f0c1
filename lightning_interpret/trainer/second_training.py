"""A second module, trained beside the trainer's own on the same batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy, deepcopy
from inspect import signature
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor
from torch.optim import LBFGS
from torchmetrics import Metric

from lightning_interpret.data.random_states import random_states_kept, seed_all
from lightning_interpret.tasks import batches
from lightning_interpret.trainer._compat import copy_of, optimizers_of
from lightning_interpret.trainer.context import mute


class SecondTraining:
    """A copy of the trainer's module that is trained as the trainer trains its own, and disturbs nothing of it.

    The copy has weights, optimizer, schedules and random states of its own, and a trainer that is a copy too: it has no
    callbacks and a logger that writes nothing. Of the trainer's loop are taken: accumulation, gradient clipping, the
    precision, the intervals of schedules, and the module's own hooks around the step.

    Args:
        module: The trainer's module, as it is now.
        trainer: A trainer whose fit is about to begin its first epoch.
        change: What is done to the copy before it is trained.
        seed: Seed of what the copy draws at random; with epoch and batch it says the random numbers of a step.

    Raises:
        ValueError: If the module is optimised by hand or with several optimizers, or in a way that is not known here.
    """

    def __init__(
        self, module: LightningModule, trainer: Trainer, change: Callable[[LightningModule], None], seed: int = 0
    ) -> None:
        check_known(module)
        self._own, self._seed = trainer, seed
        self._trainer = copy(trainer)
        self._trainer.callbacks, self._trainer.loggers = [], [DummyLogger()]  # type: ignore[attr-defined]
        with self._random_states("copy"):
            self.module = copy_of(module)
            self.module.trainer = self._trainer
            mute(self.module)
            change(self.module)

    def begin(self, state: Mapping[str, Any] | None = None) -> None:
        """Ask the module for its optimizer, and go on from a state where one is given.

        Raises:
            ValueError: If what the module returns cannot be served.
        """
        with self._random_states("begin"):
            optimizers, self._schedules = optimizers_of(self.module)
            if len(optimizers) != 1 or isinstance(optimizers[0], LBFGS):
                names = ", ".join(type(each).__name__ for each in optimizers)
                raise ValueError(f"A second training needs one optimizer that is not LBFGS; the module has: {names}.")
            if any(each.reduce_on_plateau for each in self._schedules):
                raise ValueError(
                    "A second training cannot follow ReduceLROnPlateau: what it monitors is logged by the first."
                )
            (self._optimizer,) = optimizers
            self._scaler = deepcopy(getattr(self._own.precision_plugin, "scaler", None))
            if state is not None:
                self.load_state_dict(state)
            self.module.on_train_start()

    def begin_epoch(self) -> None:
        """Call what the module has for the start of an epoch."""
        with self._random_states("epoch"):
            self.module.on_train_epoch_start()

    def step(self, batch: Any, index: int) -> None:
        """Train on a batch, on the module's device already; called before the trainer's own step has changed it."""
        trainer, module = self._own, self.module
        last = trainer.is_last_batch or index + 1 >= trainer.num_training_batches
        due = last or (index + 1) % trainer.accumulate_grad_batches == 0
        with self._random_states(index):
            batch = batches.clone(batch)
            outputs = {}
            if module.on_train_batch_start(batch, index) != -1:
                outputs = self._learn(batch, index, due)
            for each in self._schedules:
                number = index if each.interval == "step" else trainer.current_epoch
                ready = due if each.interval == "step" else last
                if ready and (number + 1) % each.frequency == 0:
                    module.lr_scheduler_step(each.scheduler, None)
            module.on_train_batch_end(outputs, batch, index)

    def end_epoch(self) -> None:
        """Call what the module has for the end of an epoch, and reset its metrics, as they are logged nowhere."""
        with self._random_states("end of epoch"):
            self.module.on_train_epoch_end()
            for part in self.module.modules():
                if isinstance(part, Metric):
                    part.reset()

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimizer and schedules."""
        return {
            "module": self.module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedules": [each.scheduler.state_dict() for each in self._schedules],
            "scaler": None if self._scaler is None else self._scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.module.load_state_dict(state["module"])
        self._optimizer.load_state_dict(state["optimizer"])
        for each, own in zip(self._schedules, state["schedules"], strict=True):
            each.scheduler.load_state_dict(own)
        if self._scaler is not None and state["scaler"] is not None:
            self._scaler.load_state_dict(state["scaler"])

    def _learn(self, batch: Any, index: int, due: bool) -> dict[str, Any]:
        """Forward, backward, and a step of the optimizer where one is due; return what the step returned."""
        trainer, module, optimizer = self._own, self.module, self._optimizer
        takes_index = len(signature(module.training_step).parameters) > 1
        with trainer.precision_plugin.train_step_context():
            result = module.training_step(batch, *((index,) if takes_index else ()))
        loss: Tensor | None = result["loss"] if isinstance(result, Mapping) else result
        if index % trainer.accumulate_grad_batches == 0:
            module.on_before_zero_grad(optimizer)
            module.optimizer_zero_grad(trainer.current_epoch, index, optimizer)
        if loss is not None:
            scaled = loss / trainer.accumulate_grad_batches
            scaled = scaled if self._scaler is None else self._scaler.scale(scaled)
            module.on_before_backward(scaled)
            module.backward(scaled)
            module.on_after_backward()
        if due:
            if self._scaler is not None:
                self._scaler.unscale_(optimizer)
            module.on_before_optimizer_step(optimizer)
            module.configure_gradient_clipping(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
            if self._scaler is None:
                module.optimizer_step(trainer.current_epoch, index, optimizer, lambda: loss)
            else:
                self._scaler.step(optimizer)
                self._scaler.update()
        return {} if loss is None else {"loss": loss.detach()}

    @contextmanager
    def _random_states(self, when: int | str) -> Iterator[None]:
        """Run a block with random states that depend on the seed and the place alone; those outside stay as they are.

        So nothing has to be kept for a run that is resumed.
        """
        place = f"{self._seed}/{self._own.current_epoch}/{when}"
        drawn = int.from_bytes(hashlib.blake2b(place.encode(), digest_size=4).digest(), "little")
        devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
        with random_states_kept(), torch.random.fork_rng(devices):
            seed_all(drawn)
            if devices:
                torch.cuda.manual_seed(drawn)
            yield


def check_known(module: LightningModule) -> None:
    """Raise a ``ValueError`` for a module that trains in a way which a second training cannot follow."""
    name = type(module).__name__
    if not module.automatic_optimization:
        raise ValueError(f"{name} is optimised by hand, which a second training cannot follow.")
    if "dataloader_iter" in signature(module.training_step).parameters:
        raise ValueError(f"{name}.training_step takes `dataloader_iter`, so there are no batches to train on twice.")
