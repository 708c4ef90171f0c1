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
from lightning_interpret.tasks import OUTPUTS, Task, batches


class HierarchyMonitor(Monitor):
    """Log the tree of spans of the prediction on fixed validation examples, and follow it over training.

    For each probe a picture, a Markdown text and an Interpret summary are logged under ``interpret/<name>/probe_<k>``.

    Scalars, under ``interpret/<name>/``, means over probes: ``depth`` (levels below the whole text), ``interaction``
    (|interaction| between the parts of the whole text), ``erased`` (by how much the score falls without the foremost
    span of at most half the text) and ``erased_control`` (without random spans as long), ``drift`` (share of the spans
    of several words that the tree of the last validation did not have: 0 unchanged; not the first time), ``seconds``
    and ``failures``. What no probe has is left out, which is said once with its reason.

    Args:
        method: ``hedge`` (from the top), ``acd`` or ``soc`` (from below), or one with its options.
        which: ``predicted``, ``gold``, a label, or a contrast ``A-B``.
        output: ``margin`` (over the class that is second), ``logit`` (also of a model of one score), ``log_prob``, or
            ``prob``.
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
        ValueError: If a name does not exist, or an option is out of its range.

    Example::

        trainer = Trainer(callbacks=[HierarchyMonitor(tokenizer=tokenizer)])
    """

    def __init__(
        self,
        method: str | HierarchicalMethod = "hedge",
        *,
        which: str = "predicted",
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
        self._before: dict[int, frozenset[tuple[int, int]]] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work; forget the trees of another entry point, which may be of other data."""
        super().setup(trainer, pl_module, stage)
        self._before = {}

    def check(self, module: LightningModule, task: Task) -> None:
        """Raise for a class or a baseline that does not exist."""
        self.method.check(module, task, self.which, self.output)

    def explain(self, module: LightningModule, batch: Any, task: Task) -> list[SpanTreeRow]:
        """Return the trees of a batch.

        Raises:
            ValueError: If there is not one target an example.
        """
        rows = list(self.method(module, batch, task, which=self.which, output=self.output))
        if len(rows) != (examples := batches.batch_size(batch)):
            raise ValueError(
                f"`which={self.which!r}` has {len(rows)} targets in {examples} examples, and a Monitor shows one an "
                "example: explain 'predicted' or a named class."
            )
        return rows

    def metrics(self) -> dict[str, Metric]:
        """Return the metrics of one validation run."""
        names = ("depth", "interaction", "erased", "erased_control", "drift")
        return {name: MeanMetric(nan_strategy="ignore") for name in names}

    def update(self, metrics: dict[str, Metric], probe: int, row: SpanTreeRow, *others: Any) -> None:
        """Add what one probe's tree says in numbers."""
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
        before, now = self._before.get(probe), row.spans
        if before is not None and now:
            metrics["drift"].update(len(now - before) / len(now))
        self._before[probe] = now
