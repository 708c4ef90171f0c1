"""Records of what a model says of itself, being trained to: tokens, spans and concepts it decided by, words it wrote.

A :class:`Rationale`, :class:`SpanExplanation`, :class:`Concepts` or :class:`GeneratedRationale` holds the rows of one
call, one a query, in plain Python, JSON both ways. Scores are of ``target``, what is explained, in units of the model's
output; probabilities are the model's, of the predicted class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from lightning_interpret.records import Row, Rows, TokensRow


@dataclass(frozen=True, kw_only=True)
class RationaleRow(TokensRow):
    """The tokens that a model selected, and made its prediction from alone.

    Attributes:
        selected: Whether each token was selected.
        probabilities: The gate's probability that each token is, whatever the budget; ``None`` where it has none.
        rate: Share of the tokens that may be selected which are: special ones do not count.
        budget: The share that was asked for; ``None`` where the gate decides by itself.
        gate: Name of the gate.
        probability: Of the predicted class, from the selection: the prediction's own.
        full: The same from the whole text.
        complement: The same from the tokens that were not selected.
        control: The same from as many tokens drawn at random.
        control_complement: The same without those.
        gold_rationale: Whether people selected each token; ``None`` where nobody was asked.
    """

    kind: ClassVar[str] = "rationale"

    selected: tuple[bool, ...] = ()
    probabilities: tuple[float, ...] | None = None
    rate: float | None = None
    budget: float | None = None
    gate: str | None = None
    probability: float | None = None
    full: float | None = None
    complement: float | None = None
    control: float | None = None
    control_complement: float | None = None
    gold_rationale: tuple[bool, ...] | None = None

    @property
    def sufficiency(self) -> float | None:
        """p(whole text) − p(selection): small where the selection is enough (DeYoung et al., 2020)."""
        return _drop(self.full, self.probability)

    @property
    def comprehensiveness(self) -> float | None:
        """p(whole text) − p(what was not selected): large where nothing that speaks for it was left out."""
        return _drop(self.full, self.complement)

    @property
    def sufficiency_control(self) -> float | None:
        """The sufficiency of as many tokens drawn at random."""
        return _drop(self.full, self.control)

    @property
    def comprehensiveness_control(self) -> float | None:
        """The comprehensiveness of as many tokens drawn at random."""
        return _drop(self.full, self.control_complement)

    @property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """The selected tokens as stretches ``(start, end)``, the end not included; special tokens are in none."""
        kept = [s and not (self.special and self.special[i]) for i, s in enumerate(self.selected)]
        edges = [i for i, (a, b) in enumerate(pairwise([False, *kept, False])) if a != b]
        return tuple(zip(edges[::2], edges[1::2], strict=True))


@dataclass(frozen=True)
class Span:
    """One stretch of a text, with what the model gave it.

    Attributes:
        start: Its first token.
        end: The token after its last.
        weight: Its share of the prediction, in [0, 1].
        text: Its words.
        erased: By how much the target falls when the span is erased; ``None`` where that was not measured.
    """

    start: int
    end: int
    weight: float
    text: str | None = None
    erased: float | None = None


@dataclass(frozen=True, kw_only=True)
class SpansRow(TokensRow):
    """The spans that a model weighed to make its prediction (Sun et al., 2020).

    Attributes:
        spans: Spans of the largest weights, the largest first.
        considered: How many spans there were.
        width: Most tokens of a span.
        sharpness: Σ weight² over all spans: 1 where one span has it all.
        token_weights: For each token, the sum of the weights of the spans that it is in.
        target_name: What is explained.
        target: Its score.
        control: By how much the target falls, on average, when a random span as long as the foremost one is erased.
    """

    kind: ClassVar[str] = "spans"
    parts: ClassVar[Mapping[str, type]] = {"spans": Span}

    spans: tuple[Span, ...] = ()
    considered: int = 0
    width: int | None = None
    sharpness: float | None = None
    token_weights: tuple[float, ...] = ()
    target_name: str | None = None
    target: float | None = None
    control: float | None = None


@dataclass(frozen=True)
class Concept:
    """One concept of a bottleneck in one prediction.

    Attributes:
        name: Its name.
        value: What the head was given of it: a probability, or a logit where that is what the bottleneck hands on.
        probability: The model's, that the concept is there.
        contribution: Its share of the target: weight · value, where the head is linear.
        gold: Whether it is there, where that is known.
        intervened: Whether its value was set by hand.
    """

    name: str
    value: float
    probability: float | None = None
    contribution: float | None = None
    gold: float | None = None
    intervened: bool = False

    @property
    def right(self) -> bool | None:
        """Whether the model says of it what is known, above 0.5 or not; ``None`` of NaN, or one set by hand."""
        if self.gold is None or self.probability is None or math.isnan(self.probability) or self.intervened:
            return None
        return (self.probability > 0.5) == (self.gold > 0.5)


@dataclass(frozen=True, kw_only=True)
class ConceptsRow(Row):
    """The concepts that a prediction was made from.

    Attributes:
        concepts: All of them, the largest |contribution| first, in the bottleneck's order where there is none.
        target_name: What is explained.
        target: Its score: Σ contributions + bias + residual + error.
        bias: What the head adds by itself.
        residual: What goes past the concepts.
        error: Σ of the parts − target; ``None`` where the head is not linear.
        mode: How the bottleneck hands concepts on: ``soft``, ``hard``, ``logit``.
    """

    kind: ClassVar[str] = "concepts"
    parts: ClassVar[Mapping[str, type]] = {"concepts": Concept}

    concepts: tuple[Concept, ...] = ()
    target_name: str | None = None
    target: float | None = None
    bias: float | None = None
    residual: float | None = None
    error: float | None = None
    mode: str | None = None


@dataclass(frozen=True, kw_only=True)
class GeneratedRow(Row):
    """What a model wrote to explain its prediction, with what that is worth.

    Attributes:
        explanation: Its text.
        gold_explanation: What a person wrote.
        target_name: The class that it explains.
        order: ``predict_then_explain``, ``explain_then_predict`` or ``jointly``.
        log_likelihood: Mean log probability of the tokens it wrote, in nats.
        probability: Of the class that it explains, with the explanation where it is read.
        erased: The same with the explanation erased; ``None`` where the prediction does not read it.
        simulated: What a simulator predicts from input and explanation.
        simulated_without: What it predicts from the input alone.
        leaks: Whether the explanation alone gives the prediction away to the simulator.
        overlap: F1 of its words with those of ``gold_explanation``.
    """

    kind: ClassVar[str] = "generated"

    explanation: str = ""
    gold_explanation: str | None = None
    target_name: str | None = None
    order: str | None = None
    log_likelihood: float | None = None
    probability: float | None = None
    erased: float | None = None
    simulated: str | None = None
    simulated_without: str | None = None
    leaks: bool | None = None
    overlap: float | None = None


RationaleRecord = RationaleRow | SpansRow | ConceptsRow | GeneratedRow


class Rationale(Rows[RationaleRow]):
    """The rationales of N predictions, one row each.

    Attributes:
        rows: A row a prediction, in their order.
    """


class SpanExplanation(Rows[SpansRow]):
    """The spans of N predictions, one row each.

    Attributes:
        rows: A row a prediction, in their order.
    """


class Concepts(Rows[ConceptsRow]):
    """The concepts of N predictions, one row each.

    Attributes:
        rows: A row a prediction, in their order.
    """


class GeneratedRationale(Rows[GeneratedRow]):
    """The explanations that a model wrote for N predictions, one row each.

    Attributes:
        rows: A row a prediction, in their order.
    """


def _drop(full: float | None, other: float | None) -> float | None:
    return None if full is None or other is None else full - other
