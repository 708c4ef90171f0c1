"""LandmarkMonitor: which training examples a kernel layer makes its predictions of, at every validation."""

from __future__ import annotations

from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from torchmetrics import MaxMetric, MeanMetric, Metric

from lightning_interpret.callbacks.monitor import Monitor
from lightning_interpret.evidence import LandmarksRow
from lightning_interpret.methods.landmark_tasks import without_units
from lightning_interpret.methods.landmarks import READABLE, LandmarkRelevance
from lightning_interpret.names import choose
from lightning_interpret.tasks import Task, batches

_FLOOR = 0.01  # of the relative error's denominator, in units of the output


class LandmarkMonitor(Monitor):
    """Explain predictions on fixed validation examples by the landmarks of a kernel layer, and follow them in training.

    For each probe a card is logged under ``interpret/<name>/probe_<k>``: the landmarks, training examples with text and
    label, that speak for the prediction and against it, what biases took, and of a text the relevance of its tokens
    where ``method`` says so.

    Scalars, under ``interpret/<name>/``, means over probes: ``same_label`` (share whose foremost landmark has the
    predicted label; 0 where no landmark speaks for it; not without labels), ``positive`` (landmarks that speak for it),
    ``bias_share`` (|what biases took| as a share of it and of Σ |score|: how much is told of no landmark),
    ``cancelled`` (1 − |Σ score| / Σ |score|: near 1, large evidence for and against stands behind a small score),
    ``drift`` (share of the landmarks shown that were none of the same probe's in the last validation; not the first
    time); and ``relative_error`` (the largest |error| / |F(x)|: rounding alone), ``seconds`` and ``failures``.

    Args:
        method: The options of the relevance; by default ``LandmarkRelevance(smoothing=0.1)``, which is easier to read:
            what it misses is among what is absorbed.
        which: ``predicted``, ``gold``, a label, or a contrast ``A-B``.
        output: ``logit`` or ``margin``.
        name: Part of every tag; by default ``landmark``.
        task: How module and batch are read; by default the module's own or one inferred from its model.
        tokenizer: The tokenizer (an object, a name or a directory) for a task that is inferred.
        probes: How many examples of the first validation data set, spread evenly, or their indices.
        every_n_validations: Validation runs from one explanation to the next.
        max_seconds: Seconds a validation run may spend here; what is left out is said once. ``None`` for no bound.
        precision: ``"32"`` to explain in single precision, ``"model"`` in the trainer's own.
        on_error: ``"warn"`` to count and go on, ``"raise"`` to stop the run.
        save_jsonl: Whether to append the records to ``interpret/<name>.jsonl`` in the log directory, or a path.

    Raises:
        ValueError: If an option is out of its range; before training starts, if the module has no kernel layer, or a
            class does not exist.

    Example::

        trainer = Trainer(callbacks=[LandmarkMonitor(LandmarkRelevance(tokens=True), probes=5)])
    """

    def __init__(
        self,
        method: LandmarkRelevance | None = None,
        *,
        which: str = "predicted",
        output: Literal["logit", "margin"] = "logit",
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
        self.method = LandmarkRelevance(smoothing=READABLE) if method is None else method
        self.which, self.output = which, choose("output", output, ("logit", "margin"))
        self._before: dict[int, set[int]] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work; forget the landmarks of another entry point, which may be of other data."""
        super().setup(trainer, pl_module, stage)
        self._before = {}

    def check(self, module: LightningModule, task: Task) -> None:
        """Raise for a module without a kernel layer, and for a class that does not exist."""
        name = self.method.check(module)
        read = task if self.method.tokens else without_units(task, name)
        read.check(module, self.which, None)

    def explain(self, module: LightningModule, batch: Any, task: Task) -> list[LandmarksRow]:
        """Return the landmarks of each prediction of a batch.

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
        means = ("same_label", "positive", "bias_share", "cancelled", "drift")
        return {"relative_error": MaxMetric()} | {name: MeanMetric(nan_strategy="ignore") for name in means}

    def update(self, metrics: dict[str, Metric], probe: int, row: LandmarksRow, *others: Any) -> None:
        """Add what one probe's record says in numbers."""
        known = (row.target, row.error, row.total, row.magnitude, row.positive)
        target, error, total, magnitude, positive = (0.0 if value is None else value for value in known)
        metrics["relative_error"].update(abs(error) / max(abs(target), _FLOOR))
        metrics["positive"].update(positive)
        shown = (*row.like, *row.unlike)
        if row.prediction is not None and any(each.gold is not None for each in shown):
            metrics["same_label"].update(float(bool(row.like) and row.like[0].gold == row.prediction))
        absorbed = abs(sum(row.absorbed.values()))
        if absorbed + magnitude:
            metrics["bias_share"].update(absorbed / (absorbed + magnitude))
        if magnitude:
            metrics["cancelled"].update(1 - abs(total) / magnitude)
        now, before = {each.example_id for each in shown}, self._before.get(probe)
        if before is not None and now:
            metrics["drift"].update(len(now - before) / len(now))
        self._before[probe] = now
        if self.method.tokens and row.tokens is None:
            why = row.reasons.get("tokens", "")
            self._say(f"probe {probe} is explained without tokens: {why}", once=why, rank_zero=False)
