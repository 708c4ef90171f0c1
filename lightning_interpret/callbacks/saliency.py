"""SaliencyMonitor: which parts of the input the prediction on fixed examples comes from, at every validation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torchmetrics import MaxMetric, MeanMetric, Metric

from lightning_interpret.callbacks.monitor import Monitor
from lightning_interpret.callbacks.references import References
from lightning_interpret.explanations import Attribution, AttributionRow
from lightning_interpret.functional.features import find_layer
from lightning_interpret.methods import Method, method_named
from lightning_interpret.methods.case import CLASSIFIED
from lightning_interpret.methods.describe import described
from lightning_interpret.metrics import AttributionError, ExplanationDrift
from lightning_interpret.names import choose
from lightning_interpret.records.targets import TargetsRow, together
from lightning_interpret.tasks import OUTPUTS, Task, batches


class SaliencyMonitor(Monitor):
    """Explain the prediction on fixed validation examples by a saliency method, and follow it over training.

    For each probe a picture, a Markdown text and an Interpret summary are logged under ``interpret/<name>/probe_<k>``.
    Of a task with several targets an example (generated tokens, entities, labels) they show all of them: the source by
    the output, the text with its entities. Errors and steps are then means over the targets of the probes.

    With several layers, a sweep, these are of the first (of ``"all"`` the task's default); ``probe_<k>/layers`` shows
    of every layer what its scores sum to, their target and error, whether it is a cut of the graph, and where in the
    text or the image the evidence stands: how far the extraction of features has gone at each stage. A sweep takes as
    many times as long as there are layers, within the same ``max_seconds``.

    Scalars, under ``interpret/<name>/``: ``attribution_error`` and ``relative_error`` (means over probes; not of a
    method that has no target), ``steps`` (mean number of path nodes), ``drift`` (mean of 1 − cosine with the scores of
    the last explanation: 0 unchanged, 2 turned round; not the first time), ``layer_error`` (of a sweep: the largest
    relative error at any layer), ``seconds`` and ``failures``.

    Args:
        method: Name of a method (``lightning-interpret methods`` lists them), or one with its options.
        layer: Name of the layer to attribute to, a list of names, or ``"all"`` for the task's default and each block;
            by default the task's, the word embeddings.
        which: ``predicted``, ``gold``, a label, or a contrast ``A-B``.
        output: ``logit``, ``log_prob``, ``prob`` or ``margin``.
        references: How many training examples, spread evenly by their index, a baseline that is drawn from data has.
            They are read, by index and with the loader's own collate function, once and only if ``method`` has such a
            baseline; a task that has ``references`` keeps them. Runs without training data take those they evaluate.
        name: Part of every tag; by default ``saliency``.
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
        ValueError: If a name does not exist, the list of layers is empty, or an option is out of its range.

    Example::

        trainer = Trainer(callbacks=[SaliencyMonitor(tokenizer=tokenizer)])
    """

    def __init__(
        self,
        method: str | Method = "integrated_gradients",
        *,
        layer: str | list[str] | None = None,
        which: str = "predicted",
        output: Literal["logit", "log_prob", "prob", "margin"] = "logit",
        references: int = 32,
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
        if layer == []:
            raise ValueError("`layer=[]` names no layer: give a name, a list of names, or 'all'.")
        self.method = method_named(method)
        self.layer, self.which, self.output = layer, which, choose("output", output, OUTPUTS)
        self.references = References([self.method.baseline_used], references, self._say)
        self._before: dict[int, torch.Tensor] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work; forget the explanations of another entry point, which may be of other data."""
        super().setup(trainer, pl_module, stage)
        self._before = {}
        self.references.forget()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse training data that no references can be read from, before the first step."""
        self.references.check(trainer, self._prepare(trainer, pl_module))

    def check(self, module: LightningModule, task: Task) -> None:
        """Raise for a layer, a class or a baseline that does not exist."""
        named = [self.layer] if isinstance(self.layer, str) else self.layer or []
        named = [] if self.layer == "all" else named
        for layer in named:
            find_layer(module, layer)
        self.method.check(module, task, named, self.output)
        task.check(module, self.which, None if self.references.wanted(task) else self.method.baseline_used)

    def explain(
        self, module: LightningModule, batch: Any, task: Task
    ) -> Iterable[AttributionRow | TargetsRow | tuple[AttributionRow | TargetsRow, ...]]:
        """Return the attribution of each example; of a sweep, one for each layer.

        Where the targets of an example are several (generated tokens, entities), they make one record, and a sweep
        shows of each layer their sum.

        Raises:
            ValueError: If an example has no target, or several that make no record.
        """
        task = self.references.given_to(task, module, self.precision)
        batch = task.prepared(module, batch)
        found = self.method(module, batch, task, layer=self.layer, which=self.which, output=self.output)
        layers, examples = list(found.values()) if isinstance(found, dict) else [found], batches.batch_size(batch)
        grouped = [_by_example(record, examples) for record in layers]
        if task.view is None and all(len(rows) == 1 for rows in grouped[0]):
            shown = list(zip(*([rows[0] for rows in each] for each in grouped), strict=True))
            return shown if isinstance(found, dict) else [row for (row,) in shown]
        if any(not rows or rows[0].units != "token" for rows in grouped[0]):
            raise ValueError(
                f"`which={self.which!r}` has {len(layers[0])} targets in {examples} examples, and a Monitor shows one "
                "an example: explain 'predicted' or a named class."
            )
        facts = described(module, batch, task)
        records = [
            TargetsRow.of(rows, task.view or "labels", prediction=told["prediction"], gold=told["gold"])
            for rows, told in zip(grouped[0], facts, strict=True)
        ]
        if not isinstance(found, dict):
            return records
        sums = zip(*([together(rows) for rows in each] for each in grouped), strict=True)
        return [(record, *layers) for record, layers in zip(records, sums, strict=True)]

    def metrics(self) -> dict[str, Metric]:
        """Return the metrics of one validation run."""
        sweeps = self.layer == "all" or not isinstance(self.layer, str | None)
        return {
            "attribution_error": AttributionError(),
            "relative_error": AttributionError(relative=True, floor=getattr(self.method, "error_floor", 0.01)),
            "steps": MeanMetric(),
            "drift": ExplanationDrift(),
            **({"layer_error": MaxMetric()} if sweeps else {}),
        }

    def update(
        self, metrics: dict[str, Metric], probe: int, row: AttributionRow | TargetsRow, *others: AttributionRow
    ) -> None:
        """Add one probe's errors and steps, of each target, its drift, and the errors of its other layers."""
        targets = row.targets if isinstance(row, TargetsRow) else (row,)
        if "layer_error" in metrics:
            for error in (each.relative_error for each in (*targets, *others) if each.relative_error is not None):
                metrics["layer_error"].update(error)
        for target in targets:
            if target.attribution_target is not None:
                own = torch.tensor(target.scores, dtype=torch.float64)[None]
                for what in ("attribution_error", "relative_error"):
                    metrics[what].update(own, torch.tensor([target.attribution_target], dtype=torch.float64))
            if target.steps is not None:
                metrics["steps"].update(target.steps)
        shown = row.summed_scores() if isinstance(row, TargetsRow) else row.scores
        scores = torch.tensor(shown, dtype=torch.float64)[None]
        classified = next((note for note in row.notes if note.startswith(CLASSIFIED)), None)
        if classified is not None and row.baseline is not None and not row.baseline.startswith("nearest"):
            self._say(f"probe {probe}: {classified}. Choose another `baseline`.", once=CLASSIFIED, rank_zero=False)
        before = self._before.get(probe)
        if before is not None and before.shape == scores.shape:
            metrics["drift"].update(scores, before)
        self._before[probe] = scores


def _by_example(record: Attribution, examples: int) -> list[list[AttributionRow]]:
    """Return the rows of each example of a batch."""
    found: list[list[AttributionRow]] = [[] for _ in range(examples)]
    for row, example in zip(
        record, range(examples) if record.example is None else record.example.tolist(), strict=True
    ):
        found[example].append(row)
    return found
