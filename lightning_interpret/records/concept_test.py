"""Records of concept vectors: what a class score does along each concept, and whether that is told from chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lightning_interpret.records.row import Row, Rows

FOR, AGAINST, ALIKE, UNTESTED = (
    "speaks for the class",
    "speaks against the class",
    "not told apart from random concepts",
    "not tested",
)


@dataclass(frozen=True)
class ConceptTest:
    """One concept at one layer for one class.

    Attributes:
        concept: Its name.
        layer: Name of the layer.
        target_name: The class.
        score: The TCAV score: share of the class's examples whose derivative along the concept is positive, the mean
            over its vectors.
        low: Lower end of the score's interval over the vectors, at confidence 1 − level.
        high: Its upper end.
        derivative: Mean directional derivative over those examples and the vectors, in units of the score explained by
            length of a feature: how much, where the TCAV score says how often.
        effect: The mean derivative times how much further along the vector examples of the concept lie than others, in
            units of the score: by how much it would change, to the first order, if the features moved so far.
        p: Of the test against random concepts.
        corrected_p: The same, corrected for the number of tests.
        verdict: What that says, in words.
        reason: Why there is no score or no p.
        accuracy: Of the concept's vectors on held-out examples, 0.5 is chance; mean over the vectors.
        stability: Mean cosine of the pairs of its vectors, over draws of what it is set against.
        positives: Examples of the concept in each fit.
        examples: Examples of the class.
        random_score: Mean TCAV score of the random concepts.
        random_effect: Their mean effect.
        random_accuracy: Mean held-out accuracy of their vectors.
        random_stability: Mean stability of their vectors.
        own: Derivative of the one example that a record is of, along the mean of the vectors.
    """

    concept: str
    layer: str
    target_name: str
    score: float | None = None
    low: float | None = None
    high: float | None = None
    derivative: float | None = None
    effect: float | None = None
    p: float | None = None
    corrected_p: float | None = None
    verdict: str = UNTESTED
    reason: str | None = None
    accuracy: float | None = None
    stability: float | None = None
    positives: int = 0
    examples: int = 0
    random_score: float | None = None
    random_effect: float | None = None
    random_accuracy: float | None = None
    random_stability: float | None = None
    own: float | None = None

    @property
    def significant(self) -> bool:
        """Whether it is told apart from random concepts."""
        return self.verdict in (FOR, AGAINST)


@dataclass(frozen=True, kw_only=True)
class ConceptTestRow(Row):
    """Concepts in the features of a model, of one example, or of all the examples that were tested.

    Attributes:
        tests: One a layer, concept and class; of one example those of its class.
        target_name: The class that is explained of one example; ``None`` of all.
        target: Its score.
        tested: Examples whose derivatives were counted.
        statistic: What is tested: ``effect``, ``derivative`` or ``score``.
        test: What it is tested against: ``random_concepts`` or ``paper``.
        correction: For the number of tests: ``holm``, ``benjamini_hochberg`` or ``none``.
        level: Below it a corrected p is taken for told apart.
        vectors: Vectors of each concept.
        random_concepts: How many random concepts there were.
        pooling: How the features of a sequence were made one vector.
        solver: What the vectors were fitted by.
        output: The score explained.
    """

    kind: ClassVar[str] = "concept_test"
    parts: ClassVar[Mapping[str, type]] = {"tests": ConceptTest}

    tests: tuple[ConceptTest, ...] = ()
    target_name: str | None = None
    target: float | None = None
    tested: int = 0
    statistic: str = "effect"
    test: str = "random_concepts"
    correction: str = "holm"
    level: float = 0.05
    vectors: int = 0
    random_concepts: int = 0
    pooling: str = "mean"
    solver: str = "logistic"
    output: str = "logit"

    @property
    def of_all(self) -> bool:
        """Whether it is the table of all examples, and not of one."""
        return self.target_name is None


class ConceptTests(Rows[ConceptTestRow]):
    """Concepts in N predictions, one row each.

    Attributes:
        rows: A row a prediction, in their order.
    """
