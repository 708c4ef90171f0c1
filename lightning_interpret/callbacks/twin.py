"""PlainTwin: the accuracy that a joint method costs, measured against the same module trained without it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torchmetrics import MeanMetric

from lightning_interpret.callbacks.monitor import Monitor
from lightning_interpret.names import check_seed, choose
from lightning_interpret.tasks import Task, find_task
from lightning_interpret.tasks.classification import Classification
from lightning_interpret.trainer.context import attribution_mode
from lightning_interpret.trainer.second_training import SecondTraining, check_known
from lightning_interpret.trainer.transfer import to_module

Metrics = dict[str, MeanMetric]


class PlainTwin(Callback):
    """A callback that trains the module without its joint methods beside it, and logs what they cost in accuracy.

    The twin is a copy of the module as the first epoch begins, made plain by ``become_plain()``: plain dropout of the
    same rate at the same sites in the place of turn-over dropout, the head alone in that of the kernel layer. It is
    trained on the same batches, with an optimizer and schedules of its own; what it logs and draws at random does not
    reach the run, whose weights are the same to the last bit with it and without it. It is a second training: a step
    takes twice as long, and weights and optimizer are held, and written to checkpoints, twice.

    Logged at each validation of a fit, over the first validation data set, under ``interpret/<name>/``:

    * ``accuracy`` and ``loss`` of the twin,
    * ``cost``: its accuracy less the module's, positive where the joint method costs something,
    * ``seconds`` that it took since the last validation.

    Both are evaluated by the task, in the trainer's precision. A single difference is of two trainings that differ in
    what they draw too: judge a method by several seeds. Afterwards the twin is :attr:`twin`.

    Args:
        name: Part of every tag.
        task: How module and batch are read; by default the module's own or one inferred from its model.
        seed: Seed of what the twin draws at random.
        on_error: ``"warn"`` to end the twin's training alone, ``"raise"`` to stop the run.

    Raises:
        ValueError: In ``setup``, if the module has no joint method, is optimised by hand or runs in several processes;
            before training, if it has several optimizers, or a schedule that monitors a metric, or if its task is no
            classification, or if a run is resumed from a checkpoint that holds no twin.

    Example::

        trainer = Trainer(callbacks=[PlainTwin()])
        trainer.fit(module, data)
        trainer.callback_metrics["interpret/twin/cost"]
    """

    def __init__(
        self,
        *,
        name: str = "twin",
        task: Task | None = None,
        seed: int = 0,
        on_error: Literal["warn", "raise"] = "warn",
    ) -> None:
        check_seed(seed)
        self.name, self.task, self.seed = name, task, seed
        self.on_error = choose("on_error", on_error, ("warn", "raise"))
        self._second: SecondTraining | None = None
        self._state: Mapping[str, Any] | None = None  # of a checkpoint
        self._reason: str | None = None  # why the twin's training has ended before its time
        self._metrics: Metrics = {}
        self._seconds = 0.0

    @property
    def twin(self) -> LightningModule | None:
        """The twin, from the first epoch on; ``None`` where its training has failed."""
        return None if self._second is None else self._second.module

    @property
    def state_key(self) -> str:
        """Its key in a checkpoint."""
        return self._generate_state_key(name=self.name)

    # Before training

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work."""
        others = [each for each in trainer.callbacks if isinstance(each, Monitor | PlainTwin) and each is not self]  # type: ignore[attr-defined]
        if any(each.name == self.name for each in others):
            raise ValueError(f"Another callback has `name={self.name!r}` too: give one of them another name.")
        if stage != "fit":
            return
        if not callable(getattr(pl_module, "become_plain", None)):
            raise ValueError(
                f"{type(pl_module).__name__} has no joint method that could cost anything: PlainTwin is for modules "
                "with a mixin such as TurnOverDropoutMixin."
            )
        if type(trainer.strategy).__name__ != "SingleDeviceStrategy":
            raise ValueError(
                f"PlainTwin does not run under {type(trainer.strategy).__name__}, as it would have to share the twin's "
                "gradients too: measure the cost with `Trainer(devices=1)`, and train without it."
            )
        check_known(pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse what has no accuracy."""
        self._task(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the module, or go on with the twin of the checkpoint or of the fit before."""
        begin, state = _now(pl_module), self._state
        if state is None and trainer.global_step and (self._second or self._reason):
            state = self.state_dict()
        if state is None and trainer.global_step:
            raise ValueError(
                f"The module has made {trainer.global_step} steps and PlainTwin(name={self.name!r}) none: the "
                "checkpoint was written without it. Leave it out, or begin anew."
            )
        self._second, self._state, self._reason = None, None, (state or {}).get("ended")
        if self._reason is not None:
            self._warn(self._reason)
            return
        second = SecondTraining(pl_module, trainer, _become_plain, self.seed)
        second.begin(state)
        self._second, self._seconds = second, _now(pl_module) - begin

    # Training

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin an epoch."""
        self._run(pl_module, lambda second: second.begin_epoch())

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Train the twin, before the module's own step can change the batch."""
        self._run(pl_module, lambda second: second.step(batch, batch_idx))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End an epoch."""
        self._run(pl_module, lambda second: second.end_epoch())

    # Validation

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        counted = self._second is not None and trainer.state.fn == "fit" and not trainer.sanity_checking
        names = ("own", "accuracy", "loss") if counted else ()
        self._metrics = {name: MeanMetric().to(pl_module.device) for name in names}

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Evaluate module and twin."""
        if self._metrics and dataloader_idx == 0:
            self._run(pl_module, lambda second: self._evaluate(trainer, pl_module, second.module, batch))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log."""
        if not self._metrics or self._second is None:
            return
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The ``compute`` method of metric", category=UserWarning)
            own, accuracy, loss = (self._metrics[name].compute() for name in ("own", "accuracy", "loss"))
        found = {"accuracy": accuracy, "cost": accuracy - own, "loss": loss, "seconds": torch.tensor(self._seconds)}
        for what, value in found.items():
            pl_module.log(f"interpret/{self.name}/{what}", value)
        self._metrics, self._seconds = {}, 0.0

    def _evaluate(self, trainer: Trainer, module: LightningModule, twin: LightningModule, batch: Any) -> None:
        task = self._task(module)
        for name, each in (("own", module), ("accuracy", twin)):
            with attribution_mode(trainer, each, "model"):
                given = to_module(batch, trainer, each, precision="model", moved=True)
                predicted, labels = task.logits(each, given).argmax(dim=1), task.labels(given)
                if labels is None:
                    raise ValueError("the validation batch has no labels, so there is no accuracy")
                self._metrics[name].update((predicted == labels).float())
                if each is twin:
                    self._metrics["loss"].update(task.losses(each, given).detach().float())

    def _task(self, module: LightningModule) -> Classification:
        task = find_task(module, task=self.task)
        if not isinstance(task, Classification):
            raise ValueError(f"PlainTwin compares accuracies, and {type(task).__name__} is no classification.")
        return task

    # What goes wrong, and what is kept

    def _run(self, module: LightningModule, call: Callable[[SecondTraining], None]) -> None:
        if self._second is None:
            return
        begin = _now(module)
        try:
            call(self._second)
        except Exception as error:
            if self.on_error == "raise":
                raise
            self._second, self._metrics, self._reason = None, {}, f"{type(error).__name__}: {error}"
            self._warn(self._reason)
        self._seconds += _now(module) - begin

    def _warn(self, why: str) -> None:
        warnings.warn(
            f"PlainTwin(name={self.name!r}): the twin's training has ended ({why}); the module's goes on.", stacklevel=2
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the twin's weights, optimizer and schedules."""
        if self._second is None:
            return {} if self._reason is None else {"ended": self._reason}
        return self._second.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state for when the twin is there."""
        self._state = state_dict or None


def _become_plain(module: Any) -> None:
    module.become_plain()


def _now(module: LightningModule) -> float:
    if module.device.type == "cuda":
        torch.cuda.synchronize(module.device)
    return time.perf_counter()
