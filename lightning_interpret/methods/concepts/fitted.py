"""Fitted concept vectors: what class scores do along them, tested against random concepts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.concept_tests import against_random, corrected, interval, welch
from lightning_interpret.functional.concept_vectors import directional_derivatives, stability, tcav_score
from lightning_interpret.functional.scope import explaining
from lightning_interpret.methods.concepts.features import LayerReader
from lightning_interpret.methods.describe import described, labels_of
from lightning_interpret.records.concept_test import (
    AGAINST,
    ALIKE,
    FOR,
    UNTESTED,
    ConceptTest,
    ConceptTestRow,
    ConceptTests,
)
from lightning_interpret.tasks import Regression, Task, batches

_TOLD = ("statistic", "test", "correction", "level", "vectors", "random_concepts", "pooling", "solver", "output")

if TYPE_CHECKING:
    from lightning_interpret.methods.concepts.vectors import ConceptActivationVectors


@dataclass(frozen=True)
class VectorSet:
    """The vectors of one set of examples, or of several.

    Attributes:
        vectors: Unit vectors ``(..., R, d)``.
        accuracy: Their accuracy on held-out examples, ``(..., R)``.
        gap: How much further along them examples of the set lie than others, ``(..., R)``.
    """

    vectors: Tensor
    accuracy: Tensor
    gap: Tensor

    @classmethod
    def stack(cls, sets: Sequence[VectorSet]) -> VectorSet:
        """Return the vectors of several sets, ``(J, R, d)``."""
        return cls(*(torch.stack([getattr(each, f.name) for each in sets]) for f in fields(cls)))

    @property
    def direction(self) -> Tensor:
        """The unit vector of their mean, ``(..., d)``."""
        return torch.nn.functional.normalize(self.vectors.mean(dim=-2), dim=-1)

    def values(self, rates: Tensor) -> dict[str, Tensor]:
        """Return what each vector's derivatives come to, ``(..., R)`` by name, given gradients ``(M, d)``, M ≥ 1."""
        slopes = directional_derivatives(rates, self.vectors.flatten(0, -2))
        score, slope = (each.view(self.gap.shape) for each in (tcav_score(slopes), slopes.mean(dim=0)))
        return {"score": score, "derivative": slope, "effect": slope * self.gap}


@dataclass(frozen=True)
class LayerVectors:
    """The vectors of one layer.

    Attributes:
        concepts: Those of each concept.
        positives: How many examples of each concept a fit has.
        random: By that number, those of the random concepts of as many examples, ``(J, R, d)``.
    """

    concepts: Mapping[str, VectorSet]
    positives: Mapping[str, int]
    random: Mapping[int, VectorSet]


@dataclass(frozen=True)
class FittedConcepts:
    """Concept vectors of a module as it was when they were fitted.

    Attributes:
        method: The options.
        module: The module.
        task: How it is read.
        reader: Reads the layers.
        classes: Names of the classes.
        one_score: Whether the model has one score and no classes: then every example is of it, whatever its label.
        layers: The vectors by layer.
        missing: Concepts without vectors, with the reason.
        late: Layers for which there was no time.
    """

    method: ConceptActivationVectors
    module: nn.Module
    task: Task
    reader: LayerReader
    classes: tuple[str, ...]
    one_score: bool
    layers: Mapping[str, LayerVectors]
    missing: Mapping[str, str]
    late: tuple[str, ...] = ()

    @property
    def concepts(self) -> tuple[str, ...]:
        """All concepts, those without vectors last."""
        some = next(iter(self.layers.values()))
        return (*some.concepts, *self.missing)

    def scores(self, examples: Iterable[Any]) -> ConceptTestRow:
        """Return each concept tested at each layer for each class, as one record. The module is left as it was.

        Args:
            examples: Batches of examples of the classes, on the module's device; with ``which="gold"`` those without a
                label are passed over. Of a model of one score all are counted.

        Raises:
            ValueError: If there is not one class an example, or ``which="gold"`` and there are no labels.
        """
        found: dict[str, list[Tensor]] = {layer: [] for layer in self.reader.layers}
        names: list[str] = []
        which = "predicted" if self.one_score or isinstance(self.task, Regression) else self.method.which
        with explaining(self.module):
            for batch in examples:
                batch = batches.clone(batch)
                batch = self._labelled(batch) if which == "gold" else batch
                if batch is None:
                    continue
                read = self.reader.gradients(batch, which, told=True)
                if read is None:  # no entity in these texts, or no label that holds
                    continue
                rates, targets, _ = read
                names += targets.name
                for layer, rate in rates.items():
                    found[layer].append(rate)
        tests = []
        for layer in self.reader.layers:
            every = torch.cat(found[layer]) if found[layer] else torch.zeros(0, 0)
            for name in dict.fromkeys((*self.classes, *names)):  # of a detector those that were met
                of_class = every[torch.tensor([each == name for each in names], dtype=torch.bool)]
                tests += self._of_class(layer, name, of_class)
        return ConceptTestRow(tests=self._judged(tests), tested=len(names), **self._options())

    def find(self, batch: Any, tested: ConceptTestRow | None = None) -> ConceptTests:
        """Return the derivatives of what is predicted along the concepts, one row a target, such as an example's class.

        Args:
            batch: The examples, on the module's device.
            tested: What :meth:`scores` returned, to stand beside them.
        """
        with explaining(self.module):
            batch = batches.clone(batch)
            facts = described(self.module, batch, self.task)
            read = self.reader.gradients(batch, "predicted")
        assert read is not None
        rates, targets, scores = read
        example = tuple(targets.example.tolist())
        known = {(test.layer, test.concept, test.target_name): test for test in (tested.tests if tested else ())}
        rows = []
        for i, (name, score) in enumerate(zip(targets.name, scores.tolist(), strict=True)):
            tests = []
            for layer, vectors in self.layers.items():
                directions = torch.stack([each.direction for each in vectors.concepts.values()])
                own = directional_derivatives(rates[layer][i : i + 1], directions)[0].tolist()
                for concept, value in zip(vectors.concepts, own, strict=True):
                    test = known.get((layer, concept, name), ConceptTest(concept, layer, name))
                    tests.append(replace(test, own=_finite(value)))
            count = 0 if tested is None else tested.tested
            lost = {test.concept: "its derivative is not a finite number" for test in tests if test.own is None}
            about = {"target_name": name, "target": score, "tested": count, "reasons": {**self.missing, **lost}}
            rows.append(ConceptTestRow(tests=tuple(tests), **facts[example[i]], **about, **self._options()))
        return ConceptTests(tuple(rows), example)

    def _labelled(self, batch: Any) -> Any | None:
        """Return the examples that have a label; ``None`` where none has."""
        labels = self.task.labels(batch)
        if labels is None or self.task.view is not None:  # several targets a text: those that are right are read of it
            return batch
        if labels.is_floating_point() or labels.dim() != 1:
            raise ValueError(
                f"`which='gold'` counts the examples of each class, and labels {tuple(labels.shape)} ({labels.dtype}) "
                "are not of one class an example: use `which='predicted'`."
            )
        kept = (labels_of(self.task, batch, len(self.classes)) >= 0).nonzero().flatten()
        if len(kept) == batches.batch_size(batch):
            return batch
        return self.task.take(batch, kept) if len(kept) else None

    def _of_class(self, layer: str, name: str, rates: Tensor) -> list[ConceptTest]:
        """Return the tests of one layer and class, given the gradients of the class's examples ``(M, d)``."""
        blank = {concept: ConceptTest(concept, layer, name, examples=len(rates)) for concept in self.concepts}
        tests = [replace(blank[concept], reason=why) for concept, why in self.missing.items()]
        known = [blank[concept] for concept in self.concepts if concept not in self.missing]
        if layer in self.late:
            return [*(replace(test, reason="`max_seconds` was spent before its layer") for test in known), *tests]
        vectors = self.layers[layer]
        why = _untold(rates)
        beside = {} if why else {count: each.values(rates) for count, each in vectors.random.items()}
        return [*(self._test(test, vectors, rates, beside, why) for test in known), *tests]

    def _test(
        self,
        test: ConceptTest,
        vectors: LayerVectors,
        rates: Tensor,
        beside: Mapping[int, Mapping[str, Tensor]],
        why: str | None,
    ) -> ConceptTest:
        """Return what one concept's vectors say, given the values of random concepts, ``(J, R)`` by name and size."""
        own, count = vectors.concepts[test.concept], vectors.positives[test.concept]
        random = vectors.random[count]
        test = replace(
            test,
            accuracy=float(own.accuracy.mean()),
            stability=_finite(stability(own.vectors)),
            positives=count,
            random_accuracy=float(random.accuracy.mean()),
            random_stability=_finite(sum(map(stability, random.vectors)) / len(random.vectors)),
        )
        if why is not None:
            return replace(test, reason=why)
        if not bool(own.vectors.any()):
            return replace(test, reason="the layer gives all examples the same features")
        values, others = own.values(rates), beside[count]
        scores, tested = _there(values["score"]), _there(values[self.method.statistic])
        drawn = others[self.method.statistic]
        drawn = _there(drawn[:, 0] if self.method.test == "paper" else drawn.nanmean(dim=1))
        p = welch(tested, drawn) if self.method.test == "paper" else against_random(float(tested.mean()), drawn)
        low, high = interval(scores, self.method.level)
        return replace(
            test,
            score=_mean(scores),
            low=None if math.isnan(low) else max(0.0, low),
            high=None if math.isnan(high) else min(1.0, high),
            derivative=_mean(values["derivative"]),
            effect=_mean(values["effect"]),
            p=_finite(p),
            verdict=FOR if float(tested.mean()) > float(drawn.mean()) else AGAINST,  # where it is told apart
            reason=_unscored(scores, p, len(drawn)),
            random_score=_mean(_there(others["score"])),
            random_effect=_mean(others["effect"]),
        )

    def _judged(self, tests: list[ConceptTest]) -> tuple[ConceptTest, ...]:
        """Return the tests with their p corrected for how many there are, and what that says."""
        p = torch.tensor([math.nan if test.p is None else test.p for test in tests], dtype=torch.float64)
        found = corrected(p, self.method.correction).tolist()
        return tuple(
            replace(test, corrected_p=_finite(value), verdict=self._verdict(test.verdict, value))
            for test, value in zip(tests, found, strict=True)
        )

    def _verdict(self, side: str, p: float) -> str:
        return UNTESTED if math.isnan(p) else side if p < self.method.level else ALIKE

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self.method, name) for name in _TOLD}


def _untold(rates: Tensor) -> str | None:
    """Return why no concept can be tested, given the gradients of the examples of a class; None where one can."""
    if not len(rates):
        return "there is no example of the class"
    if not bool(rates.isfinite().all()):
        return "the score has no finite gradient in the layer, for some examples of the class"
    return None if bool(rates.any()) else "the score does not change with the layer: every derivative is 0"


def _unscored(scores: Tensor, p: float, random: int) -> str | None:
    """Return why there is no score or no p, given how many random concepts there are to test by."""
    if not len(scores):
        return "every derivative along the concept is 0"
    if math.isfinite(p):
        return None
    few = "the layer tells too few random examples apart for random concepts"
    return few if random < 2 else "the random concepts are all alike, so that no p can be given"


def _there(values: Tensor) -> Tensor:
    """Return the values that there are, ``(n,)``: a vector that is none, or along which nothing moves, has no score."""
    return values[values.isfinite()]


def _mean(values: Tensor) -> float | None:
    return _finite(float(values.mean()))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
