"""BadCaseMonitor: what the model gets wrong at each validation, why, in groups that each say what to do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torchmetrics import MeanMetric, Metric

from lightning_interpret.bad_cases import BadCaseGroupRow, RowEdit
from lightning_interpret.callbacks import output as written
from lightning_interpret.callbacks.evidence import EvidenceMonitor
from lightning_interpret.callbacks.probes import Probes
from lightning_interpret.causes import CauseFinder, Followed, Found, Setting
from lightning_interpret.data.concept_sets import text_in
from lightning_interpret.methods import Method
from lightning_interpret.methods.influence import InfluenceMethod
from lightning_interpret.report import relabel
from lightning_interpret.tasks import Task
from lightning_interpret.tasks.encode import encode, max_tokens
from lightning_interpret.trainer._compat import logging_step
from lightning_interpret.trainer.context import attribution_mode
from lightning_interpret.trainer.optimisation import objective_weight_decay
from lightning_interpret.trainer.transfer import to_module

_COUNTS = ("wrong", "confident", "unsure", "explained", "accuracy")


class BadCaseMonitor(EvidenceMonitor):
    """Group what the model gets wrong by why it does, at every validation, and say what to do about each group.

    The wrong, the unsure and the confidently wrong validation examples are explained by saliency, neighbours, influence
    on the last layer, and by taking words out; measured rules give each a cause (``lightning_interpret.causes``): a
    suspected label error in training or in validation, a shortcut word or phrase, a negation that is passed over, text
    far from all training data, near-duplicates with conflicting labels, two classes confused, a text that is cut, or
    none. Groups are followed over training: new, growing, steady, shrinking, solved.

    Shown under ``interpret/<name>/``: the overview as ``probe_0``, each group and each of the worst cases as a record
    of its own, whose number stays. Rows to relabel are written to ``interpret/<name>_relabel.tsv`` too.

    Scalars, under ``interpret/<name>/``: ``wrong``, ``confident`` and ``unsure`` (counts), ``explained``, ``accuracy``,
    ``cause/<cause>`` (cases of each cause), ``slice/<group>`` (accuracy on what examples of a group have in common),
    ``seconds`` and ``failures``. Causes and slices are logged from the validation on in which they were first seen, and
    are not in ``trainer.callback_metrics`` before that.

    Under DDP the first process finds the causes, and the others wait for it; all of them log the same.

    Args:
        setting: Thresholds of the rules and bounds, :class:`~lightning_interpret.causes.Setting`; ``max_seconds`` is
            that of the Monitor.
        method: Saliency method, by name or with its options.
        influence: Influence method, by name or with its options; ``None`` for none.
        scan: Validation examples that are looked through, spread evenly; ``None`` for all.
        train_data: A loader, a data set or a data module of the training examples; by default the trainer's.
        id_column: Column of the training data that holds an integer id; by default ``example_id``.
        train_examples: How many training examples are asked, spread evenly; ``None`` for all.
        train_batch_size: How many are read at once.
        name: Part of every tag; by default ``bad_case``.
        task: How module and batch are read; by default the module's own or one inferred from its model.
        tokenizer: The tokenizer (an object, a name or a directory) for a task that is inferred.
        probes: How many cases get a record of their own, those of highest loss; or the indices of the validation
            examples that are looked through, of which every bad one gets one.
        every_n_validations: Validation runs from one explanation to the next.
        max_seconds: Seconds a validation run may spend here: after three tenths no more training texts are read, after
            six no more validation examples, and what is then left out is said. ``None`` for no bound.
        precision: ``"32"`` to compute in single precision, ``"model"`` in the trainer's own.
        on_error: ``"warn"`` to count and go on, ``"raise"`` to stop the run.
        save_jsonl: Whether to append the records to ``interpret/<name>.jsonl`` in the log directory, or a path.

    Raises:
        ValueError: If a name does not exist or an option is out of its range; before training starts, if the training
            data have no ids or no indices, or the task has not one class a text: tags, answers, text that is written,
            numbers and several labels have causes that the rules do not know.

    Example::

        trainer = Trainer(callbacks=[BadCaseMonitor(tokenizer=tokenizer)])
    """

    def __init__(
        self,
        setting: Setting | None = None,
        *,
        method: str | Method = "deep_lift",
        influence: str | InfluenceMethod | None = "exact",
        scan: int | None = 2000,
        train_data: Any = None,
        id_column: str | None = None,
        train_examples: int | None = None,
        train_batch_size: int = 64,
        name: str | None = None,
        task: Task | None = None,
        tokenizer: Any = None,
        probes: int | list[int] = 20,
        every_n_validations: int = 1,
        max_seconds: float | None = 60.0,
        precision: str = "32",
        on_error: str = "warn",
        save_jsonl: bool | str = False,
    ) -> None:
        super().__init__(
            scan=2**62 if scan is None else scan,
            train_data=train_data,
            id_column=id_column,
            train_examples=train_examples,
            train_batch_size=train_batch_size,
            name=name,
            task=task,
            tokenizer=tokenizer,
            probes=probes,
            every_n_validations=every_n_validations,
            max_seconds=max_seconds,
            precision=precision,  # type: ignore[arg-type]
            on_error=on_error,  # type: ignore[arg-type]
            save_jsonl=save_jsonl,
        )
        self.finder = CauseFinder(setting, method, influence, max_seconds=max_seconds, on_error=on_error)  # type: ignore[arg-type]
        self.followed = Followed()
        self._found: Found | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work; of another entry point nothing was found before, and a resumed run goes on."""
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            self.followed = Followed()
        self.finder.forget()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hold on to no data."""
        super().teardown(trainer, pl_module, stage)
        self.finder.forget()

    @property
    def state_key(self) -> str:
        """What a checkpoint knows it by: there may be several of different names."""
        return self._generate_state_key(name=self.name)

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered of the groups, for a checkpoint."""
        return {"followed": self.followed.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what was remembered."""
        self.followed = Followed.from_state(state_dict["followed"])

    def check(self, module: LightningModule, task: Task) -> None:
        """Raise for a task without one class an example, and for what the influence method cannot serve."""
        self.finder.check(module, task)

    def explain(self, module: LightningModule, batch: Any, task: Task) -> list[Any]:
        """Return nothing: the causes are found for all examples together."""
        return []

    def update(self, metrics: dict[str, Metric], probe: int, row: Any, *others: Any) -> None:
        """Leave a record's figures to what was found as a whole."""

    def metrics(self) -> dict[str, Metric]:
        """Return the metrics of one validation run."""
        return {name: MeanMetric(nan_strategy="ignore") for name in _COUNTS}

    def _explain_all(
        self, trainer: Trainer, module: LightningModule, task: Task, probes: Probes, current: Any, begin: float
    ) -> int:
        self._found, self._begin, self._lost, self._late = None, time.perf_counter(), 0, False
        if not trainer.is_global_zero:
            return 0
        try:
            with attribution_mode(trainer, module, self.precision):
                scanned = probes if isinstance(self.probes, list) else probes.spread(self.scan)
                validation = _Validation(scanned, trainer, module, task, current, self.precision)
                self._found = self.finder.find(
                    module,
                    task,
                    validation,
                    self.examples(module, share=0.5, fixed=True),
                    weight_decay=objective_weight_decay(trainer.optimizers),
                    followed=self.followed,
                    step=logging_step(trainer),
                    source=self._training,
                    records=None if isinstance(self.probes, list) else self.probes,
                )
        except Exception as error:
            if self.on_error == "raise":
                raise
            why = f"{type(error).__name__}: {error}"
            self._say(f"no causes could be found ({why}); training goes on.", once=why, rank_zero=False)
            return 1
        overview = self._found.overview
        notes = (*overview.notes, *self._missing([self._shortfall()], overview.training))
        self._found = replace(self._found, overview=replace(overview, notes=notes))
        for note in self._found.errors:  # the other notes are in the record
            self._say(f"{note.rstrip('.')}; training goes on.", once=note, rank_zero=False)
        return self._found.failures

    def _gathered(self, trainer: Trainer) -> written.Rows:
        """Return the records that are shown, which every process is told by the first; collective."""
        self._found, self.followed = written.from_all((self._found, self.followed), trainer.world_size)[0]
        found = self._found
        if found is None:
            return []
        overview = replace(found.overview, seconds=None)  # which is a scalar: records of two runs can be compared
        known = (overview.wrong_cases, overview.confident, overview.unsure, overview.explained, overview.accuracy)
        for name, value in zip(_COUNTS, known, strict=True):
            if value is not None:
                self._metrics[name].update(value)
        rows: written.Rows = [(0, overview)]
        for group in found.groups:
            number = self.followed.number((group.cause, group.cue))
            rows += [(number, group)] if number is not None else []
        for case in found.cases:
            number = found.numbers.get(case.index)
            rows += [(number, case)] if number is not None else []
        rows.sort(key=lambda pair: pair[0])
        for number, row in rows:
            self._update(trainer, number, row)
        return rows

    def _computed(self, module: LightningModule) -> dict[str, torch.Tensor]:
        """Return the metrics, the size of each cause and the accuracy on each slice."""
        values: dict[str, float] = {}
        if self._found is not None:
            sizes = dict.fromkeys((cause for cause, _ in self.followed.sizes), 0)
            for group in self._found.groups:
                sizes[group.cause] += group.size
            values = {f"cause/{cause}": float(size) for cause, size in sizes.items()}
            values |= {tag: accuracy for tag, (accuracy, _) in self._found.slices.items()}
        return super()._computed(module) | {
            name: torch.tensor(value, device=module.device) for name, value in values.items()
        }

    def _write(self, trainer: Trainer, rows: written.Rows, name: str, step: int) -> None:
        super()._write(trainer, rows, name, step)
        groups = [row for _, row in rows if isinstance(row, BadCaseGroupRow)]
        path = written.jsonl_path(trainer, True, f"{name}_relabel").with_suffix(".tsv")
        # a file of the validation before must not stand where nothing is to be relabelled any more
        if _edits(groups) or (self._found is not None and path.exists()):
            path.parent.mkdir(parents=True, exist_ok=True)
            relabel.write_relabel(path, groups, {})


class _Validation:
    """The validation examples of a run, as the causes read them."""

    def __init__(
        self, probes: Probes, trainer: Trainer, module: LightningModule, task: Task, current: Any, precision: str
    ) -> None:
        self._probes, self._trainer, self._module = probes, trainer, module
        self._task, self._current, self._precision = task, current, precision

    def __len__(self) -> int:
        return self._probes.within(self._current)

    def batch(self, numbers: Sequence[int]) -> Any:
        """Return the batch of some examples, on the module's device."""
        batch = self._probes.batch(numbers, self._current, self._task)
        return self._moved(batch, moved=not self._probes.indexed)

    def index(self, number: int) -> int:
        """Return where one stands in its data set."""
        return self._probes.indices[number]

    def text(self, number: int) -> str | None:
        """Return its text whole, where the example of the data set is one or has it as ``text``."""
        return text_in(self._probes.example(number)) if self._probes.indexed else None

    def encoded(self, texts: Sequence[str]) -> Any | None:
        """Return the batch of other texts, cut to what the model reads; ``None`` of a task without a tokenizer."""
        tokenizer = getattr(self._task, "tokenizer", None)
        if tokenizer is None:
            return None
        return self._moved(encode(tokenizer, texts, max_length=max_tokens(tokenizer, self._module)), moved=False)

    def _moved(self, batch: Any, *, moved: bool) -> Any:
        return to_module(batch, self._trainer, self._module, precision=self._precision, moved=moved)


def _edits(groups: Sequence[BadCaseGroupRow]) -> list[RowEdit]:
    return [edit for group in groups if group.action is not None for edit in group.action.edits if not edit.new]
