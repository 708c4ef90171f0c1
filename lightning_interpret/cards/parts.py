"""Parts of a card of a self-explanation: a marked text, bars under a heading, a quotation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from lightning_interpret.rationales import RationaleRow
from lightning_interpret.texts import direction, segment_name, shortened, shown_segments

_WORD = 80  # characters of a word
_WORDS, _AROUND, _ELIDED = 240, 6, 6  # words shown of a long text, kept around what is marked, and left out at least


@dataclass(frozen=True)
class Bar:
    """A number with a name.

    Attributes:
        name: What it is of, shortened.
        number: The number as a text.
        strength: Its size as a share of the largest, in [-1, 1].
        beside: What else is known of it, by its name in a heading.
    """

    name: str
    number: str
    strength: float = 0.0
    beside: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, name: str, number: str, share: float | None, **beside: str | None) -> Bar:
        """Return the bar of a share of the largest; what is not known beside it is left out."""
        size = 0.0 if share is None or not math.isfinite(share) else max(-1.0, min(1.0, share))
        known = ((key.replace("_", " "), value) for key, value in beside.items() if value is not None)
        return cls(shortened(name, _WORD) if name.strip() else "␣", number, size, tuple(known))


@dataclass(frozen=True)
class Bars:
    """Numbers under one heading, the foremost first.

    Attributes:
        title: What they are.
        meaning: What that means.
        what: What a bar is of.
        column: What its number is.
        bars: One a line.
        none: What is said where there is none.
        rest: What is said of those that are left out.
    """

    title: str
    meaning: str
    what: str
    column: str
    bars: tuple[Bar, ...]
    none: str = "None."
    rest: str = ""

    @property
    def beside(self) -> tuple[str, ...]:
        """What else is known of one of the bars or more: headings of columns."""
        return tuple(dict.fromkeys(name for bar in self.bars for name, _ in bar.beside))


@dataclass(frozen=True)
class Quote:
    """A text that somebody wrote, under the name of what it is."""

    name: str
    text: str


@dataclass(frozen=True)
class Mark:
    """A word of a passage, or what stands for words that are left out.

    Attributes:
        text: The word, shortened.
        selected: Whether the model selected it.
        gold: Whether people did.
        probability: The gate's, that it is.
        space: Whether there is a gap before it.
        word: Whether it is one.
    """

    text: str
    selected: bool = False
    gold: bool = False
    probability: float | None = None
    space: bool = True
    word: bool = True


@dataclass(frozen=True)
class Passage:
    """A text as the model read it, with what it selected of it; of a long one the words around what is marked.

    Attributes:
        marks: Its words in reading order, special tokens left out.
        right_to_left: Whether it is read from the right.
        agreement: Words that people selected, those of them that the model did, and all that the model did; ``None``
            where nobody was asked.
    """

    marks: tuple[Mark, ...]
    right_to_left: bool
    agreement: tuple[int, int, int] | None = None

    @classmethod
    def of(cls, row: RationaleRow) -> Passage | None:
        """Return the text of a record; ``None`` where it has no tokens, or knows nothing of them."""
        words = list(_words(row)) if row.selected else []
        if not words:
            return None
        gold, selected = ([getattr(mark, which) for mark in words] for which in ("gold", "selected"))
        both = sum(a and b for a, b in zip(gold, selected, strict=True))
        counts = None if row.gold_rationale is None else (sum(gold), both, sum(selected))
        return cls(tuple(_windowed(words)), direction(mark.text for mark in words) == "rtl", counts)

    def __str__(self) -> str:
        """The text with brackets around what was selected."""
        pieces = [(mark.space, f"[{text}]" if mark.selected else text) for mark, text in self._stretches("selected")]
        return "".join(" " * (space and i > 0) + text for i, (space, text) in enumerate(pieces))

    def _stretches(self, *by: str) -> Iterator[tuple[Mark, str]]:
        for _, of in groupby(self.marks, key=lambda mark: (mark.word, *(getattr(mark, name) for name in by))):
            marks = list(of)
            yield marks[0], _joined(marks)

    def runs(self) -> list[tuple[Mark, str]]:
        """Return the stretches of words that are marked alike, each with its first word."""
        return list(self._stretches("selected", "gold"))

    def marked(self, which: str) -> list[str]:
        """Return the stretches of words that are ``selected``, or ``gold``."""
        return [text for mark, text in self._stretches(which) if getattr(mark, which)]


def _joined(marks: Sequence[Mark]) -> str:
    return marks[0].text + "".join(" " * mark.space + mark.text for mark in marks[1:])


def _words(row: RationaleRow) -> Iterator[Mark]:
    """Yield the words of a record; each of a pair of texts has its name before it."""

    def word_of(i: int) -> Any:
        return None if _at(row.special, i) else _at(row.word_ids, i) if row.word_ids else i

    segment = None
    parts = shown_segments(row.segment, row.special, len(row.tokens))
    for number, (word, places) in enumerate(groupby(range(len(row.tokens)), key=word_of)):
        if word is None:
            continue
        tokens = list(places)
        before, segment = segment, parts[tokens[0]]
        if segment != before and len(set(parts)) > 1:
            yield Mark(f"{segment_name(None, segment)}:", word=False)
        chances = [chance for i in tokens if (chance := _at(row.probabilities, i)) is not None]
        yield Mark(
            text=_shown((_at(row.words, word) if row.word_ids else None) or row.tokens[tokens[0]]),
            selected=any(_at(row.selected, i) for i in tokens),
            gold=any(_at(row.gold_rationale, i) for i in tokens),
            probability=max(chances, default=None),
            space=number == 0 or _gap(row, tokens[0]),
        )


def _shown(text: str) -> str:
    return shortened(text, _WORD) if text.strip() else "␣"


def _gap(row: RationaleRow, i: int) -> bool:
    """Whether the text has a gap before a token, as far as the record knows."""
    here, before = _at(row.offsets, i), _at(row.offsets, i - 1)
    if here is None or before is None or _at(row.special, i - 1):
        return True
    return here[0] > before[1] or (row.text is not None and row.text[here[0] : here[0] + 1].isspace())


def _windowed(words: Sequence[Mark]) -> Iterator[Mark]:
    """Yield the words, of a long text those around what is marked, each gap with how many are left out there."""
    kept = set(range(len(words)))
    if len(words) > _WORDS:
        marked = [i for i, mark in enumerate(words) if mark.selected or mark.gold] or [0]
        near = {i + by for i in marked for by in range(-_AROUND, _AROUND + 1)}
        kept = {i for i in near | set(range(2 * _AROUND)) if 0 <= i < len(words)}
        for is_kept, gap in groupby(range(len(words)), key=kept.__contains__):
            few = list(gap)
            kept |= set() if is_kept or len(few) >= _ELIDED else set(few)
        kept = set(sorted(kept)[:_WORDS])
    for is_kept, places in groupby(range(len(words)), key=kept.__contains__):
        some = list(places)
        if is_kept:
            yield from (words[i] for i in some)
        else:
            hidden = sum(words[i].selected for i in some)
            said = f", {hidden} of them selected" if hidden else ""
            yield Mark(f"… {len(some)} words left out{said} …", word=False)


def _at(values: Any, i: int) -> Any:
    """Return an entry of a field that may be missing, or shorter than the tokens: a record may come from anywhere."""
    return values[i] if values is not None and 0 <= i < len(values) else None
