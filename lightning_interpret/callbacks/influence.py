"""InfluenceMonitor: which training examples made the model say this of the worst validation examples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

from lightning.pytorch import LightningModule, Trainer
from torchmetrics import MeanMetric, Metric

from lightning_interpret.callbacks import output, suspects
from lightning_interpret.callbacks.evidence import EvidenceMonitor, one_class
from lightning_interpret.evidence import InfluenceRow, Suspect
from lightning_interpret.methods.influence import Fitted, InfluenceMethod, influence_named
from lightning_interpret.methods.influence.measures import LossOfPrediction
from lightning_interpret.methods.influence.tokens import strongest
from lightning_interpret.methods.neighbors import FittedNeighbors, NearestNeighbors
from lightning_interpret.tasks import Regression, Task
from lightning_interpret.trainer._compat import fast_dev_run
from lightning_interpret.trainer.checkpoints import run_checkpoints
from lightning_interpret.trainer.optimisation import objective_weight_decay

_TOKEN_BYTES = 2**30


class InfluenceMonitor(EvidenceMonitor):
    """Show which training examples help and which harm the model's worst predictions, at every validation.

    For each query a card is logged under ``interpret/<name>/probe_<k>``: the query, what the model says of it, the
    training examples that help (without them its loss would be higher) and that harm, with their ids, so that a row can
    be found and mended; beside each score its loss and the share of its neighbours with another label, as influence is
    often no better at finding label errors. ``suspects`` is a table of training examples that may be labelled wrongly.

    Scalars, under ``interpret/<name>/``: ``query_loss`` (mean over queries), ``same_label`` (share of the helpful
    examples that have the label the query is predicted as), ``self_influence`` (mean over the training examples that
    were read), ``self_influence_<id>`` (of a tracked example), ``examples`` and ``skipped`` (training examples
    scored, and left out since what is read of them was not finite), ``coverage`` (share of the trainable parameters, of
    methods that read gradients), ``seconds`` and ``failures``. Of ``turn_over_dropout``, where there are ``suspects``:
    ``seen_accuracy``, ``unseen_accuracy``, ``seen_loss`` and ``unseen_loss``, of the training examples under their own
    masks. The unseen accuracy is the honest measure of what the flipped network never learnt: it should be near the
    accuracy on validation data, and by as much as it is above that, labels have leaked through the masks.

    Of what is generated or tagged, influence is taken apart too (``per_token``): each token of the query's output with
    the training examples that it is owed to, and of the examples shown which of their own tokens that comes from; the
    table of suspects says which word's label it is. Of numbers (:class:`Regression`) the suspects are those of largest
    loss. ``same_label`` is of tasks with one class an example.

    A query without a label is asked for the loss of what is predicted. The run's optimizers and checkpoints are given
    to methods that read them. Under DDP every process scores its share of the training examples, after each has fitted
    the method on all of them; only the top k are exchanged.

    By default the training data are read twice: once for the method, which keeps what it needs for the scores where
    that fits into memory, and once for the neighbours. Other methods read them again for the scores and for the
    suspects; of those that solve for each vector (``conjugate_gradient``, ``lissa``) self-influence costs a solve for
    every training example: set ``suspects=0``.

    Args:
        method: Name of an influence method (``lightning-interpret methods`` lists them), or one with its options.
        per_token: Whether to say of each token of a query's output, or each word that is tagged, what it is owed to.
            ``None`` for this where the task has such a loss and the method's scores can be taken apart, and the
            gradients of the tokens fit into 1 GiB; the record says why not.
        aggregate: Whether to show one more card, of the sum of all queries: what helps and harms the set of them.
        neighbors: Whether to show the nearest training examples beside, and each example's neighbour disagreement.
        suspects: How many suspected label errors to list, by self-influence; 0 for no table. It is written to
            ``interpret/<name>_suspects.tsv`` too.
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
        per_token: bool | None = None,
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
        if not _whole(suspects):
            raise ValueError(f"`suspects={suspects!r}` must be a whole number of at least 0.")
        if not (_whole(track) or (isinstance(track, list) and all(map(_whole, track)))):
            raise ValueError(f"`track={track!r}` must be a whole number of at least 0, or a list of ids.")
        if save_cleanlab and not neighbors:
            raise ValueError("`save_cleanlab=True` writes the features of the datastore: use `neighbors=True`.")
        self.per_token = per_token
        self.aggregate, self.neighbors, self.suspects = aggregate, neighbors, suspects
        self.track, self.save_cleanlab = track, save_cleanlab
        self._tracked: list[int] = []
        self._suspected: list[Suspect] = []
        self._by = "self_influence"  # what suspects are ranked by
        self._one_class = True
        self._measured: list[tuple[str, float, int]] = []  # metrics are no tensors of the attribution context

    def check(self, module: LightningModule, task: Task) -> None:
        """Raise for what the method cannot serve, whatever the data."""
        super().check(module, task)
        self.method.check(module, task)
        self._by, self._one_class = "loss" if isinstance(task, Regression) else "self_influence", one_class(task)
        if self.per_token and self.method.whole_only is not None:
            raise ValueError(f"`per_token=True`, but {self.method.whole_only}.")
        if self.per_token and not _has_tokens(task):
            raise ValueError(
                f"`per_token=True`, but {type(task).__name__} has no loss of tokens: leave it out, or use "
                "TokenClassification, CausalGeneration or Seq2SeqGeneration."
            )
        if self.save_cleanlab and not self._one_class:
            raise ValueError(
                f"`save_cleanlab=True` writes probabilities of classes, of which {type(task).__name__} has not one an "
                "example: leave it out."
            )

    def explain(self, module: LightningModule, batch: Any, task: Task) -> list[InfluenceRow]:
        """Return the influence on each query of a batch, then on their sum, of this process's share of the examples."""
        trainer = module.trainer
        fitted = self.method.fit(
            module,
            self.examples(module, share=0.5, fixed=True),
            task,
            weight_decay=objective_weight_decay(trainer.optimizers),
            optimizer=trainer.optimizers,
            checkpoints=partial(run_checkpoints, trainer),
        )
        alone = fitted.keeps and self._shares == (0, 1)
        labelled = task.labels(batch) is not None or not self.method.of_loss  # else no label is needed
        per_token, why = self._taken_apart(fitted, module, batch, task, labelled)
        found = fitted.scores(
            batch,
            self.k,
            per_token=per_token,
            aggregate="also" if self.aggregate else False,
            measure=None if labelled else LossOfPrediction(task),
            examples=None if alone else self.examples(module, share=0.8, shard=True),
        )
        without = why if labelled else ("the query has no label: its loss is that of the prediction",)
        rows = [replace(row, notes=(*row.notes, *without)) for row in found]
        beside = None
        if self.neighbors:
            with self._without("neighbours"):
                near = NearestNeighbors(k=self.k)
                beside = near.fit(module, self.examples(module, share=0.9, fixed=True), task)
                rows = [suspects.disagreeing(row, beside) for row in rows]
                queries = [*beside.find(batch), *[None] * self.aggregate]
                rows = [replace(row, neighbors=each) for row, each in zip(rows, queries, strict=True)]
        with self._without("suspected label errors"):
            self._look_at_training(fitted, alone, beside, module, task)
        if beside is not None and self.save_cleanlab and trainer.is_global_zero and not fast_dev_run(trainer):
            with self._without("the file for cleanlab"):
                path = output.beside(trainer, f"{self._logged_as(trainer)}_cleanlab.npz")
                suspects.save_for_cleanlab(path, self.examples(module), beside, task)
        return rows

    def metrics(self) -> dict[str, Metric]:
        """Return the metrics of one validation run."""
        names = ["query_loss", *["same_label"] * self._one_class, "examples", "skipped", "coverage", "self_influence"]
        names += self.method.scalars
        tracked = [f"self_influence_{i}" for i in self._tracked]
        return {name: MeanMetric(nan_strategy="ignore") for name in (*names, *tracked)}

    def update(self, metrics: dict[str, Metric], probe: int, row: Any, *others: Any) -> None:
        """Add one query's record."""
        if row.loss is not None:
            metrics["query_loss"].update(row.loss)
        known = [each.gold == row.prediction for each in row.helpful if row.prediction is not None]
        if known and self._one_class:
            metrics["same_label"].update(sum(known) / len(known))
        metrics["examples"].update(row.examples)
        metrics["skipped"].update(row.skipped)
        if row.approximation.coverage is not None:
            metrics["coverage"].update(row.approximation.coverage)

    def _find(self, trainer: Trainer) -> None:
        """Look the training data up, and in them what is to be tracked.

        Raises:
            ValueError: If an id that is to be tracked is not in them.
        """
        before = self._training
        super()._find(trainer)
        if self._training is before or self._training is None:
            return
        if not isinstance(self.track, int):
            try:
                self._training.index_of(self.track)
            except ValueError as error:
                raise ValueError(f"`track={self.track}`: {error}") from error
            self._tracked = list(self.track)
        elif self.track:
            parts = self._training.batches(limit=self.track)
            self._tracked = [i for ids, _ in parts for i in ids.tolist()]

    def _gathered(self, trainer: Trainer) -> output.Rows:
        """Return each query's record, and collect the suspects of all processes; collective."""
        parts = output.from_all(self._suspected, trainer.world_size)
        self._suspected = suspects.together(parts, self.suspects, self._by)
        return super()._gathered(trainer)

    def _write(self, trainer: Trainer, rows: output.Rows, name: str, step: int) -> None:
        super()._write(trainer, rows, name, step)
        if self._suspected:
            output.write_suspects(trainer, self._suspected, name=name, step=step, by=self._by)

    def _explain_all(self, *given: Any) -> int:
        self._suspected, self._measured = [], []
        failures = super()._explain_all(*given)
        for name, value, weight in self._measured:
            self._metrics[name].update(value, weight)
        return failures

    def _look_at_training(
        self, fitted: Fitted, alone: bool, beside: FittedNeighbors | None, module: LightningModule, task: Task
    ) -> None:
        """Follow the tracked training examples, and find what of this process's share influences itself most."""
        examples = self.examples(module, shard=True)
        for ids, batch in examples.take(self._tracked) if self._tracked else ():
            for i, score in zip(ids.tolist(), (fitted.own(batch) / fitted.total).tolist(), strict=True):
                self._measured.append((f"self_influence_{i}", score, 1))
        if not self.suspects:
            return
        ids, scores = suspects.finite(*fitted.self_influence(None if alone else examples))
        self._measured.append(("self_influence", float(scores.sum()) / max(1, len(ids)), len(ids)))
        self._measured += [(name, value, count) for name, (value, count) in fitted.scalars().items()]
        if self._by == "loss":
            own = dict(zip(ids.tolist(), scores.tolist(), strict=True))
            found = suspects.foremost(*suspects.finite(*suspects.losses(examples, module, task)), self.suspects)
            found = {i: own[i] for i in found if i in own}
        else:
            found = suspects.foremost(ids, scores, self.suspects)
        self._suspected = suspects.told(found, examples, beside, module, task)
        if _has_tokens(task) and fitted.reads == "gradient":
            self._suspected = suspects.at_words(self._suspected, strongest(fitted, examples, set(found)))

    def _taken_apart(
        self, fitted: Fitted, module: LightningModule, batch: Any, task: Task, labelled: bool
    ) -> tuple[bool, tuple[str, ...]]:
        """Return whether influence is taken apart by token, and a note where it could be and is not."""
        if not labelled or fitted.whole_only is not None or not _has_tokens(task):
            return bool(self.per_token), ()
        if self.per_token is not None:
            return self.per_token, ()
        singles = task.singles(module, batch)
        count, size = 0 if singles is None else len(singles.example), sum(block.numel for block in fitted.blocks)
        if 4 * count * size <= _TOKEN_BYTES:
            return count > 0, ()
        taken = f"{count} tokens of {size:,} parameters take {4 * count * size / 2**30:,.1f} GiB"
        return False, (
            f"influence is not taken apart by token, as {taken}: cover fewer `layers=`, or `per_token=True`",
        )

    @contextmanager
    def _without(self, what: str) -> Iterator[None]:
        """Let what stands beside the influence be missing, and say why."""
        try:
            yield
        except Exception as error:
            if self.on_error == "raise":
                raise
            why = f"{type(error).__name__}: {error}"
            self._say(f"{what} could not be found or written ({why}); the cards are shown without.", rank_zero=False)


def _has_tokens(task: Task) -> bool:
    return type(task).singles is not Task.singles


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
