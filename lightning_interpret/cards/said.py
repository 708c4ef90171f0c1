"""Sentences of cards: our words and logged texts in turn, so that a page can keep them apart."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_interpret.records import Row
from lightning_interpret.texts import shortened

_LABEL = 40  # characters of a label in a sentence


def turns(words: str, texts: Sequence[str]) -> tuple[str, ...]:
    """Return the words with the texts that stand at each pair of braces, in turn; no text is read as words."""
    pieces = words.split("{}")
    return (*(piece for pair in zip(pieces, texts, strict=False) for piece in pair), pieces[-1])


def subject(row: Row) -> tuple[str, list[str]]:
    """Return how a sentence about a prediction starts, and the texts in that."""
    if row.prediction is None:
        return "Made", []
    if row.wrong:
        return "Wrongly said {} (gold {})", [shortened(row.prediction, _LABEL), shortened(str(row.gold), _LABEL)]
    return "Said {}", [shortened(row.prediction, _LABEL)]
