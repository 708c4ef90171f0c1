"""RationaleMonitor: what a model that explains itself says of its predictions, at every validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torchmetrics import MaxMetric, MeanMetric, Metric

from lightning_interpret.callbacks.monitor import Monitor
from lightning_interpret.metrics import IOUF1, TokenF1
from lightning_interpret.names import choose
from lightning_interpret.rationales import ConceptsRow, GeneratedRow, RationaleRecord, RationaleRow, SpansRow
from lightning_interpret.tasks import Task, batches

_MEANS = {
    RationaleRow.kind: (
        *("rate", "sufficiency", "comprehensiveness", "sufficiency_control", "comprehensiveness_control", "drift"),
    ),
    SpansRow.kind: ("sharpness", "erased", "erased_control"),
    ConceptsRow.kind: ("concept_accuracy", "residual_share"),
    GeneratedRow.kind: ("overlap", "leaks", "log_likelihood", "probability", "erased"),
}
KINDS = tuple(_MEANS)


class RationaleMonitor(Monitor):
    """Log what a model says of its predictions on fixed validation examples, and follow it in training.

    Of a module with a mixin that explains itself, or with a method ``explain_<kind>(batch, which)`` of its own that
    returns rows of :mod:`lightning_interpret.rationales`: it is asked as it is deployed, its gate on. For each probe a
    card is logged under ``interpret/<name>/probe_<k>``.

    Scalars, under ``interpret/<name>/``, means over probes, left out where nothing is known; with ``seconds`` and
    ``failures``:

    - ``rationale``: ``rate`` (share of the tokens selected), ``sufficiency`` (p(whole text) − p(selection)),
      ``comprehensiveness`` (p(whole text) − p(rest)), ``sufficiency_control`` and ``comprehensiveness_control`` (the
      same of as many tokens drawn at random), ``drift`` (share of the tokens selected that were not in the last
      validation), and where people selected some, ``token_f1`` and ``iou_f1`` with theirs (ERASER's).
    - ``spans``: ``sharpness`` (Σ weight²), ``erased`` (by how much the score falls without the foremost span) and
      ``erased_control`` (without a random one as long).
    - ``concepts``: ``concept_accuracy`` (share of those known that the model is right about, none set by hand),
      ``residual_share`` (|residual| as a share of it and of Σ |contribution|, of each probe), ``error`` (the largest
      |error| of the sum).
    - ``generated``: ``overlap`` (F1 of the words with a person's), ``leaks`` (share that give the prediction away),
      ``log_likelihood`` (nats a token), ``probability`` and ``erased`` (of the label, and without the explanation).

    Args:
        kind: ``rationale``, ``spans``, ``concepts`` or ``generated``; by default what the first of the module's bases
            explains.
        which: ``predicted``, ``gold``, a label, or a contrast ``A-B``, as far as the mixin knows it.
        name: Part of every tag; by default ``rationale``.
        task: How module and batch are read; by default the module's own or one inferred from its model.
        tokenizer: The tokenizer (an object, a name or a directory) for a task that is inferred.
        probes: How many examples of the first validation data set, spread evenly, or their indices.
        every_n_validations: Validation runs from one explanation to the next.
        max_seconds: Seconds a validation run may spend here; what is left out is said once. ``None`` for no bound.
        precision: ``"32"`` to explain in single precision, ``"model"`` in the trainer's own where the mixin leaves it.
        on_error: ``"warn"`` to count and go on, ``"raise"`` to stop the run.
        save_jsonl: Whether to append the records to ``interpret/<name>.jsonl`` in the log directory, or a path.

    Raises:
        ValueError: If an option is out of its range; before training starts, if the module does not explain itself, or
            not by this ``kind``.

    Example::

        trainer = Trainer(callbacks=[RationaleMonitor(probes=5), RationaleMonitor("concepts", name="concepts")])
    """

    def __init__(
        self,
        kind: Literal["rationale", "spans", "concepts", "generated"] | None = None,
        *,
        which: str = "predicted",
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
        self.kind, self.which = kind if kind is None else choose("kind", kind, KINDS), which
        self._found = self.kind or KINDS[0]
        self._before: dict[int, set[int]] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work; forget the selections of another entry point, which may be of other data."""
        super().setup(trainer, pl_module, stage)
        self._before = {}

    def check(self, module: LightningModule, task: Task) -> None:
        """Raise for a module that does not explain itself, or not by the kind that is asked for."""
        there = kinds_of(module)
        if not there or self.kind not in (None, *there):
            asked = "" if self.kind is None else f" by `kind={self.kind!r}`"
            known = f" It has {', '.join(map(repr, there))}." if there else ""
            raise ValueError(
                f"{type(module).__name__} does not explain itself{asked}: it has no `explain_{self.kind or '<kind>'}"
                f"(batch)`.{known} Derive it from a mixin that does, RationaleMixin, SpanExplanationMixin, "
                "ConceptBottleneckMixin or GeneratedRationaleMixin, or explain it after the fact with SaliencyMonitor."
            )
        self._found = self.kind or there[0]

    def explain(self, module: LightningModule, batch: Any, task: Task) -> list[RationaleRecord]:
        """Return what the module says of each prediction of a batch.

        Raises:
            ValueError: If that is not one record of the kind an example.
        """
        if self.task is not None or self.tokenizer is not None:
            module.interpret_task = lambda: task  # type: ignore[assignment]  # until the scope puts its attributes back
        rows = list(getattr(module, f"explain_{self._found}")(batch, which=self.which))
        kinds, examples = sorted({row.kind for row in rows}), batches.batch_size(batch)
        if len(rows) != examples or kinds != [self._found]:
            raise ValueError(
                f"`explain_{self._found}` of {type(module).__name__} returned {len(rows)} records of {kinds} for "
                f"{examples} examples, and a Monitor shows one an example."
            )
        return rows

    def metrics(self) -> dict[str, Metric]:
        """Return the metrics of one validation run."""
        means: dict[str, Metric] = {name: MeanMetric(nan_strategy="ignore") for name in _MEANS[self._found]}
        if self._found == RationaleRow.kind:
            return means | {"token_f1": TokenF1(), "iou_f1": IOUF1()}
        return means | {"error": MaxMetric()} if self._found == ConceptsRow.kind else means

    def update(self, metrics: dict[str, Metric], probe: int, row: Any, *others: Any) -> None:
        """Add what one probe's record says in numbers."""
        for name, value in _NUMBERS[row.kind](row).items():
            if value is not None:
                metrics[name].update(value)
        if isinstance(row, RationaleRow):
            self._compare(metrics, probe, row)

    def _compare(self, metrics: dict[str, Metric], probe: int, row: RationaleRow) -> None:
        """Add how a selection compares with the last one of the probe, and with people's."""
        counts = [not special for special in row.special] or [True] * len(row.selected)
        now = {i for i, (kept, counted) in enumerate(zip(row.selected, counts, strict=True)) if kept and counted}
        before = self._before.get(probe)
        if before is not None and now:
            metrics["drift"].update(len(now - before) / len(now))
        self._before[probe] = now
        if row.gold_rationale is not None:
            flags = torch.tensor([row.selected, row.gold_rationale, counts]).bool()
            for name in ("token_f1", "iou_f1"):
                metrics[name].update(*flags[:, None])


def kinds_of(module: LightningModule) -> list[str]:
    """Return the kinds of record by which a module explains itself, in the order of its bases."""
    found = [kind for base in type(module).__mro__ for kind in KINDS if f"explain_{kind}" in vars(base)]
    return list(dict.fromkeys(found))


def _of_rationale(row: RationaleRow) -> Mapping[str, float | None]:
    return {name: getattr(row, name) for name in _MEANS[row.kind] if name != "drift"}


def _of_spans(row: SpansRow) -> Mapping[str, float | None]:
    erased = row.spans[0].erased if row.spans else None
    return {"sharpness": row.sharpness, "erased": erased, "erased_control": row.control}


def _of_concepts(row: ConceptsRow) -> Mapping[str, float | None]:
    right = [each.right for each in row.concepts if each.right is not None]
    known = [abs(each.contribution) for each in row.concepts if each.contribution is not None]
    size = sum(known) + abs(row.residual or 0.0)
    share = None if row.residual is None or not size else abs(row.residual) / size
    return {
        "concept_accuracy": sum(right) / len(right) if right else None,
        "residual_share": share,
        "error": None if row.error is None else abs(row.error),
    }


def _of_generated(row: GeneratedRow) -> Mapping[str, float | None]:
    leaks = None if row.leaks is None else float(row.leaks)
    return {name: leaks if name == "leaks" else getattr(row, name) for name in _MEANS[row.kind]}


_NUMBERS: dict[str, Callable[[Any], Mapping[str, float | None]]] = {
    RationaleRow.kind: _of_rationale,
    SpansRow.kind: _of_spans,
    ConceptsRow.kind: _of_concepts,
    GeneratedRow.kind: _of_generated,
}
