"""InfluenceMonitor: which training examples made the model say this of the worst validation examples."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torchmetrics import MeanMetric, Metric

from lightning_interpret.callbacks import output
from lightning_interpret.callbacks.checkpoints import run_checkpoints
from lightning_interpret.callbacks.evidence import EvidenceMonitor
from lightning_interpret.callbacks.optimisation import objective_weight_decay
from lightning_interpret.evidence import InfluenceRow, Suspect
from lightning_interpret.functional.influence.top import TopK
from lightning_interpret.methods.influence import Fitted, InfluenceMethod, influence_named
from lightning_interpret.methods.influence.describe import described
from lightning_interpret.methods.influence.examples import Examples
from lightning_interpret.methods.neighbors import FittedNeighbors, NearestNeighbors
from lightning_interpret.methods.neighbors.build import labels_of
from lightning_interpret.report.cleanlab import CleanlabFile
from lightning_interpret.tasks import Task


class InfluenceMonitor(EvidenceMonitor):
    """Show which training examples help and which harm the model's worst predictions, at every validation.

    For each query a card is logged under ``interpret/<name>/probe_<k>``: the query, what the model says of it, the
    training examples that help (without them its loss would be higher) and that harm, with their ids, so that a row can
    be found and mended; beside each score its loss and the share of its neighbours with another label, as influence is
    often no better at finding label errors. ``suspects`` is a table of training examples that may be labelled wrongly.

    Scalars, under ``interpret/<name>/``: ``query_loss`` (mean over queries), ``same_label`` (share of the helpful
    examples that have the label the query is predicted as), ``self_influence`` (mean over the training examples that
    were read), ``self_influence_<i>`` (of the i-th tracked example), ``examples`` and ``skipped`` (training examples
    scored, and left out since their gradients were not finite), ``coverage`` (share of the trainable parameters),
    ``seconds`` and ``failures``.

    Under DDP every process scores its share of the training examples, after each has fitted the method on all of them;
    only the top k are exchanged.

    Args:
        method: Name of an influence method (``lightning-interpret methods`` lists them), or one with its options.
        aggregate: Whether to show one more card, of the sum of all queries: what helps and harms the set of them.
        neighbors: Whether to show the nearest training examples beside, and each example's neighbour disagreement.
        suspects: How many suspected label errors to list, by self-influence; 0 for no table.
        save_cleanlab: Whether to write ids, labels, predicted probabilities and features of all training examples to
            ``interpret/<name>_cleanlab.npz``, for cleanlab; one more pass over them.
        track: Training examples whose self-influence is followed: how many, spread evenly, or their ids.
        queries: ``"worst"`` for the examples of highest loss, ``"unsure"`` for those the model is least sure of,
            ``"fixed"`` for the same ones each time.
        k: Training examples shown of each kind.
        scan: Validation examples that are looked through for the worst, spread evenly.
        train_data: A loader, a data set or a data module of the training examples; by default the trainer's.
        id_column: Column of the training data that holds an integer id; by default ``example_id``.
        train_examples: How many training examples are asked, spread evenly; ``None`` for all.
        train_batch_size: How many are read at once.
        name: Part of every tag; by default ``influence``.
        task: How module and batch are read; by default the module's own or one inferred from its model.
        tokenizer: The tokenizer (an object, a name or a directory) for a task that is inferred.
        probes: How many queries, or the indices of fixed ones.
        every_n_validations: Validation runs from one explanation to the next.
        max_seconds: Seconds a validation run may spend here; what is read for the fit ends when half of them are gone,
            what is scored at their end, and the record says how many examples were. ``None`` for no bound.
        precision: ``"32"`` to compute in single precision, ``"model"`` in the trainer's own.
        on_error: ``"warn"`` to count and go on, ``"raise"`` to stop the run.
        save_jsonl: Whether to append the records to ``interpret/<name>.jsonl`` in the log directory, or a path.

    Raises:
        ValueError: If a name does not exist or an option is out of its range; before training starts, if the training
            data have no ids or no indices.

    Example::

        trainer = Trainer(callbacks=[InfluenceMonitor(tokenizer=tokenizer)])
    """

    sharded: ClassVar[bool] = True

    def __init__(
        self,
        method: str | InfluenceMethod = "exact",
        *,
        aggregate: bool = False,
        neighbors: bool = True,
        suspects: int = 20,
        track: int | list[int] = 3,
        save_cleanlab: bool = False,
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
        self.method = influence_named(method)
        for option, value in (("suspects", suspects), ("track", track)):
            if isinstance(value, bool) or (isinstance(value, int) and value < 0):
                raise ValueError(f"`{option}={value!r}` must be a whole number of at least 0.")
        if save_cleanlab and not neighbors:
            raise ValueError("`save_cleanlab=True` writes the features of the datastore: use `neighbors=True`.")
        self.aggregate, self.neighbors, self.suspects = aggregate, neighbors, suspects
        self.track, self.save_cleanlab = track, save_cleanlab
        self._tracked: list[int] = []
        self._suspected: list[Suspect] = []
        self._measured: list[tuple[str, float, int]] = []  # metrics are no tensors of the attribution context

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse training data without ids, or without those that are to be tracked, before the first step."""
        super().on_train_start(trainer, pl_module)
        if not isinstance(self.track, int) and self._training is not None:
            self._training.index_of(self.track)

    def check(self, module: LightningModule, task: Task) -> None:
        """Raise for what the method cannot serve, whatever the data."""
        self.method.check(module, task)

    def explain(self, module: LightningModule, batch: Any, task: Task) -> list[InfluenceRow]:
        """Return the influence on each query of a batch, then on their sum, of this process's share of the examples."""
        trainer, shard = module.trainer, self.examples(module, share=0.8, shard=True)
        decay = objective_weight_decay(trainer.optimizers)
        fitted = self.method.fit(
            module,
            self.examples(module, share=0.4),
            task,
            weight_decay=decay,
            optimizer=trainer.optimizers,
            checkpoints=partial(run_checkpoints, trainer),
        )
        beside = None
        if self.neighbors:
            beside = NearestNeighbors(k=self.k).fit(module, self.examples(module, share=0.6), task)
        rows = list(fitted.scores(batch, self.k, examples=shard))
        rows += fitted.scores(batch, self.k, aggregate=True, examples=shard) if self.aggregate else []
        self._look_at_training(fitted, beside, module, task)
        if beside is None:
            return rows
        if self.save_cleanlab and trainer.is_global_zero:
            self._save_for_cleanlab(beside, module, task)
        near = [*beside.find(batch), *[None] * self.aggregate]
        return [replace(_disagreeing(row, beside), neighbors=each) for row, each in zip(rows, near, strict=True)]

    def metrics(self) -> dict[str, Metric]:
        """Return the metrics of one validation run."""
        names = ("query_loss", "same_label", "examples", "skipped", "coverage", "self_influence")
        self._tracked = self._ids_to_track()
        tracked = [f"self_influence_{i}" for i in self._tracked]
        return {name: MeanMetric(nan_strategy="ignore") for name in (*names, *tracked)}

    def update(self, metrics: dict[str, Metric], probe: int, row: Any, *others: Any) -> None:
        """Add one query's record."""
        if row.loss is not None:
            metrics["query_loss"].update(row.loss)
        known = [each.gold == row.prediction for each in row.helpful if row.prediction is not None]
        if known:
            metrics["same_label"].update(sum(known) / len(known))
        metrics["examples"].update(row.examples)
        metrics["skipped"].update(row.skipped)
        if row.approximation.coverage is not None:
            metrics["coverage"].update(row.approximation.coverage)

    def _gathered(self, trainer: Trainer) -> output.Rows:
        """Return each query's record, and collect the suspects of all processes; collective."""
        parts: list[Any] = [self._suspected]
        if trainer.world_size > 1:
            parts = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, self._suspected)
        every = {each.example_id: each for part in parts for each in part}.values()
        self._suspected = sorted(every, key=lambda each: -(each.self_influence or 0.0))[: self.suspects]
        return super()._gathered(trainer)

    def _write(self, trainer: Trainer, rows: output.Rows, name: str, step: int) -> None:
        super()._write(trainer, rows, name, step)
        if self._suspected:
            output.write_suspects(trainer, self._suspected, name=name, step=step)

    def _explain_all(self, *given: Any) -> int:
        self._suspected, self._measured = [], []
        failures = super()._explain_all(*given)
        for name, value, weight in self._measured:
            self._metrics[name].update(value, weight)
        return failures

    def _look_at_training(
        self, fitted: Fitted, beside: FittedNeighbors | None, module: LightningModule, task: Task
    ) -> None:
        """Follow the tracked training examples, and find what of this process's share influences itself most."""
        examples = self.examples(module, shard=True)
        for ids, batch in examples.take(self._tracked) if self._tracked else ():
            for i, score in zip(ids.tolist(), (fitted.own(batch) / fitted.total).tolist(), strict=True):
                self._measured.append((f"self_influence_{i}", score, 1))
        if not self.suspects:
            return
        top, total, count = TopK(self.suspects), 0.0, 0
        for ids, batch in fitted.read(examples):
            own = fitted.own(batch) / fitted.total
            finite = own[own.isfinite()].double().cpu()
            total, count = total + float(finite.sum()), count + len(finite)
            top.update(ids, own[None])
        self._measured.append(("self_influence", total / max(1, count), count))
        self._suspected = self._told(dict(top.found(largest=True)[0]), examples, beside, module, task)

    def _told(
        self,
        scores: dict[int, float],
        examples: Examples,
        beside: FittedNeighbors | None,
        module: LightningModule,
        task: Task,
    ) -> list[Suspect]:
        """Return what is known of suspected examples, the one that influences itself most first."""
        found = {}
        for ids, batch in examples.take(list(scores)) if scores else ():
            for i, told in zip(ids.tolist(), described(module, batch, task), strict=True):
                known = {name: told[name] for name in ("text", "gold", "prediction", "loss")}
                found[i] = Suspect(i, self_influence=scores[i], **known)
        shares = _disagreement(list(found), beside)
        return [replace(found[i], disagreement=shares.get(i)) for i in scores if i in found]

    def _save_for_cleanlab(self, beside: FittedNeighbors, module: LightningModule, task: Task) -> None:
        path = output.beside(module.trainer, f"{self._logged_as(module.trainer)}_cleanlab.npz")
        classes = beside.store.classes
        with CleanlabFile(path, classes) as file:
            for ids, batch in self.examples(module).batches():
                logits, features = beside.reader.read(batch)
                known = task.log_probabilities(logits)
                assert known is not None
                file.add(ids, labels_of(task, batch, len(classes)).cpu(), known.exp().cpu(), features.cpu())

    def _ids_to_track(self) -> list[int]:
        assert self._training is not None
        if not isinstance(self.track, int):
            return list(self.track)
        parts = self._training.batches(limit=self.track) if self.track else ()
        return [i for ids, _ in parts for i in ids.tolist()]


def _disagreeing(row: InfluenceRow, beside: FittedNeighbors) -> InfluenceRow:
    """Return the row with each example's share of neighbours that have another label."""
    shares = _disagreement([each.example_id for each in (*row.helpful, *row.harmful)], beside)
    helpful, harmful = (
        tuple(replace(each, disagreement=shares.get(each.example_id)) for each in part)
        for part in (row.helpful, row.harmful)
    )
    return replace(row, helpful=helpful, harmful=harmful)


def _disagreement(ids: list[int], beside: FittedNeighbors | None) -> dict[int, float]:
    """Return the share by id, of those examples that are in the datastore and have a label."""
    if beside is None or not ids:
        return {}
    found, shares = beside.disagreement(ids)
    return {i: share for i, share in zip(found.tolist(), shares.tolist(), strict=True) if share == share}
