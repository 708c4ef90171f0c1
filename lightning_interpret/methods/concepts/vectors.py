"""Concept activation vectors: fitted to examples of concepts beside random ones, with random concepts to test by."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.functional.concept_tests import CORRECTIONS
from lightning_interpret.functional.concept_vectors import SOLVERS, concept_vector, extra
from lightning_interpret.functional.pooling import POOLINGS
from lightning_interpret.functional.scope import explaining
from lightning_interpret.methods.concepts.features import LayerReader, check_layer, default_layer, sweep
from lightning_interpret.methods.concepts.fitted import FittedConcepts, LayerVectors, VectorSet
from lightning_interpret.methods.concepts.sets import ConceptSets
from lightning_interpret.methods.describe import class_names
from lightning_interpret.names import check_positive, check_seed, check_whole, choose
from lightning_interpret.tasks import (
    OUTPUTS,
    Generation,
    MultiLabelClassification,
    QuestionAnswering,
    Regression,
    Task,
    TokenClassification,
    batches,
)
from lightning_interpret.tasks.tags import types

STATISTICS = ("effect", "derivative", "score")
TESTS = ("random_concepts", "paper")
_LEAST = 6  # examples of a set: a third of them is held out


@dataclass(frozen=True)
class ConceptActivationVectors:
    """Concepts as directions in a layer, and how a class score changes along them (TCAV; Kim et al., 2018).

    A concept's vector is the unit normal of a linear boundary between examples of it and as many random ones; it is
    fitted ``vectors`` times, against other random examples each time. The derivative of a class score along it says of
    each example whether more of the concept would raise the score; the TCAV score is the share of a class's examples
    for which it would. Each of ``random_concepts`` sets of random examples goes through the same, and says what a
    concept that is none scores.

    The features of a text are the ``pooling`` of its tokens, those of an image the mean over the grid of a feature map.
    The derivative is that for every place which is pooled moving along the vector: then the pooled features move along
    it.

    Args:
        layer: Name of the layer, a list of names, or ``"all"`` for the task's sweep; by default its last block but one.
        pooling: ``mean`` over what is no padding, or the ``first`` or ``last`` token of it; of feature maps ``mean``.
        solver: ``logistic`` or ``svm``, of scikit-learn; see :func:`.concept_vector`.
        penalty: Weight of the squared norm beside the mean loss, for features of mean squared length 1. A weak one
            (0.01) separates the sets best, by a direction that also cancels what else they differ in (Haufe et al.,
            2014); a strong one comes to the difference of their means, which is steadier and seldom has a wrong sign.
        examples: Examples of each set, at most.
        vectors: Vectors of each concept, real or random.
        random_concepts: How many sets of random examples are taken for concepts.
        least: Examples that a concept must have.
        which: Whose score: ``gold``, each example's label, as in the paper, or ``predicted``; a model of one score has
            that one, and numbers (Regression) are all there are. Of texts with several (TokenClassification,
            MultiLabelClassification) each entity counts for its type, and each label that holds for itself.
        output: ``logit``, ``log_prob``, ``prob`` or ``margin``.
        statistic: What is tested: the ``effect``, the mean derivative times how far apart along the vector the means
            of the examples with the concept and without it lie; the mean ``derivative``; or the TCAV ``score``.
            Vectors have unit length, those of random sets too, and in a trained layer these lie along what its features
            vary in most, which often is the label: so scores and derivatives of random concepts are large, of either
            sign, and no concept is told from them. Random sets lie close together, so that their effects are small.
        test: ``random_concepts``: the concept's mean over its vectors beside those of the random concepts. Or
            ``paper``: Welch's t-test of its vectors' values beside those of one vector a random concept, which takes a
            concept's vectors for independent; they share its examples, so that it finds too much.
        correction: For the number of tests: ``holm``, ``benjamini_hochberg`` or ``none``.
        level: Below it a corrected p is taken for told apart.
        seed: Seed of every draw.

    Raises:
        ValueError: If an option is out of its range; by :meth:`check` and :meth:`fit`, if the task explains no classes.
        ImportError: If the extra ``concepts`` is not installed.

    Example::

        fitted = ConceptActivationVectors("encoder.layer.1").fit(model, sets, task)
        print(fitted.scores([batch]))
    """

    layer: str | Sequence[str] | None = None
    pooling: Literal["mean", "first", "last"] = "mean"
    solver: Literal["logistic", "svm"] = "logistic"
    penalty: float = 1.0
    examples: int = 50
    vectors: int = 10
    random_concepts: int = 20
    least: int = 10
    which: Literal["gold", "predicted"] = "gold"
    output: Literal["logit", "log_prob", "prob", "margin"] = "logit"
    statistic: Literal["effect", "derivative", "score"] = "effect"
    test: Literal["random_concepts", "paper"] = "random_concepts"
    correction: Literal["holm", "benjamini_hochberg", "none"] = "holm"
    level: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what is out of its range."""
        choose("pooling", self.pooling, POOLINGS)
        choose("solver", self.solver, SOLVERS)
        choose("which", self.which, ("gold", "predicted"))
        choose("output", self.output, OUTPUTS)
        choose("statistic", self.statistic, STATISTICS)
        choose("test", self.test, TESTS)
        choose("correction", self.correction, CORRECTIONS)
        check_positive(penalty=self.penalty)
        check_whole(_LEAST, least=self.least)
        check_whole(self.least, examples=self.examples)
        check_whole(2, vectors=self.vectors)
        check_whole(4, random_concepts=self.random_concepts)
        check_seed(self.seed)
        if not 0 < self.level < 1:
            raise ValueError(f"`level={self.level!r}` must lie between 0 and 1.")
        if self.layer is not None and not self.layer:
            raise ValueError(f"`layer={self.layer!r}` names no layer: give a name, a list of names, or 'all'.")
        for module in ("sklearn", "scipy"):
            extra(module)

    @property
    def pool(self) -> int:
        """Random examples that are needed for random concepts of the full size."""
        return self.examples * self.random_concepts

    def check(self, module: nn.Module, task: Task | None = None) -> None:
        """Raise for a layer that does not exist, and a task whose targets are of no classes or have no such output.

        Raises:
            LayerError: If there is no such layer.
            ValueError: If each target is a class of its own, or ``output`` is none of a number.
        """
        if isinstance(task, QuestionAnswering | Generation):
            what = "answers" if isinstance(task, QuestionAnswering) else "written tokens"
            raise ValueError(
                f"ConceptMonitor and ConceptActivationVectors test concepts on the examples of a class, and the {what} "
                f"of {type(task).__name__} are no classes that several examples have: use SaliencyMonitor or "
                "AttentionMonitor."
            )
        if isinstance(task, Regression) and self.output != "logit":
            raise ValueError(
                f"`output={self.output!r}`: concepts are tested on a number of {type(task).__name__}, which is no "
                "class: use 'logit'."
            )
        if self.layer != "all":
            for layer in [self.layer] if isinstance(self.layer, str) else self.layer or []:
                check_layer(module, layer)

    def layers_of(self, module: nn.Module, batch: Any, task: Task) -> list[str]:
        """Return the layers that are meant; called inside the explaining scope."""
        if self.layer == "all":
            return sweep(module, batch, task)
        if self.layer is None:
            return [default_layer(module, batch, task)]
        return [self.layer] if isinstance(self.layer, str) else list(self.layer)

    @torch.no_grad()
    def classes_of(self, module: nn.Module, batch: Any, task: Task) -> tuple[tuple[str, ...], bool]:
        """Return the names of the classes, or of what else is explained, and whether that is a model's one score.

        Called inside the explaining scope.
        """
        logits = task.logits(module, batch)
        if isinstance(task, TokenClassification):
            return tuple(types(task.label_names(logits.shape[2]))), False
        if isinstance(task, MultiLabelClassification):
            return task.label_names(logits.shape[1]), False
        known = class_names(task, logits)
        names = known or tuple(dict.fromkeys(task.resolve(logits, batch, "predicted").name))
        return names, not known and logits.dim() == 2 and logits.shape[1] == 1

    def fit(
        self,
        module: nn.Module,
        sets: ConceptSets,
        task: Task,
        *,
        move: Callable[[Any], Any] | None = None,
        seconds: float = math.inf,
    ) -> FittedConcepts:
        """Return the vectors of each concept at each layer. The module is left as it was.

        The features of all examples are held on the CPU: examples × Σ widths of the layers × 4 bytes.

        Args:
            module: The module, trained as far as it is.
            sets: Examples of the concepts, and random ones, ``pool`` of them for sets of the full size.
            task: How module and batches are read.
            move: Brings a batch to the module; by default to its device.
            seconds: After so many no further layer is begun; what is left out has its reason.

        Raises:
            ValueError: If a layer does not exist, no concept has enough examples, or there are too few random ones.
        """
        begin = time.perf_counter()
        self.check(module, task)
        chosen, missing = self.check_sets(sets)
        size = len(sets.random) // self.random_concepts
        move = _to_device_of(module) if move is None else move
        with explaining(module):
            first = batches.clone(move(sets.batches[0]))
            layers = self.layers_of(module, first, task)
            reader = LayerReader(module, task, layers, self.pooling, self.output)
            read = [reader.features(batches.clone(move(batch))) for batch in sets.batches]
            fitted, late = {}, []
            for number, layer in enumerate(reader.layers):
                if number and time.perf_counter() - begin > seconds:
                    late.append(layer)
                    continue
                features = reader.joined(layer, [each.pop(layer) for each in read])
                with extra("threadpoolctl").threadpool_limits(1):  # hundreds of fits too small to be shared out
                    fitted[layer] = self._fit(features, chosen, sets, size)
            classes, one_score = self.classes_of(module, first, task)
        return FittedConcepts(self, module, task, reader, classes, one_score, fitted, missing, tuple(late))

    def check_sets(self, sets: ConceptSets) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Return the rows that each concept's vectors are fitted to, and of concepts that have none the reason.

        Raises:
            ValueError: If there are too few random examples, or no concept has enough.
        """
        size = len(sets.random) // self.random_concepts
        if size < self.least:
            raise ValueError(
                f"There are {len(sets.random)} random examples, and {self.random_concepts} random concepts of at least "
                f"{self.least} take {self.least * self.random_concepts}: give more, or lower `random_concepts` or "
                "`least`."
            )
        chosen, missing = {}, dict(sets.missing)
        for name, rows in sets.concepts.items():
            most = min(self.examples, size, len(rows))
            kept = rows[torch.randperm(len(rows), generator=self._generator(0))[:most]]
            others = sets.against.get(name)
            if others is not None:
                kept = kept[: len(_without(others, kept))]
            if len(kept) < self.least:
                beside = "" if others is None else f" and {len(others)} of what it is set against"
                missing[name] = f"it has {len(rows)} examples{beside}, and at least {self.least} are needed"
            else:
                chosen[name] = kept
        if not chosen:
            raise ValueError(f"No concept can be fitted: {'; '.join(f'{k!r}: {why}' for k, why in missing.items())}.")
        return chosen, missing

    def _fit(self, features: Tensor, chosen: Mapping[str, Tensor], sets: ConceptSets, size: int) -> LayerVectors:
        """Return the vectors of a layer, given the features of all examples ``(n, d)``."""
        drawn = sets.random[torch.randperm(len(sets.random), generator=self._generator(1))]
        apart = drawn[: size * self.random_concepts].view(self.random_concepts, size)
        concepts = {
            name: self._vectors(features, rows, sets.against.get(name, sets.random)) for name, rows in chosen.items()
        }
        random = {
            count: VectorSet.stack([self._vectors(features, rows[:count], sets.random) for rows in apart])
            for count in sorted({len(rows) for rows in chosen.values()})
        }
        return LayerVectors(concepts, {name: len(rows) for name, rows in chosen.items()}, random)

    def _vectors(self, features: Tensor, rows: Tensor, others: Tensor) -> VectorSet:
        """Return the vectors of one set, each against as many others of its own draw."""
        others, found = _without(others, rows), []
        for number in range(self.vectors):
            drawn = others[torch.randperm(len(others), generator=self._generator(2 + number))[: len(rows)]]
            found.append(
                concept_vector(
                    features[rows], features[drawn], solver=self.solver, penalty=self.penalty, seed=self.seed + number
                )
            )
        vectors, *held_out = zip(*found, strict=True)
        return VectorSet(torch.stack(vectors), *(torch.tensor(each, dtype=torch.float64) for each in held_out))

    def _generator(self, draw: int) -> torch.Generator:
        return torch.Generator().manual_seed((1009 * self.seed + draw) % 2**63)


def _without(rows: Tensor, left_out: Tensor) -> Tensor:
    return rows[~torch.isin(rows, left_out)]


def _to_device_of(module: nn.Module) -> Callable[[Any], Any]:
    device = next((weight.device for weight in module.parameters()), torch.device("cpu"))
    return lambda batch: batches.to(batch, device)
