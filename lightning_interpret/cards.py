"""What a record of evidence says, in words: the card of one query, which every report draws in its own way.

Texts are as they were, shortened and not yet escaped: who draws a card makes them literal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lightning_interpret.evidence import Approximation, EvidenceRow, InfluenceRow, NeighborsRow, TrainingExample
from lightning_interpret.texts import printable, shortened, signed

QUERY, EXAMPLE, NAME = 600, 240, 80  # characters that are shown of a query, a training example, a label
_LABELS = 10  # of a distribution, the largest; the others are summed up
_LEAST = 0.005  # share from which a label is shown
_TOKENS = 200


@dataclass(frozen=True)
class Line:
    """A training example as a line of a table.

    Attributes:
        example_id: Its id.
        number: Its score or distance.
        strength: The score divided by the largest of the card, in [-1, 1]; 0 for what has no sign.
        gold: Its label, if it has one.
        prediction: What the model says of it, where that is known and not the label.
        text: Its text, shortened.
        loss: The model's loss on it.
        disagreement: Share of its own neighbours with another label.
    """

    example_id: int
    number: str
    strength: float
    gold: str | None
    prediction: str | None
    text: str | None
    loss: str | None
    disagreement: str | None

    @property
    def label(self) -> str:
        """The label, marked where the model says otherwise."""
        gold = "–" if self.gold is None else self.gold
        return gold if self.prediction is None else f"{gold} (model: {self.prediction})"

    @property
    def said(self) -> str:
        """The baselines in brackets, or nothing."""
        known = [("loss", self.loss), ("kNN disagree", self.disagreement)]
        said = ", ".join(f"{name} {value}" for name, value in known if value is not None)
        return f"  ({said})" if said else ""


@dataclass(frozen=True)
class Table:
    """Training examples under one heading.

    Attributes:
        title: What they are.
        meaning: What that means.
        column: What their number is.
        lines: One line an example.
    """

    title: str
    meaning: str
    column: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Label:
    """What is said of a label: its share among the neighbours, p_kNN and the model's probability, where known."""

    name: str
    share: float | None
    neighbors: float | None
    model: float | None


@dataclass(frozen=True)
class Card:
    """All that a reader is shown of one query.

    Attributes:
        origin: What kind of evidence this is, by which method.
        title: What was predicted, and what is right.
        wrong: Whether the prediction is known to be wrong.
        facts: Names and values.
        text: The query's text, shortened, or what it is instead.
        tables: The training examples.
        labels: Labels of the neighbours.
        tokens: Tokens of the query with the drop of conformity when each is left out.
        stated: What the numbers are, and how they were come by.
        notes: What else to know.
    """

    origin: str
    title: str
    wrong: bool
    facts: tuple[tuple[str, str], ...]
    text: str
    tables: tuple[Table, ...]
    labels: tuple[Label, ...]
    tokens: tuple[tuple[str, float], ...]
    stated: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def strength(self) -> float:
        """The largest size of a token's score."""
        return max((abs(score) for _, score in self.tokens if math.isfinite(score)), default=0.0)

    def __str__(self) -> str:
        return "\n".join(map(printable, self._lines()))

    def _lines(self) -> Iterator[str]:
        yield " | ".join([self.title, *(f"{name} {value}" for name, value in self.facts)])
        yield f"query: {self.text}"
        for table in self.tables:
            yield f"{table.title} ({table.meaning}):" + ("" if table.lines else " none")
            wide = max((len(line.number) for line in table.lines), default=0)
            for line in table.lines:
                yield (
                    f"  {line.number:>{wide}}  #{line.example_id} [{line.label}] {line.text or ''}".rstrip() + line.said
                )
        if self.labels:
            yield "labels of the neighbours: " + ", ".join(f"{each.name} {percent(each.share)}" for each in self.labels)
        if self.tokens:
            yield "drop of conformity: " + "  ".join(f"{token} {signed(score)}" for token, score in self.tokens)
        yield from (*self.stated, *(f"- {note}" for note in self.notes))


def card_of(row: EvidenceRow) -> Card:
    """Return the card of a record of evidence."""
    facts, stated = list(_facts(row)), list[str]()
    tables, notes = list[Table](), list[str]()
    near = row.neighbors if isinstance(row, InfluenceRow) else row
    if isinstance(row, InfluenceRow):
        tables += _influence(row)
        stated += [_sign(row.approximation), _approximated(row)]
        notes += row.approximation.notes
    notes += row.notes
    reasons = dict(row.reasons)
    if near is not None:
        facts += _neighbor_facts(near)
        tables.append(_nearest(near))
        stated.append(_searched(near))
        notes += () if near is row else near.notes
        reasons = {**near.reasons, **reasons}
    notes += [f"{name} is not given: {why}" for name, why in reasons.items()]
    stated += _baselines([line for table in tables for line in table.lines])
    return Card(
        origin=_origin(row),
        title=_title(row),
        wrong=row.wrong,
        facts=tuple((name, shortened(value, NAME)) for name, value in facts),
        text=shortened(row.text, QUERY) if row.text else _instead(row),
        tables=tuple(tables),
        labels=() if near is None else _labels(near),
        tokens=() if near is None else tuple(_tokens(near)),
        stated=tuple(stated),
        notes=tuple(shortened(note, QUERY) for note in notes),
    )


def percent(share: float | None) -> str:
    """Return a share as per cent, a dash where there is none."""
    return "–" if share is None or not math.isfinite(share) else f"{share:.0%}"


def _origin(row: EvidenceRow) -> str:
    if isinstance(row, InfluenceRow):
        return f"influence · {shortened(row.approximation.method, NAME)}"
    return "neighbours" if row.layer is None else f"neighbours · {shortened(row.layer, NAME)}"


def _title(row: EvidenceRow) -> str:
    queries = getattr(row, "queries", 1)
    if queries > 1:
        return f"Sum over {queries:,} queries"
    if row.prediction is None:
        return "Nothing predicted" if row.gold is None else f"Gold {shortened(row.gold, NAME)}"
    said = shortened(row.prediction, NAME)
    if row.gold is None:
        return f"Predicted {said}"
    return f"Wrong: predicted {said}, gold {shortened(row.gold, NAME)}" if row.wrong else f"Right: predicted {said}"


def _instead(row: EvidenceRow) -> str:
    if getattr(row, "queries", 1) > 1:
        return "no single query: the measures of all were summed"
    return "a query without a text" if row.example_id is None else f"example {row.example_id}, which has no text"


def _facts(row: EvidenceRow) -> Iterator[tuple[str, str]]:
    if row.confidence is not None:
        yield "confidence", percent(row.confidence)
    if row.loss is not None:
        yield "loss", f"{row.loss:.3g}"
    if row.example_id is not None:
        yield "example", str(row.example_id)
    if row.why:
        yield "picked as", row.why


def _neighbor_facts(row: NeighborsRow) -> Iterator[tuple[str, str]]:
    said = row.probabilities or row.shares
    if said:
        best = max(said, key=lambda name: said[name] or 0.0)
        yield "neighbours say", f"{best} ({percent(said[best])})"
    if row.mixture is not None:
        asked = {True: " (unsure: the neighbours were asked)", False: " (sure: as the model)", None: ""}
        yield "mixture says", row.mixture + asked[row.backed_off]
    if row.conformity is not None:
        yield "conformity", percent(row.conformity)
    if row.credibility is not None:
        yield "credibility", percent(row.credibility)


def _influence(row: InfluenceRow) -> Iterator[Table]:
    scores = [each.score or 0.0 for each in (*row.helpful, *row.harmful)]
    scale = max((abs(score) for score in scores if math.isfinite(score)), default=0.0) or 1.0
    measure = row.approximation.measure
    for title, meaning, found in (
        (("Alike", "most like the query in the model's features", row.helpful),)
        if measure is None
        else (
            ("Helpful", f"removing one of these would raise the {measure}", row.helpful),
            ("Harmful", f"removing one of these would lower the {measure}", row.harmful),
        )
    ):
        lines = [_line(e, "–" if e.score is None else signed(e.score), (e.score or 0.0) / scale) for e in found]
        yield Table(title, meaning, "score", tuple(lines))


def _nearest(row: NeighborsRow) -> Table:
    lines = [_line(e, "–" if e.distance is None else f"{e.distance:.3g}", 0.0) for e in row.neighbors]
    return Table("Nearest", "closest in the model's features, the nearest first", "distance", tuple(lines))


def _line(example: TrainingExample, number: str, strength: float) -> Line:
    differs = example.gold is not None and example.prediction not in (None, example.gold)
    return Line(
        example_id=example.example_id,
        number=number,
        strength=max(-1.0, min(1.0, strength)) if math.isfinite(strength) else 0.0,
        gold=None if example.gold is None else shortened(example.gold, NAME),
        prediction=shortened(str(example.prediction), NAME) if differs else None,
        text=shortened(example.text, EXAMPLE) if example.text else None,
        loss=None if example.loss is None else f"{example.loss:.2g}",
        disagreement=None if example.disagreement is None else percent(example.disagreement),
    )


def _labels(row: NeighborsRow) -> tuple[Label, ...]:
    kinds = (row.shares, row.probabilities or {}, row.model_probabilities or {})
    names = list(dict.fromkeys(name for kind in kinds for name in kind))
    ranked = sorted(names, key=lambda name: [-(kind.get(name) or 0.0) for kind in kinds])
    seen = [name for name in ranked if any((kind.get(name) or 0.0) >= _LEAST for kind in kinds)][:_LABELS]
    rest = [name for name in ranked if name not in seen]

    def label(name: str, of: Sequence[str]) -> Label:
        sums = (sum(kind.get(each) or 0.0 for each in of) if kind else None for kind in kinds)
        return Label(shortened(name, NAME), *sums)

    shown = [label(name, [name]) for name in seen]
    return (*shown, label(f"{len(rest)} more", rest)) if rest else tuple(shown)


def _baselines(lines: Sequence[Line]) -> Iterator[str]:
    known = ["the model's loss on it"] if any(line.loss is not None for line in lines) else []
    if any(line.disagreement is not None for line in lines):
        known.append("the share of its own nearest neighbours that have another label (kNN disagree)")
    if known:
        yield f"Beside each training example, as a baseline of its score: {' and '.join(known)}."


def _tokens(row: NeighborsRow) -> Iterator[tuple[str, float]]:
    for token, score in zip((row.tokens or ())[:_TOKENS], row.scores or (), strict=False):
        yield shortened(token, NAME) if token.strip() else "␣", math.nan if score is None else score


def _sign(stated: Approximation) -> str:
    if stated.measure is None:
        return f"Score: {stated.unit}. It is a similarity, and says nothing of a removal."
    measured = "query's loss" if stated.measure == "loss" else stated.measure
    return (
        f"Score: {stated.unit}. Positive is helpful: removing the example would raise the {measured}. "
        "Negative is harmful: removing it would lower it."
    )


def _approximated(row: InfluenceRow) -> str:
    return "Approximation: " + "; ".join(_how(row.approximation, row.examples, row.skipped)) + "."


def _how(stated: Approximation, examples: int, skipped: int) -> Iterator[str]:
    curvature = "no curvature" if stated.curvature is None else f"curvature {stated.curvature}"
    measured = "" if stated.examples is None else f" of {stated.examples:,} examples"
    yield f"{stated.method}, {curvature}{measured}"
    if stated.samples is not None:
        yield f"{stated.samples} labels drawn for each" + ("" if stated.seed is None else f" (seed {stated.seed})")
    elif stated.seed is not None:
        yield f"seed {stated.seed}"
    if stated.damping is not None:
        yield f"damping {stated.damping:.3g}"
    if stated.weight_decay is not None:
        yield f"weight decay {stated.weight_decay:.3g}"
    if stated.coverage is not None:
        yield f"{100 * stated.coverage:.3g}% of the trainable parameters" + _layers(stated.layers)
    if stated.converged is not None:
        residual = "" if stated.residual is None else f" (residual {stated.residual:.1g})"
        yield ("solver converged" if stated.converged else "solver NOT CONVERGED") + residual
    yield f"{examples:,} training examples scored"
    if skipped:
        yield f"{skipped:,} skipped, as their {'features' if stated.measure is None else 'gradients'} were not finite"


def _layers(names: Sequence[str]) -> str:
    if not names:
        return ""
    return f" (layer {shortened(names[0], NAME)})" if len(names) == 1 else f" ({len(names)} layers)"


def _searched(row: NeighborsRow) -> str:
    parts = [f"Neighbours: {row.metric} distance"]
    parts += [] if row.layer is None else [f"in the features of {shortened(row.layer, NAME)}"]
    parts += [] if row.examples is None else [f"among {row.examples:,} training examples"]
    parts += [] if row.k is None else [f"k {row.k}"]
    parts += [] if row.temperature is None else [f"temperature {row.temperature:.3g}"]
    said = ", ".join(parts) + "."
    said += "" if row.conformity is None else " Conformity: share of neighbours with the predicted label."
    said += (
        "" if row.credibility is None else " Credibility: share of calibration examples that conform no more than this."
    )
    return said
