"""What Monitors of evidence in the training data share: which queries, which training data, one card a query."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from math import inf
from operator import itemgetter
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torchmetrics import Metric

from lightning_interpret.callbacks import output
from lightning_interpret.callbacks.monitor import Monitor
from lightning_interpret.callbacks.probes import Probes
from lightning_interpret.callbacks.queries import QUERIES, pick
from lightning_interpret.callbacks.shortfall import Shortfall, UntilLate, said, unreadable
from lightning_interpret.data import TrainingExamples
from lightning_interpret.evidence import EvidenceRow, InfluenceRow
from lightning_interpret.methods.examples import Examples
from lightning_interpret.names import check_whole, choose
from lightning_interpret.tasks import Task
from lightning_interpret.trainer.context import attribution_mode
from lightning_interpret.trainer.training_data import ModuleExamples, find_training_data


class EvidenceMonitor(Monitor):
    """A Monitor that asks the training data about bad cases of the validation data.

    It picks queries, reads the training data by index and never through the trainer's loader, and shows a card for each
    query. The training examples must carry ids: see ``WithIds``.

    Args:
        queries: ``"worst"`` for the examples of highest loss, ``"unsure"`` for those the model is least sure of,
            ``"fixed"`` for the same ones each time.
        k: Training examples shown of each kind.
        scan: Validation examples that are looked through for the worst, spread evenly: one forward pass of each.
        train_data: A loader, a data set or a data module of the training examples; by default the trainer's.
        id_column: Column of the training data that holds an integer id; by default ``example_id``.
        train_examples: How many training examples are asked, spread evenly; ``None`` for all.
        train_batch_size: How many are read at once.
        name: Part of every tag; by default the class name without "Monitor".
        task: How module and batch are read; by default the module's own or one inferred from its model.
        tokenizer: The tokenizer (an object, a name or a directory) for a task that is inferred.
        probes: How many queries, or the indices of fixed ones.
        every_n_validations: Validation runs from one explanation to the next.
        max_seconds: Seconds a validation run may spend here: when half of them are gone, no more examples are read for
            what is fitted, and at the end none are scored; the record says how many were. ``None`` for no bound.
        precision: ``"32"`` to compute in single precision, ``"model"`` in the trainer's own.
        on_error: ``"warn"`` to count and go on, ``"raise"`` to stop the run.
        save_jsonl: Whether to append the records to ``interpret/<name>.jsonl`` in the log directory, or a path.
    """

    #: Whether every process asks its share of the training data about all queries, and what they found is merged; else
    #: each process asks all of the data about its share of the queries.
    sharded: ClassVar[bool] = False

    def __init__(
        self,
        *,
        queries: Literal["worst", "unsure", "fixed"] = "worst",
        k: int = 5,
        scan: int = 1000,
        train_data: Any = None,
        id_column: str | None = None,
        train_examples: int | None = None,
        train_batch_size: int = 64,
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
        super().__init__(
            name=name,
            task=task,
            tokenizer=tokenizer,
            probes=probes,
            every_n_validations=every_n_validations,
            max_seconds=max_seconds,
            precision=precision,
            on_error=on_error,
            save_jsonl=save_jsonl,
        )
        self.queries = "fixed" if isinstance(probes, list) else choose("queries", queries, QUERIES)
        check_whole(k=k, scan=scan, train_batch_size=train_batch_size)
        if train_examples is not None:
            check_whole(train_examples=train_examples)
        self.k, self.scan = k, scan
        self.train_data, self.id_column = train_data, id_column
        self.train_examples, self.train_batch_size = train_examples, train_batch_size
        self._training: TrainingExamples | None = None
        self._loader: Any = None  # the trainer's when they were found, as it may have another later
        self._begin = 0.0
        self._shares, self._lost, self._late = (0, 1), 0, False  # of the validation run at hand

    @abstractmethod
    def explain(self, module: LightningModule, batch: Any, task: Task) -> Iterable[EvidenceRow]:
        """Return one record for each query of a batch, and others after them; called in the attribution context."""

    def check(self, module: LightningModule, task: Task) -> None:
        """Raise for queries that the task knows no probability of."""
        if self.queries == "unsure" and not one_class(task):
            raise ValueError(
                f"`queries='unsure'` goes by the probability of one class an example, which {type(task).__name__} does "
                "not know: use 'worst' or 'fixed'."
            )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work; forget the training data of another entry point."""
        super().setup(trainer, pl_module, stage)
        self._training = self._loader = None

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hold on to no data."""
        self._training = self._loader = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse training data without ids, before the first step."""
        self._find(trainer)

    def examples(
        self, module: LightningModule, *, share: float = 1.0, shard: bool = False, fixed: bool = False
    ) -> Examples:
        """Return the training examples, as batches on the module's device, for use in the attribution context.

        Args:
            module: The module.
            share: Share of ``max_seconds`` after which no more batches are read.
            shard: Whether to read this process's share only, where :attr:`sharded`.
            fixed: Whether each pass is of the same examples: those that the first had time for.
        """
        assert self._training is not None
        found = ModuleExamples(
            self._training,
            module.trainer,
            module,
            precision=self.precision,
            batch_size=self.train_batch_size,
            shard=self._shares if shard else (0, 1),
            limit=self.train_examples,
            by_length=True,
        )
        seconds = inf if self.max_seconds is None else self.max_seconds
        last = self._begin + seconds if fixed else None
        return UntilLate(found, self._begin + share * seconds, self._is_late, last)

    def _is_late(self) -> None:
        self._late = True
        self._say(
            f"`max_seconds={self.max_seconds}` is spent: not all training examples are read. Ask for fewer "
            "`train_examples`, spread evenly, or a cheaper `method`.",
            once="max_seconds",
            rank_zero=False,
        )

    def _start(self, trainer: Trainer, module: LightningModule, loaders: Any) -> None:
        before = self._training
        try:
            self._find(trainer)
        except Exception as error:
            if before is None or self.on_error == "raise":  # nothing has been trained yet that could be lost
                raise
            self._training = before
            self._say(f"the new training data cannot be asked ({error}); those before are.")
        super()._start(trainer, module, loaders)

    def _find(self, trainer: Trainer) -> None:
        """Look the training data up, again where the trainer has loaded them anew."""
        loader = trainer.train_dataloader if self.train_data is None else None
        if self._training is None or loader is not self._loader:
            self._training = find_training_data(trainer, self.train_data, self.id_column)
            self._loader = loader

    def _explain_all(
        self, trainer: Trainer, module: LightningModule, task: Task, probes: Probes, current: Any, begin: float
    ) -> int:
        self._begin, self._lost, self._late = time.perf_counter(), 0, False
        rank, world = trainer.global_rank, trainer.world_size
        # without indices each process has another batch at hand, so that the first one asks all about its own
        shares = self.sharded and probes.indexed
        self._shares = (rank, world) if shares else (0, 1)
        try:
            with attribution_mode(trainer, module, self.precision):
                queries = pick(
                    self.queries,
                    probes,
                    self.scan,
                    trainer=trainer,
                    module=module,
                    task=task,
                    current=current,
                    precision=self.precision,
                )
                asked = len(queries.why)
                numbers = [k for k in (range(asked) if shares else probes.owned(rank, world)) if k < asked]
                if numbers:
                    batch = task.take(queries.batch, torch.tensor(numbers))
                    rows = list(self.explain(module, batch, task))
                    rows[: len(numbers)] = [
                        replace(row, why=queries.why[k]) for k, row in zip(numbers, rows, strict=False)
                    ]
                    more = range(asked, asked + len(rows) - len(numbers))
                    self._rows += zip([*numbers, *more], rows, strict=True)
        except Exception as error:
            if self.on_error == "raise":
                raise
            why = f"{type(error).__name__}: {error}"
            self._say(f"the training data could not be asked ({why}); training goes on.", once=why, rank_zero=False)
            self._lost = len(probes.indices if shares else probes.owned(rank, world))
        return 0  # what failed is counted when all processes are heard: each lacks a share of the same queries

    def _gathered(self, trainer: Trainer) -> output.Rows:
        """Return each query's record over all of the training data, after adding it to the metrics; collective."""
        short = output.from_all(self._shortfall(), trainer.world_size)
        failed = [part.failed for part in short]
        self._metrics["failures"].update((max if self.sharded else sum)(failed) if trainer.is_global_zero else 0)
        found: output.Rows = []
        for probe, pairs in groupby(output.gathered(self._rows, trainer.world_size), key=itemgetter(0)):
            first, *others = [row for _, row in pairs]
            if isinstance(first, InfluenceRow):
                # of another device a tie may be another query
                shares = [row for row in others if isinstance(row, InfluenceRow) and _same_query(first, row)]
                first = first.merged(shares, self.k)
            row = self._noted(first, short)
            self._update(trainer, probe, row)
            found.append((probe, row))
        return found

    def _shortfall(self) -> Shortfall:
        broken = [] if self._training is None else self._training.unreadable.tolist()
        if broken:
            assert self._training is not None
            what = unreadable(broken, self._training.error)
            self._say(f"of the training examples {what}: they are left out.", once="unreadable", rank_zero=False)
        error = None if self._training is None else self._training.error
        return Shortfall(self._lost, self._late, tuple(broken), error)

    def _noted(self, row: Any, short: list[Shortfall]) -> Any:
        """Return a record with a note of the training examples that are missing in it."""
        found = (row.examples or 0) + getattr(row, "skipped", 0)
        return replace(row, notes=(*row.notes, *self._missing(short, found)))

    def _missing(self, short: list[Shortfall], found: int) -> tuple[str, ...]:
        assert self._training is not None
        asked = len(self._training) if self.train_examples is None else min(self.train_examples, len(self._training))
        return said(short, asked, found, self.max_seconds)

    def _update(self, trainer: Trainer, probe: int, row: Any) -> None:
        """Add a record to the metrics: on every process the same ones, so that sums over processes are not taken."""
        try:
            self.update(self._metrics, probe, row)
        except Exception as error:
            if self.on_error == "raise":
                raise
            self._metrics["failures"].update(self._failed(probe, error) if trainer.is_global_zero else 0)

    def metrics(self) -> dict[str, Metric]:
        """Return the metrics of one validation run; means and extremes, never sums."""
        return {}


def one_class(task: Task) -> bool:
    """Return whether a task may know probabilities of classes, of which each example has one."""
    return type(task).log_probabilities is not Task.log_probabilities


def _same_query(first: InfluenceRow, row: InfluenceRow) -> bool:
    return (first.example_id, first.text, first.queries) == (row.example_id, row.text, row.queries)
