"""NeighborMonitor: which training examples look like the model's worst cases to it, and whether to trust them more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from math import inf
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torchmetrics import MeanMetric, Metric

from lightning_interpret.callbacks.evidence import EvidenceMonitor, one_class
from lightning_interpret.callbacks.probes import Probes
from lightning_interpret.evidence import NeighborsRow
from lightning_interpret.functional.features import find_layer
from lightning_interpret.functional.fingerprint import weights_hash
from lightning_interpret.functional.neighbors.labels import conformity
from lightning_interpret.methods.neighbors import Answers, FittedNeighbors, NearestNeighbors, calibrate
from lightning_interpret.names import check_whole
from lightning_interpret.report import writer
from lightning_interpret.tasks import Task
from lightning_interpret.trainer._compat import fast_dev_run, logging_step
from lightning_interpret.trainer.transfer import to_module

_AT_ONCE = 64
_SAYS = ("model", "knn", "mixture")


class NeighborMonitor(EvidenceMonitor):
    """Show the training examples nearest to the model's worst cases, and how far they are to be trusted beside it.

    For each query a card is logged under ``interpret/<name>/probe_<k>``: the nearest training examples with distance,
    label and text, the labels of all neighbours, what the neighbours predict, how far they conform to the model's
    prediction and how credible that is, and of a text how much less they conform without each token.

    The validation examples that are looked through are halved: on the first half the confidence below which the
    neighbours are asked is chosen and credibility calibrated, on the second all of it is measured.

    Scalars, under ``interpret/<name>/``: ``accuracy_model``, ``accuracy_knn`` and ``accuracy_mixture`` (the model where
    it is sure, else the neighbours), the same with ``_unsure`` (over the share ``unsure`` of the examples that the
    model is least sure of), ``threshold`` (the confidence), ``credibility`` and ``conformity`` (means), ``drift``
    (share of the neighbours shown that were none of the same query's in its last validation; not the first time),
    ``seconds`` and ``failures``.

    Of numbers (:class:`Regression`) the neighbours say their mean, and ``error_model`` and ``error_knn`` are mean
    absolute errors over the examples that are looked through; of several labels a text
    (:class:`MultiLabelClassification`) each label has its share, and ``accuracy_model`` and ``accuracy_knn`` are shares
    of labels that are right. An example with a tag a word, an answer or an output has no one class: there is no vote,
    its neighbours and their distances are shown alone, and none of the accuracies, ``threshold``, ``credibility`` and
    ``conformity`` is logged.

    Features and labels of training examples go to TensorBoard's projector at the end of ``fit``.

    Under DDP every process has a datastore of all training examples, and answers for its share of the queries.

    Args:
        method: The options of the search; by default those of :class:`NearestNeighbors`.
        unsure: Share of the examples that count as those the model is least sure of.
        saliency: Whether to show of texts how much less the neighbours conform without each token.
        projector: How many training examples, spread evenly, go to the projector; 0 for none.
        queries: ``"worst"`` for the examples of highest loss, ``"unsure"`` for those the model is least sure of,
            ``"fixed"`` for the same ones each time.
        k: Neighbours shown; ``method`` says how many count.
        scan: Validation examples that are looked through, spread evenly.
        train_data: A loader, a data set or a data module of the training examples; by default the trainer's.
        id_column: Column of the training data that holds an integer id; by default ``example_id``.
        train_examples: How many training examples are asked, spread evenly; ``None`` for all.
        train_batch_size: How many are read at once.
        name: Part of every tag; by default ``neighbor``.
        task: How module and batch are read; by default the module's own or one inferred from its model.
        tokenizer: The tokenizer (an object, a name or a directory) for a task that is inferred.
        probes: How many queries, or the indices of fixed ones.
        every_n_validations: Validation runs from one explanation to the next.
        max_seconds: Seconds a validation run may spend here; the datastore holds what is read in half of them, and the
            record says how many examples that is; what is looked through ends with all of them. ``None`` for no bound.
        precision: ``"32"`` to compute in single precision, ``"model"`` in the trainer's own.
        on_error: ``"warn"`` to count and go on, ``"raise"`` to stop the run.
        save_jsonl: Whether to append the records to ``interpret/<name>.jsonl`` in the log directory, or a path.

    Raises:
        ValueError: If an option is out of its range; before training starts, if a layer does not exist, or the training
            data have no ids or no indices.

    Example::

        trainer = Trainer(callbacks=[NeighborMonitor(tokenizer=tokenizer)])
    """

    def __init__(
        self,
        method: NearestNeighbors | None = None,
        *,
        unsure: float = 0.1,
        saliency: bool = True,
        projector: int = 2000,
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
            queries=queries,
            k=k,
            scan=scan,
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
            precision=precision,
            on_error=on_error,
            save_jsonl=save_jsonl,
        )
        if not 0 < unsure <= 1:
            raise ValueError(f"`unsure={unsure!r}` must be a share above 0 and at most 1.")
        check_whole(0, projector=projector)
        self.method = NearestNeighbors() if method is None else method
        self.unsure, self.saliency, self.projector = unsure, saliency, projector
        self._one_class = True  # of the task
        self._numbers: Literal["values", "labels"] | None = None
        self._fitted: FittedNeighbors | None = None
        self._looked_at: tuple[Probes, Any] | None = None
        self._before: dict[tuple[str, int], set[int]] = {}
        self._measured: dict[str, float] = {}  # metrics are no tensors of the attribution context

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work; forget the datastore and the neighbours of another entry point."""
        super().setup(trainer, pl_module, stage)
        self._fitted, self._before = None, {}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the features of the last validation to the projector."""
        loggers = [each for each in trainer.loggers if trainer.is_global_zero and writer.can_show(each)]
        if self._fitted is None or not self.projector or not loggers or fast_dev_run(trainer):
            return
        try:
            features, rows = self._points(self._fitted)
            for logger in loggers:
                writer.write_projector(logger, features, rows, name=self.name, step=logging_step(trainer))
        except Exception as error:
            if self.on_error == "raise":
                raise
            self._say(f"the projector's points could not be written ({type(error).__name__}: {error}).")

    def check(self, module: LightningModule, task: Task) -> None:
        """Raise for a layer that does not exist, and queries that the task knows no probability of."""
        super().check(module, task)
        self._one_class, self._numbers = one_class(task), task.numbers
        layers = [self.method.layer] if isinstance(self.method.layer, str) else self.method.layer or []
        for layer in layers:
            find_layer(module, layer)

    def explain(self, module: LightningModule, batch: Any, task: Task) -> list[NeighborsRow]:
        """Return the neighbours of each query of a batch."""
        fitted = self._fitted
        if fitted is None or fitted.store.header.weights != weights_hash(module):
            fitted = self._fitted = self.method.fit(module, self.examples(module, share=0.5), task)
        self._measured = self._measure(fitted, module, task)
        saliency = self.saliency and bool(fitted.classes) and task.texts(batch) is not None
        return list(fitted.find(batch, show=self.k, saliency=saliency))

    def metrics(self) -> dict[str, Metric]:
        """Return the metrics of one validation run."""
        accuracies = [f"accuracy_{who}{which}" for which in ("", "_unsure") for who in _SAYS]
        of_numbers = {"values": "error", "labels": "accuracy"}
        names: list[str] = []
        if self._numbers is not None:
            names = [f"{of_numbers[self._numbers]}_{who}" for who in _SAYS[:2]]
        elif self._one_class:
            names = [*accuracies, "threshold", "credibility", "conformity"]
        return {name: MeanMetric(nan_strategy="ignore") for name in (*names, "drift")}

    def update(self, metrics: dict[str, Metric], probe: int, row: Any, *others: Any) -> None:
        """Add how far one query's neighbours have changed."""
        if row.example_id is None and self.queries != "fixed":
            return
        key = ("probe", probe) if row.example_id is None else ("id", row.example_id)
        now, before = {each.example_id for each in row.neighbors}, self._before.get(key)
        if before is not None and now:
            metrics["drift"].update(len(now - before) / len(now))
        self._before[key] = now

    def _explain_all(
        self, trainer: Trainer, module: LightningModule, task: Task, probes: Probes, current: Any, begin: float
    ) -> int:
        self._measured, self._looked_at = {}, (probes.spread(self.scan), current)
        failures = super()._explain_all(trainer, module, task, probes, current, begin)
        self._looked_at = None
        for name, value in self._measured.items():
            self._metrics[name].update(value)
        return failures

    def _measure(self, fitted: FittedNeighbors, module: LightningModule, task: Task) -> dict[str, float]:
        """Calibrate on half of the examples that are looked through, and return what the other half says of it."""
        if not fitted.store.classes:
            return {}
        answers = Answers.joined(list(self._scanned(fitted, module, task)))
        if answers.numbers is not None:
            return _of_numbers(answers.numbers[answers.usable], task.numbers == "labels")
        labelled = (answers.usable & (answers.gold >= 0)).nonzero().flatten()
        fitted.calibration = None
        if len(labelled) < 2:
            return {}
        metric = self.method.metric
        held_out = answers.at(labelled[::2])
        fitted.calibration = calibrate(held_out, self.method.k, metric, temperature=self.method.temperature)
        asked = answers.at(labelled[1::2])
        back_off, knn, credible = fitted.calibration.back_off, fitted.knn(asked), fitted.credibility(asked)
        said = (asked.probabilities, knn, back_off.mixture(asked.probabilities, knn))
        right = {who: (each.argmax(dim=1) == asked.gold).double() for who, each in zip(_SAYS, said, strict=True)}
        unsure = asked.probabilities.max(dim=1).values.argsort(stable=True)[
            : max(1, round(self.unsure * len(asked.gold)))
        ]
        found = {f"accuracy_{who}": float(each.mean()) for who, each in right.items()}
        found |= {f"accuracy_{who}_unsure": float(each[unsure].mean()) for who, each in right.items()}
        found |= {"threshold": back_off.threshold}
        found |= {"conformity": float(conformity(asked.labels, asked.predicted).mean())}
        return found | ({} if credible is None else {"credibility": float(credible.mean())})

    def _scanned(self, fitted: FittedNeighbors, module: LightningModule, task: Task) -> Iterator[Answers]:
        assert self._looked_at is not None
        found, current = self._looked_at
        size = found.within(current)
        end = inf if self.max_seconds is None else self._begin + self.max_seconds
        for start in range(0, size, _AT_ONCE):
            if start and time.perf_counter() > end:
                self._say(
                    f"`max_seconds={self.max_seconds}` is spent: accuracies are of {start} of {size} validation "
                    "examples. Ask for fewer with `scan`.",
                    once="scan",
                    rank_zero=False,
                )
                return
            batch = found.batch(range(start, min(size, start + _AT_ONCE)), current, task)
            moved = to_module(batch, module.trainer, module, precision=self.precision, moved=not found.indexed)
            yield fitted.answers(moved)

    def _points(self, fitted: FittedNeighbors) -> tuple[torch.Tensor, list[tuple[str, str, str]]]:
        """Return features, and the id, label and text of each, of training examples spread over the datastore."""
        assert self._training is not None
        store, count = fitted.store, min(self.projector, len(fitted.store))
        places = torch.arange(count) * len(store) // count
        ids, names = store.ids[places], dict(enumerate(store.classes))
        texts: dict[int, str] = {}
        for found, batch in self._training.take(ids):
            texts |= dict(zip(found.tolist(), fitted.task.texts(batch) or [""] * len(found), strict=True))
        told = zip(ids.tolist(), store.labels[places].tolist(), strict=True)
        return store.features[places], [(str(i), names.get(label, ""), texts.get(i, "")) for i, label in told]


def _of_numbers(numbers: torch.Tensor, labels: bool) -> dict[str, float]:
    """Return how near model and neighbours come to the gold numbers: the mean absolute error, or the right labels."""
    model, near, gold = numbers.unbind(dim=1)
    known = ~(near.isnan() | gold.isnan())
    if not bool(known.any()):
        return {}
    said = zip(_SAYS[:2], (model, near), strict=True)
    if labels:
        return {f"accuracy_{who}": float(((each >= 0.5) == (gold >= 0.5))[known].double().mean()) for who, each in said}
    return {f"error_{who}": float((each - gold)[known].abs().mean()) for who, each in said}
