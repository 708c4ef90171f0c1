"""Parts of a card of several targets: a text in the colours of its scores, and targets by what they are read from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from lightning_interpret.texts import signed


@dataclass(frozen=True)
class Outline:
    """What a stretch of a text is: an entity, an answer.

    Attributes:
        name: What it is called.
        wrong: Whether it is known to be wrong.
    """

    name: str
    wrong: bool = False


@dataclass(frozen=True)
class Piece:
    """A word of a coloured text, or what stands for words that are left out.

    Attributes:
        text: The word, shortened.
        score: Its signed score; ``None`` where it has none.
        strength: The score as a share of the largest, in [-1, 1].
        space: Whether there is a gap before it.
        special: Whether it is a special token, or stands for words.
        outline: Number of the outline that it lies in.
    """

    text: str
    score: float | None = None
    strength: float = 0.0
    space: bool = True
    special: bool = False
    outline: int | None = None


@dataclass(frozen=True)
class Section:
    """A part of a text under its name, which is empty where the text has one part only."""

    name: str
    pieces: tuple[Piece, ...]

    def runs(self) -> list[tuple[int | None, list[Piece]]]:
        """Return the stretches of words that lie in the same outline, or in none."""
        return [(number, list(run)) for number, run in groupby(self.pieces, key=lambda piece: piece.outline)]


@dataclass(frozen=True)
class Coloured:
    """A text in the colours of its scores.

    Attributes:
        title: What the scores explain.
        number: Its value as a text.
        facts: What else is known of it.
        sections: The parts of the text.
        outlines: What stretches of it are.
        largest: The score of the strongest colour; 0 where the text has no colours.
        right_to_left: Whether it is read from the right.
        wrong: Whether what is explained is known to be wrong.
    """

    title: str
    number: str
    facts: tuple[str, ...]
    sections: tuple[Section, ...]
    outlines: tuple[Outline, ...]
    largest: float
    right_to_left: bool
    wrong: bool = False

    @property
    def heading(self) -> str:
        """The title with its value."""
        return f"{self.title} = {self.number}" if self.number else self.title

    @property
    def strongest(self) -> list[Piece]:
        """The words by the size of their scores, those without a number first: a fault to notice."""
        scored = [
            piece
            for section in self.sections
            for piece in section.pieces
            if piece.score is not None and not piece.special
        ]
        known = [piece for piece in scored if piece.score]
        return sorted(known, key=lambda piece: (math.isfinite(piece.score or 0.0), -abs(piece.score or 0.0)))

    def lines(self) -> Iterator[str]:
        """Yield the text with brackets around what is outlined, then the strongest words with their scores."""
        for section in self.sections:
            found: list[str] = []
            for number, run in section.runs():
                text = joined(run)
                if number is not None:
                    text = f"[{text}]({self.outlines[number].name})"
                found.append(" " * (run[0].space and bool(found)) + text)
            yield f"  {section.name}: {''.join(found)}" if section.name else f"  {''.join(found)}"
        strong = "  ".join(f"{piece.text} {number_of(piece.score)}" for piece in self.strongest[:10])
        yield from [f"  strongest: {strong}"] if strong else []


@dataclass(frozen=True)
class Column:
    """A word that targets are read from.

    Attributes:
        text: The word, shortened.
        segment: Which part of the text it is of.
        special: Whether it is a special token, or stands for words that are left out.
    """

    text: str
    segment: int
    special: bool


@dataclass(frozen=True)
class Cell:
    """A score with its share of the largest one."""

    score: float
    strength: float


@dataclass(frozen=True)
class Aim:
    """A target as a row.

    Attributes:
        name: What it is.
        cells: One a column; ``None`` for what is not read.
        sums: Of the scores of each part of the text.
        value: F(x) as a text.
        error: The error as a text.
        failed: Whether the error is above its tolerance.
        wrong: Whether the prediction is known to be wrong.
        gold: What is right, where that is not the prediction.
    """

    name: str
    cells: tuple[Cell | None, ...]
    sums: tuple[str, ...]
    value: str
    error: str
    failed: bool
    wrong: bool
    gold: str | None

    @property
    def label(self) -> str:
        """The name with what is right where that is another."""
        return self.name if self.gold is None else f"{self.name} (gold {self.gold})"


@dataclass(frozen=True)
class Cross:
    """Targets, a row each, by the words that they are read from, a column each.

    Attributes:
        meaning: What a number is.
        columns: The words, those left out marked.
        aims: The targets, in the order of the text.
        parts: Name of each part of the text; one where it has no parts.
        largest: The score of the strongest colour.
        rest: What is said of targets that are left out.
        right_to_left: Whether the text is read from the right.
    """

    meaning: str
    columns: tuple[Column, ...]
    aims: tuple[Aim, ...]
    parts: tuple[str, ...]
    largest: float
    rest: str
    right_to_left: bool

    def spans(self) -> list[tuple[str, int]]:
        """Return the parts that stand side by side over the columns, each with its number of columns."""
        runs = groupby(column.segment for column in self.columns)
        return [(self.part(segment), len(list(run))) for segment, run in runs]

    def part(self, segment: int) -> str:
        """Return the name of a part."""
        return self.parts[segment] if 0 <= segment < len(self.parts) else ""

    def lines(self) -> Iterator[str]:
        """Yield each target with its value, the sums of the parts and its strongest words."""
        wide = max((len(aim.value) for aim in self.aims), default=0)
        for aim in self.aims:
            pairs = zip(self.columns, aim.cells, strict=True)
            known = [(column.text, cell) for column, cell in pairs if cell and cell.score and not column.special]
            known.sort(key=lambda pair: (math.isfinite(pair[1].score), -abs(pair[1].score)))
            strong = "  ".join(f"{text} {number_of(cell.score)}" for text, cell in known[:5])
            sums = ", ".join(f"{name} {total}" for name, total in zip(self.parts, aim.sums, strict=False))
            failed = ", NOT converged" if aim.failed else ""
            said = [sums if len(self.parts) > 1 else "", f"error {aim.error}{failed}", strong]
            yield f"  {aim.value:>{wide}}  {aim.label} | " + " | ".join(filter(None, said))
        yield from [f"  {self.rest}"] if self.rest else []


def joined(pieces: list[Piece]) -> str:
    """Return words as they are read."""
    return pieces[0].text + "".join(" " * piece.space + piece.text for piece in pieces[1:])


def number_of(score: float | None) -> str:
    """Return a score with its sign; a dash where it is no number."""
    return signed(score) if score is not None and math.isfinite(score) else "–"
