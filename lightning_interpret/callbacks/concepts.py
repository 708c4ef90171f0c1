"""ConceptMonitor: what human-given concepts do to the scores of the classes, and how that comes about in training."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import inf, nan
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from torchmetrics import MeanMetric, Metric

from lightning_interpret.callbacks import output
from lightning_interpret.callbacks.concept_sets import read_sets
from lightning_interpret.callbacks.monitor import Monitor
from lightning_interpret.callbacks.probes import Probes, evaluated
from lightning_interpret.data.concept_sets import concept_sources
from lightning_interpret.methods.concepts import ConceptActivationVectors, ConceptSets, FittedConcepts
from lightning_interpret.names import check_whole
from lightning_interpret.records.concept_test import ConceptTest, ConceptTestRow
from lightning_interpret.tasks import Task, batches
from lightning_interpret.tasks.encode import encode, max_tokens
from lightning_interpret.trainer.context import attribution_mode
from lightning_interpret.trainer.transfer import to_module

_OF_CLASS = {
    "": "score",
    "/p": "p",
    "/corrected_p": "corrected_p",
    "/derivative": "derivative",
    "/effect": "effect",
}
_OF_CONCEPT = ("accuracy", "stability")
_AT_ONCE = 32  # examples whose derivatives are computed at once


class ConceptMonitor(Monitor):
    """Test concepts in the features of a layer at each validation, and follow them in training (Kim et al., 2018).

    A concept is told by examples: training texts that hold one of some words, a column of the training data (of images
    too), a file of texts. They are read once, before training, by index and never through the loader; at each
    validation vectors are fitted to their features beside random examples, and the class scores' derivatives along them
    are counted over validation examples, beside those of random concepts: see :class:`ConceptActivationVectors`.

    Scalars, under ``interpret/<name>/``, for each concept and class, with a layer's name before them where there are
    several: ``<concept>/<class>`` (the TCAV score), ``<concept>/<class>/p``, ``/corrected_p``, ``/derivative`` and
    ``/effect``; for each concept ``<concept>/accuracy`` and ``<concept>/stability`` of its vectors; ``told_apart`` (how
    many tests were told apart from random concepts), ``seconds`` and ``failures``. They are logged each time,
    whatever was found; why one has no number stands in the table. Characters that tags do not hold become ``_``.

    For each probe a card is logged under ``interpret/<name>/probe_<k>``, the derivatives of its prediction; the number
    after the last probe's is the table of all tests. Classes are also the types of entities, labels of which several
    hold, and numbers; answers and text that is written are no classes, and are refused.

    Under DDP each process does the same work on the same examples, and explains its share of the probes; what the first
    has found is logged. The examples of concepts, and ``examples`` × ``random_concepts`` random ones, are held on the
    CPU as batches while the run lasts: of images ask for fewer.

    Args:
        concepts: For each concept what tells it: ``words`` (a list; whole words, ``case`` to tell cases apart; with
            ``templates`` the words are put into these), ``column`` of the training data (``value`` for what it must
            hold), ``file`` of texts (``text_column``), or ``texts``; ``against`` names another concept to set it
            against in place of random examples. Or ``"aspects"``, those of the generated reviews.
        method: The options of vectors and tests; by default those of :class:`ConceptActivationVectors`.
        layer: Name of the layer, a list of names, or ``"all"``; by default what ``method`` says.
        class_examples: Validation examples, spread evenly, whose derivatives are counted.
        scan: Training examples, spread evenly, in which words and columns are looked for and random ones are drawn.
        batch_size: Examples that are read at once.
        name: Part of every tag; by default ``concepts``.
        task: How module and batch are read; by default the module's own or one inferred from its model.
        tokenizer: The tokenizer (an object, a name or a directory) for a task that is inferred.
        probes: How many examples of the first validation data set, spread evenly, or their indices.
        every_n_validations: Validation runs from one explanation to the next.
        max_seconds: Seconds a validation run may spend here: after half of them no further layer is fitted, and at the
            end no further example is counted; it is said once. ``None`` for no bound.
        precision: ``"32"`` to compute in single precision, ``"model"`` in the trainer's own.
        on_error: ``"warn"`` to count and go on, ``"raise"`` to stop the run.
        save_jsonl: Whether to append the records to ``interpret/<name>.jsonl`` in the log directory, or a path.

    Raises:
        ValueError: If an option is out of its range or a concept is told by nothing; before training starts, if a layer
            does not exist, the task explains no classes, a concept has too few written texts, or none has enough
            examples.
        ImportError: If the extra ``concepts`` is not installed.

    Example::

        trainer = Trainer(callbacks=[ConceptMonitor({"food": {"words": ["steak", "fish"]}}, tokenizer=tokenizer)])
    """

    def __init__(
        self,
        concepts: str | dict[str, Any],
        method: ConceptActivationVectors | None = None,
        *,
        layer: str | list[str] | None = None,
        class_examples: int = 300,
        scan: int = 5000,
        batch_size: int = 32,
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
            name=name or "concepts",
            task=task,
            tokenizer=tokenizer,
            probes=probes,
            every_n_validations=every_n_validations,
            max_seconds=max_seconds,
            precision=precision,
            on_error=on_error,
            save_jsonl=save_jsonl,
        )
        check_whole(class_examples=class_examples, scan=scan, batch_size=batch_size)
        method = ConceptActivationVectors() if method is None else method
        self.concepts, self.method = concepts, method if layer is None else replace(method, layer=layer)
        self.class_examples, self.scan, self.batch_size = class_examples, scan, batch_size
        self._sources = concept_sources(concepts)
        self._sets: ConceptSets | None = None
        self._seen: tuple[str, ...] = ()  # tags of which there was a number once: they are logged ever after
        self._fitted: FittedConcepts | None = None
        self._table: ConceptTestRow | None = None
        self._number = 0  # of the table: after the last probe's

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work; forget the examples of another entry point."""
        super().setup(trainer, pl_module, stage)
        self._sets, self._seen = None, ()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hold on to no data."""
        self._sets = self._fitted = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the concepts' examples, before the first step."""
        self._read(trainer, pl_module, self._prepare(trainer, pl_module))

    def check(self, module: LightningModule, task: Task) -> None:
        """Raise for a layer that does not exist, for what the task lacks, and for answers and written tokens."""
        self.method.check(module, task)
        task.check(module, "predicted", None)

    def explain(self, module: LightningModule, batch: Any, task: Task) -> Iterable[tuple[ConceptTestRow, ...]]:
        """Return the derivatives of each prediction of a batch along the concepts, of several of a text each."""
        assert self._fitted is not None
        return self._fitted.find(batch, self._table).by_example(batches.batch_size(batch))

    def metrics(self) -> dict[str, Metric]:
        """Return the metrics of one validation run."""
        return {tag: MeanMetric(nan_strategy="ignore") for tag in ("told_apart", *self._seen)}

    def update(self, metrics: dict[str, Metric], probe: int, row: Any, *others: Any) -> None:
        """Add nothing: the numbers are of all examples that were tested, and not of the probes."""

    def _start(self, trainer: Trainer, module: LightningModule, loaders: Any) -> None:
        if self._sets is None:  # a run without training
            self._read(trainer, module, self._prepare(trainer, module))
        super()._start(trainer, module, loaders)

    def _read(self, trainer: Trainer, module: LightningModule, task: Task) -> None:
        """Read the examples of the concepts, and refuse what no vector could be fitted to."""
        loaders = trainer.train_dataloader
        if loaders is None:
            loaders = evaluated(trainer)
            self._say("this run has no training data: concepts are looked for in the data that it evaluates.")
        found = Probes(loaders, self.scan)
        if not found.indexed:
            raise ValueError(
                "The training data have no indices, so that no examples of concepts can be drawn from them: give a "
                "data set with `__getitem__` and `__len__`."
            )
        sets = read_sets(
            self._sources,
            found,
            task,
            self.method,
            columns=_concept_columns(trainer, module),
            encode=lambda texts: _encoded(texts, module, task),
            batch_size=self.batch_size,
        )
        for concept, why in sets.missing.items():
            self._say(f"concept {concept!r} is left out: {why}.", once=concept)
        self.method.check_sets(sets)
        self._sets = sets

    def _explain_all(
        self, trainer: Trainer, module: LightningModule, task: Task, probes: Probes, current: Any, begin: float
    ) -> int:
        assert self._sets is not None
        started, self._table, self._number = time.perf_counter(), None, len(probes.indices)
        seconds = inf if self.max_seconds is None else self.max_seconds

        def moved(batch: Any, already: bool = False) -> Any:
            return to_module(batch, trainer, module, precision=self.precision, moved=already)

        try:
            with attribution_mode(trainer, module, self.precision):
                self._fitted = self.method.fit(module, self._sets, task, move=moved, seconds=seconds / 2)
                examples = self._counted(probes, current, task, started + seconds)
                tested = self._fitted.scores(moved(batch, not probes.indexed) for batch in examples)
        except Exception as error:
            if self.on_error == "raise":
                raise
            why = f"{type(error).__name__}: {error}"
            self._say(f"concepts could not be tested ({why}); training goes on.", once=why, rank_zero=False)
            return len(probes.owned(trainer.global_rank, trainer.world_size))
        self._table = tested
        self._told(tested, logged=trainer.is_global_zero)
        failures = super()._explain_all(trainer, module, task, probes, current, begin)
        self._fitted = None
        return failures

    def _counted(self, probes: Probes, current: Any, task: Task, end: float) -> Iterator[Any]:
        """Yield batches of validation examples while there is time, at least one."""
        found = probes.spread(self.class_examples)
        size = found.within(current)
        for start in range(0, size, _AT_ONCE):
            if start and time.perf_counter() > end:
                self._say(
                    f"`max_seconds={self.max_seconds}` is spent: the derivatives of {start} of {size} validation "
                    "examples are counted. Ask for fewer with `class_examples`.",
                    once="class_examples",
                    rank_zero=False,
                )
                return
            yield found.batch(range(start, min(size, start + _AT_ONCE)), current, task)

    def _told(self, tested: ConceptTestRow, logged: bool) -> None:
        """Add the tests to the metrics, and say once why one could not be made.

        They are logged by the first process, whose table is shown: others may have had time for fewer examples, or have
        met others where the data have no indices, and a mean of p-values is none.
        """
        if logged:
            self._metrics["told_apart"].update(sum(test.significant for test in tested.tests))
        tags, left_out = tags_of(tested.tests), () if self._sets is None else self._sets.missing
        for test in tested.tests:
            tag = tags[test.layer, test.concept, test.target_name]
            named = {f"{tag}{what}": field for what, field in _OF_CLASS.items()}
            named |= {f"{tag.rpartition('/')[0]}/{what}": what for what in _OF_CONCEPT}
            for name, field in named.items():
                value = getattr(test, field)
                metric = self._metrics.setdefault(name, MeanMetric(nan_strategy="ignore"))
                metric.update(nan if value is None or not logged else value)
            if test.reason is not None and test.concept not in left_out:
                where = f"{test.concept!r} for {test.target_name!r} at {test.layer!r}"
                self._say(f"concept {where}: {test.reason}.", once=test.reason, rank_zero=False)

    def _gathered(self, trainer: Trainer) -> output.Rows:
        """Return the records of all processes; each then has the tags of all, which one that failed does not know."""
        known = output.from_all(list(self._metrics), trainer.world_size)
        names = dict.fromkeys(name for part in known for name in part)
        more = {name: MeanMetric(nan_strategy="ignore") for name in names if name not in self._metrics}
        self._metrics = {name: (self._metrics | more)[name] for name in names}
        self._seen = tuple(name for name in names if "/" in name)
        return super()._gathered(trainer)

    def _write(self, trainer: Trainer, rows: output.Rows, name: str, step: int) -> None:
        """Write the records of the probes, and after them the table."""
        table = [] if self._table is None else [(self._number, self._table)]
        super()._write(trainer, [*rows, *table], name, step)


def tags_of(tests: Sequence[ConceptTest]) -> dict[tuple[str, str, str], str]:
    """Return the tag of each layer, concept and class, below the Monitor's name; no two are the same."""
    layers, concepts, classes = (
        list(dict.fromkeys(getattr(test, name) for test in tests)) for name in ("layer", "concept", "target_name")
    )
    of_concepts = _parts(concepts, ("told_apart", "seconds", "failures", *layers))
    of_classes = _parts(classes, (*_OF_CONCEPT, "p"))
    before = {layer: "" if len(layers) == 1 else f"{layer}/" for layer in layers}
    return {
        (layer, concept, name): f"{before[layer]}{of_concepts[concept]}/{of_classes[name]}"
        for layer in layers
        for concept in concepts
        for name in classes
    }


def _parts(names: Sequence[str], taken: Sequence[str]) -> dict[str, str]:
    """Return for each name a part of a tag: without what tags do not hold, and none that is taken."""
    found: dict[str, str] = {}
    for name in names:
        part = re.sub(r"[^\w.\-]+", "_", name) or "_"
        part = f"_{part}" if re.match(r"probe_\d", part) else part
        while part in taken or part in found.values():
            part += "_"
        found[name] = part
    return found


def _concept_columns(trainer: Trainer, module: LightningModule) -> Sequence[str]:
    """Return the names of the concepts that the rows of a `TextDataModule` carry, in their order."""
    given = getattr(getattr(trainer, "datamodule", None), "concept_columns", None)
    return tuple(given if given is not None else getattr(module, "concept_names", None) or ())


def _encoded(texts: list[str], module: LightningModule, task: Task) -> Any:
    tokenizer = getattr(task, "tokenizer", None)
    if tokenizer is None:
        raise ValueError(
            f"`concepts`: texts are written down, and {type(task).__name__} has no tokenizer to read them with: tell "
            "the concepts by a column of the training data."
        )
    return encode(tokenizer, texts, max_length=max_tokens(tokenizer, module))
