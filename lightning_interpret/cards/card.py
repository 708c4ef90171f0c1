"""The parts of a card: what a reader is shown of one query, whatever kind of record it is made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lightning_interpret.cards.coloured import Coloured, Cross
from lightning_interpret.cards.maps import Maps
from lightning_interpret.cards.parts import Bars, Passage, Quote
from lightning_interpret.cards.tree import Tree
from lightning_interpret.evidence import TrainingExample
from lightning_interpret.texts import printable, shortened, signed

QUERY, EXAMPLE, NAME = 600, 240, 80  # characters that are shown of a query, a training example, a label
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
        similarity: The kernel between it and the query.
    """

    example_id: int
    number: str
    strength: float
    gold: str | None
    prediction: str | None
    text: str | None
    loss: str | None
    disagreement: str | None
    similarity: str | None

    @classmethod
    def of(cls, example: TrainingExample, number: str, strength: float = 0.0) -> Line:
        """Return the line of a training example."""
        differs = example.gold is not None and example.prediction not in (None, example.gold)
        return cls(
            example_id=example.example_id,
            number=number,
            strength=max(-1.0, min(1.0, strength)) if math.isfinite(strength) else 0.0,
            gold=None if example.gold is None else shortened(example.gold, NAME),
            prediction=shortened(str(example.prediction), NAME) if differs else None,
            text=shortened(example.text, EXAMPLE) if example.text else None,
            loss=None if example.loss is None else f"{example.loss:.2g}",
            disagreement=None if example.disagreement is None else percent(example.disagreement),
            similarity=None if example.similarity is None else f"{example.similarity:.3g}",
        )

    @property
    def label(self) -> str:
        """The label, marked where the model says otherwise."""
        gold = "–" if self.gold is None else self.gold
        return gold if self.prediction is None else f"{gold} (model: {self.prediction})"

    @property
    def beside(self) -> dict[str, str]:
        """What else is known of it, by its name in a heading."""
        known = {"k": self.similarity, "loss": self.loss, "kNN disagree": self.disagreement}
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True)
class Table:
    """Training examples under one heading.

    Attributes:
        title: What they are.
        meaning: What that means.
        column: What their number is.
        lines: One line an example.
        none: What is said where there is no example.
        sign: 1 where their numbers are positive, -1 where they are negative, 0 where they have no sign.
    """

    title: str
    meaning: str
    column: str
    lines: tuple[Line, ...]
    none: str = "No example."
    sign: int = 0

    @property
    def beside(self) -> tuple[str, ...]:
        """What else is known of one of the lines or more: headings of columns."""
        return tuple(dict.fromkeys(name for line in self.lines for name in line.beside))


@dataclass(frozen=True)
class Label:
    """What is said of a label: its share among the neighbours, p_kNN and the model's probability, where known."""

    name: str
    share: float | None
    neighbors: float | None
    model: float | None


@dataclass(frozen=True)
class Strip:
    """Tokens of the query with a score each.

    Attributes:
        name: What the scores are.
        positive: What a positive one says, which is shown in blue.
        negative: What a negative one says, which is shown in orange; empty where none is.
        tokens: Printable texts with their scores.
    """

    name: str
    positive: str
    negative: str
    tokens: tuple[tuple[str, float], ...]

    @classmethod
    def of(
        cls, name: str, positive: str, negative: str, tokens: Iterable[str] | None, scores: Iterable[float] | None
    ) -> Strip | None:
        """Return the first tokens of a record; ``None`` where it has none."""
        found = [
            (shortened(token, NAME) if token.strip() else "␣", math.nan if score is None else score)
            for _, token, score in zip(range(_TOKENS), tokens or (), scores or (), strict=False)
        ]
        return cls(name, positive, negative, tuple(found)) if found else None

    def legend(self, blue: str, orange: str) -> str:
        """Return what the colours say, each by its name."""
        return f"{blue}{self.positive}" + (f"{orange}{self.negative}" if self.negative else "")

    @property
    def strength(self) -> float:
        """The largest size of a score."""
        return max((abs(score) for _, score in self.tokens if math.isfinite(score)), default=0.0)


@dataclass(frozen=True)
class Card:
    """All that a reader is shown of one query.

    A ``sentence`` and a ``total`` are our words and logged texts in turn, so that a page can keep them apart.

    Attributes:
        origin: What kind of evidence this is, by which method.
        title: What was predicted, and what is right.
        wrong: Whether the prediction is known to be wrong.
        facts: Names and values.
        text: The query's text, shortened, or what it is instead.
        tables: The training examples.
        labels: Labels of the neighbours.
        strip: Tokens of the query with their scores.
        stated: What the numbers are, and how they were come by.
        notes: What else to know.
        sentence: The explanation in a sentence, where its kind has one.
        total: What the scores sum to, where they sum to anything.
        passage: The query's text with what the model selected of it, in place of the text.
        quotes: What was written to explain it.
        bars: What the prediction was made from.
        tree: Spans of the query's text with their scores, level by level.
        maps: Grids of maps of attention, which only a picture shows.
        cross: Targets by the words that they are read from.
        texts: The text in the colours of its scores, once for each of several targets; in place of the text.
    """

    origin: str
    title: str
    wrong: bool
    facts: tuple[tuple[str, str], ...]
    text: str
    tables: tuple[Table, ...] = ()
    labels: tuple[Label, ...] = ()
    strip: Strip | None = None
    stated: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sentence: tuple[str, ...] = ()
    total: tuple[str, ...] = ()
    passage: Passage | None = None
    quotes: tuple[Quote, ...] = ()
    bars: tuple[Bars, ...] = ()
    tree: Tree | None = None
    maps: tuple[Maps, ...] = ()
    cross: Cross | None = None
    texts: tuple[Coloured, ...] = ()

    def __str__(self) -> str:
        return "\n".join(map(printable, self._lines()))

    def _lines(self) -> Iterator[str]:
        if self.sentence:
            yield "".join(self.sentence)
        yield " | ".join([self.title, *(f"{name} {value}" for name, value in self.facts)])
        if not self.texts:
            yield f"query: {self.text if self.passage is None else self.passage}"
        for text in self.texts:
            yield " | ".join([text.heading, *text.facts])
            yield from text.lines()
        if self.cross is not None:
            yield f"{self.cross.meaning}:"
            yield from self.cross.lines()
        yield from (f"{quote.name}: “{quote.text}”" for quote in self.quotes)
        if self.passage is not None and self.passage.agreement is not None:
            yield "gold rationale: " + (" · ".join(self.passage.marked("gold")) or "none")
        if self.tree is not None:
            yield f"spans ({self.tree.meaning}):"
            yield from self.tree.lines()
        yield from (line for bars in self.bars for line in _bars(bars))
        for table in self.tables:
            yield f"{table.title} ({table.meaning}):" + ("" if table.lines else " none")
            wide = max((len(line.number) for line in table.lines), default=0)
            for line in table.lines:
                said = f"  {line.number:>{wide}}  #{line.example_id} [{line.label}] {line.text or ''}".rstrip()
                beside = ", ".join(f"{name} {value}" for name, value in line.beside.items())
                yield f"{said}  ({beside})" if beside else said
        if self.total:
            yield "".join(self.total)
        if self.labels:
            yield "labels of the neighbours: " + ", ".join(f"{each.name} {percent(each.share)}" for each in self.labels)
        if self.strip is not None:
            yield f"{self.strip.name}: " + "  ".join(f"{token} {signed(score)}" for token, score in self.strip.tokens)
        yield from (*self.stated, *(f"- {note}" for note in self.notes))


def _bars(found: Bars) -> Iterator[str]:
    yield f"{found.title} ({found.meaning}):" + ("" if found.bars else " none")
    wide = max((len(bar.number) for bar in found.bars), default=0)
    for bar in found.bars:
        beside = ", ".join(f"{name} {value}" for name, value in bar.beside)
        yield f"  {bar.number:>{wide}}  {bar.name}" + (f"  ({beside})" if beside else "")
    if found.rest:
        yield f"  {found.rest}"


def percent(share: float | None) -> str:
    """Return a share as per cent, a dash where there is none."""
    return "–" if share is None or not math.isfinite(share) else f"{share:.0%}"


def score_lines(examples: Iterable[TrainingExample], scale: float) -> tuple[Line, ...]:
    """Return training examples with their scores, which ``scale`` is the largest of."""
    return tuple(
        Line.of(each, "–" if each.score is None else signed(each.score), (each.score or 0.0) / scale)
        for each in examples
    )


def scale_of(examples: Iterable[TrainingExample]) -> float:
    """Return the largest size of a score; 1 where every score is 0."""
    scores = [each.score or 0.0 for each in examples]
    return max((abs(score) for score in scores if math.isfinite(score)), default=0.0) or 1.0
