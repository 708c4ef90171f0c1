"""What every Monitor shares: when it runs, on which examples, in which context, for how long, and where it writes."""

from __future__ import annotations

import re
import time
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from math import inf, nan
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torchmetrics import MaxMetric, Metric, SumMetric

from lightning_interpret.callbacks import output
from lightning_interpret.callbacks.probes import Probes
from lightning_interpret.functional.wrapped import check_whole_weights
from lightning_interpret.names import check_whole, choose
from lightning_interpret.report.presenters import Row
from lightning_interpret.tasks import Task, find_task
from lightning_interpret.trainer._compat import fast_dev_run, logging_step
from lightning_interpret.trainer.context import PRECISIONS, attribution_mode
from lightning_interpret.trainer.transfer import to_module

STRATEGIES = ("SingleDeviceStrategy", "DDPStrategy")


class Monitor(Callback):
    """A callback that explains fixed examples of the validation data and logs what it finds.

    It computes at the first batch of a validation run, with the weights that are validated, and logs at the
    end of it. It never changes training: weights, buffers, optimiser, gradients, flags, hooks and random states are
    bit-identical with it and without it. Subclasses say what a probe's explanation is and which numbers it gives.

    Outside that promise is what no scope around the module can undo: what a forward changes inside a container that the
    module keeps (appends to a list), a weight that it changes in place, and a data set that changes when it is read (it
    draws from a random generator of its own, or opens a file at its first example), as the probes are read from it.

    Logged for every Monitor under ``interpret/<name>/``: ``seconds`` (of the slowest process) and ``failures``
    (examples that could not be explained). ``validate``, ``test`` and ``predict`` log under ``<name>_<stage>``. What
    has no number in a validation run is not logged, and NaN to callbacks that monitor it.

    Args:
        name: Part of every tag; by default the class name without "Monitor", in snake case.
        task: How module and batch are read; by default the module's own or one inferred from its model.
        tokenizer: The tokenizer (an object, a name or a directory) for a task that is inferred.
        probes: How many examples of the first validation data set, spread evenly, or their indices. What a Monitor
            costs grows with them (``benchmarks/monitor_cost.py``).
        every_n_validations: Validation runs from one explanation to the next.
        max_seconds: Seconds a validation run may spend here; what is left out is said once. ``None`` for no bound. What
            is begun is brought to its end: a single text may take longer, which is said too.
        precision: ``"32"`` to explain in single precision, ``"model"`` in the trainer's own.
        on_error: ``"warn"`` to count and go on, ``"raise"`` to stop the run.
        save_jsonl: Whether to append the records to ``interpret/<name>.jsonl`` in the log directory, or a path.

    Raises:
        ValueError: If an option is out of its range; in ``setup``, if another Monitor has this name.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        task: Task | None = None,
        tokenizer: Any = None,
        probes: int | list[int] = 3,
        every_n_validations: int = 1,
        max_seconds: float | None = 60.0,
        precision: Literal["32", "model"] = "32",
        on_error: Literal["warn", "raise"] = "warn",
        save_jsonl: bool | str = False,
    ) -> None:
        choose("precision", precision, PRECISIONS)
        choose("on_error", on_error, ("warn", "raise"))
        if isinstance(probes, bool) or probes == []:
            raise ValueError(f"`probes={probes!r}` must be a number of at least 1, or a list of indices.")
        if not isinstance(probes, list):
            check_whole(probes=probes)
        check_whole(every_n_validations=every_n_validations)
        if max_seconds is not None and not max_seconds > 0:
            raise ValueError(f"`max_seconds={max_seconds}` must be positive, or None for no bound.")
        self.name = name or _snake_case(type(self).__name__.removesuffix("Monitor"))
        self.task, self.tokenizer, self.probes = task, tokenizer, probes
        self.every_n_validations, self.max_seconds = every_n_validations, max_seconds
        self.precision, self.on_error, self.save_jsonl = precision, on_error, save_jsonl
        self._runs = 0
        self._waiting: tuple[Task, Probes] | None = None  # from the start of a run to its first batch
        self._metrics: dict[str, Metric] = {}
        self._rows: output.Rows = []
        self._said: set[str] = set()

    # What a Monitor is: its explanation of some examples, and the numbers it makes of them

    @abstractmethod
    def explain(self, module: LightningModule, batch: Any, task: Task) -> Iterable[Row | tuple[Row, ...]]:
        """Return one record for each example of a batch, or a tuple of which the first is the example's own.

        Called in the attribution context. Of a tuple, a sweep over layers, every record is written to the file, the
        first is shown, and all together are shown as ``layers``.
        """

    @abstractmethod
    def metrics(self) -> dict[str, Metric]:
        """Return fresh metrics by what they are logged as."""

    @abstractmethod
    def update(self, metrics: dict[str, Metric], probe: int, row: Any, *others: Any) -> None:
        """Add one probe's record to the metrics; ``others`` are there where :meth:`explain` returns a tuple."""

    def check(self, module: LightningModule, task: Task) -> None:
        """Raise for options that this module and task cannot serve; called before training starts."""

    # When it runs

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work, and say what cannot be shown."""
        strategy = type(trainer.strategy).__name__
        if strategy not in STRATEGIES:
            raise ValueError(
                f"{type(self).__name__} does not run under {strategy}: the module's weights are not whole in one "
                f"process there. Use {' or '.join(STRATEGIES)}."
            )
        others = [c for c in trainer.callbacks if isinstance(c, Monitor) and c is not self and c.name == self.name]  # type: ignore[attr-defined]
        if others:
            raise ValueError(f"Two Monitors have `name={self.name!r}`: give one of them another name.")
        for problem in output.problems(trainer, self.save_jsonl):
            self._say(problem)
        self._runs, self._waiting, self._metrics = 0, None, {}  # another entry point may have other data

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the task and check every option that names something, before training starts."""
        self._prepare(trainer, pl_module)
        if not trainer.enable_validation:
            self._say(
                "this fit has no validation (no loader, no step, or `limit_val_batches=0`): nothing is explained."
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a validation run."""
        if trainer.sanity_checking:
            Probes(trainer.val_dataloaders, self.probes)  # an index outside the data set stops here, not an epoch later
            return
        self._start(trainer, pl_module, trainer.val_dataloaders)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a test run."""
        self._start(trainer, pl_module, trainer.test_dataloaders)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a predict run."""
        self._start(trainer, pl_module, trainer.predict_dataloaders)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Explain the probes with the weights that are validated."""
        self._compute(trainer, pl_module, batch)

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what was found."""
        self._log(trainer, pl_module)

    on_test_epoch_end = on_predict_epoch_end = on_validation_epoch_end

    # How

    def _prepare(self, trainer: Trainer, module: LightningModule) -> Task:
        tokenizer = self.tokenizer if self.tokenizer is not None else getattr(module, "tokenizer", None)
        if tokenizer is None:
            tokenizer = getattr(getattr(trainer, "datamodule", None), "tokenizer", None)
        check_whole_weights(module)
        task = find_task(module, task=self.task, tokenizer=tokenizer)
        self.check(module, task)
        return task

    def _start(self, trainer: Trainer, module: LightningModule, loaders: Any) -> None:
        self._waiting, self._rows, self._metrics = None, [], {}
        due = self._runs % self.every_n_validations == 0
        self._runs += 1
        if not due:
            return
        task = self._prepare(trainer, module)
        try:
            probes = Probes(loaders, self.probes)
        except ValueError as error:  # no sanity check has found it: the run is worth more than the probe
            if self.on_error == "raise":
                raise
            self._say(f"{error} Examples spread over it are explained instead.")
            probes = Probes(loaders, len(self.probes) if isinstance(self.probes, list) else self.probes)
        if not probes.indexed:
            self._say("The data set has no indices: the first examples of the first batch are explained.")
        self._waiting = task, probes
        self._metrics = {"seconds": MaxMetric(), "failures": SumMetric(), **self.metrics()}

    def _compute(self, trainer: Trainer, module: LightningModule, current: Any) -> None:
        """Explain what is due, once a run."""
        if self._waiting is None:
            return
        (task, probes), self._waiting = self._waiting, None
        begin = _now(module)
        failures = self._explain_all(trainer, module, task, probes, current, begin)
        self._metrics["failures"].update(failures)
        self._metrics["seconds"].update(_now(module) - begin)

    def _explain_all(
        self, trainer: Trainer, module: LightningModule, task: Task, probes: Probes, current: Any, begin: float
    ) -> int:
        """Explain this process's probes, in growing groups while there is time, and return how many failed."""
        failures, done = 0, 0
        waiting = [k for k in probes.owned(trainer.global_rank, trainer.world_size) if k < probes.within(current)]
        group = 1
        while waiting:
            numbers, waiting = waiting[:group], waiting[group:]
            failures += self._explain(trainer, module, task, probes, numbers, current)
            spent = _now(module) - begin
            done += len(numbers)
            group = self._affordable(2 * group, spent, spent / done)
            if waiting and group < 1:
                self._say(
                    f"`max_seconds={self.max_seconds}` is spent: {len(waiting)} of {done + len(waiting)} probes are "
                    "left out. Ask for fewer `probes`, or a cheaper `method`.",
                    once="max_seconds",
                    rank_zero=False,
                )
                break
        spent = _now(module) - begin
        if not waiting and self.max_seconds is not None and spent > self.max_seconds:
            self._say(
                f"this took {spent:.3g} seconds, and `max_seconds={self.max_seconds}`: what is begun is brought to its "
                "end. Choose a cheaper `method`, or shorter texts.",
                once="longer than max_seconds",
                rank_zero=False,
            )
        return failures

    def _explain(
        self,
        trainer: Trainer,
        module: LightningModule,
        task: Task,
        probes: Probes,
        numbers: Sequence[int],
        current: Any,
    ) -> int:
        """Explain a group of probes and return how many failed; of a group that fails each is tried alone."""
        try:
            with attribution_mode(trainer, module, self.precision):
                batch = probes.batch(numbers, current, task)
                batch = to_module(batch, trainer, module, precision=self.precision, moved=not probes.indexed)
                found = list(zip(numbers, self.explain(module, batch, task), strict=True))
        except Exception as error:
            if self.on_error == "raise":
                raise
            if len(numbers) > 1:
                return sum(self._explain(trainer, module, task, probes, [k], current) for k in numbers)
            return self._failed(numbers[0], error)
        return sum(self._add(probe, rows if isinstance(rows, tuple) else (rows,)) for probe, rows in found)

    def _add(self, probe: int, rows: tuple[Row, ...]) -> int:
        """Add one probe's records and return how many probes failed."""
        try:
            self.update(self._metrics, probe, *rows)
        except Exception as error:
            if self.on_error == "raise":
                raise
            return self._failed(probe, error)
        self._rows += [(probe, row) for row in rows]
        return 0

    def _failed(self, probe: int, error: Exception) -> int:
        why = f"{type(error).__name__}: {error}"
        self._say(f"probe {probe} could not be explained ({why}); training goes on.", once=why, rank_zero=False)
        return 1

    def _affordable(self, group: int, spent: float, each: float) -> int:
        left = float("inf") if self.max_seconds is None else self.max_seconds - spent
        return int(min(group, left / max(each, 1e-9)))

    def _log(self, trainer: Trainer, module: LightningModule) -> None:
        if not self._metrics:
            return
        name = self._logged_as(trainer)
        rows = self._gathered(trainer)
        scalars = {f"interpret/{name}/{what}": value for what, value in self._computed(module).items()}
        known = {tag: value for tag, value in scalars.items() if not bool(value.isnan())}
        if name == f"{self.name}_predict":  # which `self.log` does not serve
            for logger in trainer.loggers:
                logger.log_metrics({tag: value.item() for tag, value in known.items()}, step=logging_step(trainer))
        else:
            for tag, value in known.items():
                module.log(tag, value, sync_dist=trainer.world_size > 1)  # the same on every process already
            # no logger has what is not known; a callback that goes by it finds NaN, as if it had been logged
            trainer.callback_metrics.update({tag: scalars[tag] for tag in scalars.keys() - known.keys()})
        self._rows, self._metrics = [], {}
        if trainer.is_global_zero and not fast_dev_run(trainer):
            try:
                self._write(trainer, rows, name, logging_step(trainer))
            except Exception as error:
                if self.on_error == "raise":
                    raise
                self._say(f"explanations could not be written ({type(error).__name__}: {error}); training goes on.")

    def _logged_as(self, trainer: Trainer) -> str:
        """Return the name under which this run is logged: of other entry points than ``fit`` with the stage."""
        stage = str(getattr(trainer.state.fn, "value", trainer.state.fn))
        return self.name if stage == "fit" else f"{self.name}_{stage}"

    def _write(self, trainer: Trainer, rows: output.Rows, name: str, step: int) -> None:
        """Write the records of a run; on the first process alone."""
        output.write(trainer, rows, name=name, step=step, save_jsonl=self.save_jsonl)

    def _gathered(self, trainer: Trainer) -> output.Rows:
        """Return the records of all processes, by probe; collective."""
        return output.gathered(self._rows, trainer.world_size)

    def _computed(self, module: LightningModule) -> dict[str, torch.Tensor]:
        """Return every metric reduced over all processes, NaN where there was nothing to reduce (−∞ of a maximum)."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The ``compute`` method of metric", category=UserWarning)
            found = {what: metric.to(module.device).compute().float() for what, metric in self._metrics.items()}
        return {what: value.nan_to_num(nan=nan, posinf=inf, neginf=nan) for what, value in found.items()}

    def _say(self, message: str, *, once: str | None = None, rank_zero: bool = True) -> None:
        """Warn once of a thing; of what only one process may have met, on that process."""
        once = once or message
        if once not in self._said:
            self._said.add(once)
            warn = rank_zero_warn if rank_zero else warnings.warn
            warn(f"{type(self).__name__}(name={self.name!r}): {message}", stacklevel=2)


def _now(module: LightningModule) -> float:
    if module.device.type == "cuda":
        torch.cuda.synchronize(module.device)
    return time.perf_counter()


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
