"""HierarchyMonitor: the tree of the spans that a prediction on fixed examples comes from, at every validation."""

from __future__ import annotations

import math
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from torchmetrics import MeanMetric, Metric

from lightning_interpret.callbacks.monitor import Monitor
from lightning_interpret.methods.hierarchy import HierarchicalMethod, hierarchical_named
from lightning_interpret.names import choose
from lightning_interpret.records.span_tree import SpanTreeRow
from lightning_interpret.tasks import OUTPUTS, Generation, Task, batches


class HierarchyMonitor(Monitor):
    """Log the tree of spans of the prediction on fixed validation examples, and follow it over training.

    For each probe a picture, a Markdown text and an Interpret summary are logged under ``interpret/<name>/probe_<k>``.
    Of a probe with several targets (entities, labels) that is the tree of the first; numbers and file are of all.

    Scalars, under ``interpret/<name>/``, means over probes: ``depth`` (levels below the whole text), ``interaction``
    (|interaction| between the parts of the whole text), ``erased`` (by how much the score falls without the foremost
    span of at most half the text) and ``erased_control`` (without random spans as long), ``drift`` (share of the spans
    of several words that the tree of the last validation did not have: 0 unchanged; not the first time), ``seconds``
    and ``failures``. What no probe has is left out, which is said once with its reason.

    Args:
        method: ``hedge`` (from the top), ``acd`` or ``soc`` (from below), or one with its options.
        which: What the task explains, such as ``predicted``, ``gold``, a label, or a contrast ``A-B``; by default
            ``predicted``, and of text that is written ``predicted sequence``, all of its tokens together.
        output: ``margin`` (over the class that is second), ``logit`` (the one of a model of one score, and of numbers),
            ``log_prob``, or ``prob``.
        name: Part of every tag; by default ``hierarchy``.
        task: How module and batch are read; by default the module's own or one inferred from its model.
        tokenizer: The tokenizer (an object, a name or a directory) for a task that is inferred.
        probes: How many examples of the first validation data set, spread evenly, or their indices.
        every_n_validations: Validation runs from one explanation to the next.
        max_seconds: Seconds a validation run may spend here; what is left out is said once. ``None`` for no bound. What
            is begun is brought to its end: a single text may take longer, which is said too.
        precision: ``"32"`` to explain in single precision, ``"model"`` in the trainer's own.
        on_error: ``"warn"`` to count and go on, ``"raise"`` to stop the run.
        save_jsonl: Whether to append the records to ``interpret/<name>.jsonl`` in the log directory, or a path.

    Raises:
        ValueError: If a name does not exist, or an option is out of its range; before training starts, if the task has
            no such output or baseline.

    Example::

        trainer = Trainer(callbacks=[HierarchyMonitor(tokenizer=tokenizer)])
    """

    def __init__(
        self,
        method: str | HierarchicalMethod = "hedge",
        *,
        which: str | None = None,
        output: Literal["margin", "logit", "log_prob", "prob"] = "margin",
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
        self.method = hierarchical_named(method)
        self.which, self.output = which, choose("output", output, OUTPUTS)
        self._before: dict[tuple[int, int], frozenset[tuple[int, int]]] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work; forget the trees of another entry point, which may be of other data."""
        super().setup(trainer, pl_module, stage)
        self._before = {}

    def check(self, module: LightningModule, task: Task) -> None:
        """Raise for a target, an output or a baseline that does not exist, or not for this task."""
        self.method.check(module, task, self._which(task), self.output)

    def explain(self, module: LightningModule, batch: Any, task: Task) -> list[tuple[SpanTreeRow, ...]]:
        """Return the trees of each example of a batch, one a target.

        Raises:
            ValueError: If an example has none.
        """
        found = self.method(module, batch, task, which=self._which(task), output=self.output)
        rows = found.by_example(batches.batch_size(batch))
        if not all(rows):
            raise ValueError(f"`which={self._which(task)!r}` has no target in an example: explain 'predicted'.")
        return rows

    def _which(self, task: Task) -> str:
        return self.which or ("predicted sequence" if isinstance(task, Generation) else "predicted")

    def metrics(self) -> dict[str, Metric]:
        """Return the metrics of one validation run."""
        names = ("depth", "interaction", "erased", "erased_control", "drift")
        return {name: MeanMetric(nan_strategy="ignore") for name in names}

    def update(self, metrics: dict[str, Metric], probe: int, row: SpanTreeRow, *others: Any) -> None:
        """Add what the trees of one probe say in numbers."""
        for target, each in enumerate((row, *others)):
            self._add_tree(metrics, probe, target, each)

    def _add_tree(self, metrics: dict[str, Metric], probe: int, target: int, row: SpanTreeRow) -> None:
        top = row.nodes[0].interaction if row.nodes else None
        found = {
            "depth": row.depth if row.nodes else None,
            "interaction": None if top is None else abs(top),
            "erased": row.erased,
            "erased_control": row.control,
        }
        for name, value in found.items():
            if value is not None and math.isfinite(value):
                metrics[name].update(value)
                continue
            why = row.reasons.get({"erased_control": "control"}.get(name, name), "its text has no two parts")
            self._say(f"probe {probe} has no `{name}`: {why}.", once=name, rank_zero=False)
        before, now = self._before.get((probe, target)), row.spans
        if before is not None and now:
            metrics["drift"].update(len(now - before) / len(now))
        self._before[probe, target] = now
