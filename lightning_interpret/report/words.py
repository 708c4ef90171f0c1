"""What every report shows of a row: words with printable text, and the strength of their colour."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby

from lightning_interpret.explanations import AttributionRow, Word
from lightning_interpret.texts import printable, segment_name


@dataclass(frozen=True)
class Shade:
    """A word as it is drawn.

    Attributes:
        text: Printable text, never empty.
        score: The signed score.
        strength: The score divided by :func:`scale`, in [-1, 1]; 0 where the score is not finite.
        special: Whether it is a special token.
        segment: Number of the part of the text that it is of.
    """

    text: str
    score: float
    strength: float
    special: bool
    segment: int = 0

    def matters(self, threshold: float) -> bool:
        """Return whether the score is worth its number: at least ``threshold`` of the scale, or not finite."""
        return abs(self.strength) >= threshold or not math.isfinite(self.score)


def shades(row: AttributionRow) -> list[Shade]:
    """Return the merged words of a row in reading order."""
    words = row.merged()
    whole = scale(words) or 1.0
    return [
        Shade(
            text=printable(word.text) if word.text.strip() else "␣",
            score=word.score,
            strength=max(-1.0, min(1.0, word.score / whole)) if math.isfinite(word.score) else 0.0,
            special=word.special,
            segment=word.segment,
        )
        for word in words
    ]


def sections(row: AttributionRow, words: list[Shade]) -> list[tuple[str, list[Shade]]]:
    """Return the words of each part of the text under its name, which is empty where the text has one part only."""
    runs = [(number, list(run)) for number, run in groupby(words, key=lambda word: word.segment)]
    named = len({number for number, _ in runs}) > 1
    return [(printable(segment_name(row.segment_names, number)) if named else "", run) for number, run in runs]


def scale(words: list[Word]) -> float:
    """Return the largest finite absolute score of the words, or of the special tokens where the words' are all 0.

    Special tokens are left out because a large score on ``[SEP]`` would pale every word of the text.
    """

    def largest(special: bool) -> float:
        return max((abs(w.score) for w in words if w.special == special and math.isfinite(w.score)), default=0.0)

    return largest(special=False) or largest(special=True)


def not_given(row: AttributionRow) -> list[str]:
    """Return what the reader should know beside the numbers: why fields are missing, and the notes."""
    return [f"{name} is not given: {why}" for name, why in row.reasons.items()] + list(row.notes)
