"""Generated restaurant reviews that carry the truth every family of explanation is judged by."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from operator import index as as_index
from random import Random
from typing import Any

import torch
from torch.utils.data import Dataset

from lightning_interpret.data.grammar import Draft, Opinion, chance, compose, pick, stream
from lightning_interpret.data.lexicon import VOCABULARY, polarity
from lightning_interpret.names import choose

LABELS = ("negative", "positive")


@dataclass(frozen=True)
class Phrase:
    """A span of words that says something good or bad.

    Attributes:
        start: Index of its first word.
        end: Index after its last word.
        polarity: Signed strength, with every negator and intensifier in the span applied.
        aspect: What it speaks of.
    """

    start: int
    end: int
    polarity: float
    aspect: str


@dataclass(frozen=True)
class Review:
    """One review and its ground truth.

    Attributes:
        example_id: Its index in the corpus.
        text: The words joined by single spaces.
        words: Lower-case words; punctuation marks are words of their own.
        label: The label a model is given; another than ``true_label`` if the row is flipped.
        true_label: The sign of the summed polarity of the outermost phrases.
        rationale: Indices of the words that decide the true label: the adjectives of the phrases that speak for it and
            the negators and intensifiers that act on them.
        aspects: The sign of what is said of each aspect that is mentioned.
        phrases: Every phrase, outer before inner: "not very good", then "very good", then "good".
        flipped: Whether the label given is wrong.
        duplicate_of: Index of the row that this one copies but for one neutral word.
        shortcut: Index of the planted word.
        explanation: The reason for the true label, as a person could have given it.
    """

    example_id: int
    text: str
    words: tuple[str, ...]
    label: str
    true_label: str
    rationale: tuple[int, ...]
    aspects: Mapping[str, int]
    phrases: tuple[Phrase, ...]
    flipped: bool
    duplicate_of: int | None
    shortcut: int | None
    explanation: str

    def to_dict(self) -> dict[str, Any]:
        """Return the review as JSON would hold it."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


class ReviewCorpus(Dataset[Review]):
    """A corpus of generated reviews; a row is written when it is asked for, from the seed and its index alone.

    A corpus of any size costs nothing before it is read, row ``i`` is the same whatever the size, and each rate changes
    only what it names: with another ``flipped`` the texts stay as they were.

    Args:
        size: Number of rows.
        seed: Another seed gives other reviews.
        flipped: Share of rows whose label is wrong.
        duplicates: Share of rows that copy an earlier one but for one neutral word. Flips and shortcuts are drawn for a
            copy anew.
        shortcut: Share of the rows labelled ``shortcut_label`` (as given, flipped or not) in which ``shortcut_word`` is
            planted.
        shortcut_word: One lower-case word that no review has otherwise.
        shortcut_label: "negative" or "positive".
    """

    def __init__(
        self,
        size: int = 4000,
        *,
        seed: int = 0,
        flipped: float = 0.0,
        duplicates: float = 0.0,
        shortcut: float = 0.0,
        shortcut_word: str = "tuesday",
        shortcut_label: str = "positive",
    ) -> None:
        if size < 1:
            raise ValueError(f"`size={size!r}`: a corpus has at least one row.")
        for name, rate in (("flipped", flipped), ("duplicates", duplicates), ("shortcut", shortcut)):
            if not 0 <= rate <= 1:
                raise ValueError(f"`{name}={rate!r}` is a share of rows: give a number from 0 to 1.")
        if shortcut_word.split() != [shortcut_word] or shortcut_word != shortcut_word.lower():
            raise ValueError(f"`shortcut_word={shortcut_word!r}`: give one word in lower case, without white space.")
        if shortcut_word in VOCABULARY:
            raise ValueError(f"`shortcut_word={shortcut_word!r}` occurs in reviews anyway: give a word that does not.")
        self.size = size
        self.seed = seed
        self.flipped = flipped
        self.duplicates = duplicates
        self.shortcut = shortcut
        self.shortcut_word = shortcut_word
        self.shortcut_label = choose("shortcut_label", shortcut_label, LABELS)

    @property
    def example_ids(self) -> torch.Tensor:
        """The id of each review, ``(n,)``: its index."""
        return torch.arange(self.size)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Review:
        row = as_index(index)
        if not -self.size <= row < self.size:
            raise IndexError(f"row {row} of a corpus of {self.size} rows")
        row %= self.size
        source = self._source(row)
        draft = compose(self._random("text", source))
        if source != row:
            draft.change_neutral_word(self._random("change", row))

        truth = draft.score > 0
        flipped = chance(self._random("flip", row), self.flipped)
        label = LABELS[truth != flipped]
        rng = self._random("shortcut", row)
        planted = label == self.shortcut_label and chance(rng, self.shortcut)
        position = draft.plant(rng, self.shortcut_word) if planted else None
        return Review(
            example_id=row,
            text=" ".join(draft.words),
            words=tuple(draft.words),
            label=label,
            flipped=flipped,
            duplicate_of=source if source != row else None,
            shortcut=position,
            **_truth(draft),
        )

    def _random(self, purpose: str, row: int) -> Random:
        return stream(self.seed, purpose, row)

    def _source(self, row: int) -> int:
        """Return the row that ``row`` copies, or ``row`` itself; a copy of a copy counts as a copy of the original."""
        while row > 0:
            rng = self._random("duplicate", row)
            if not chance(rng, self.duplicates):
                break
            row = pick(rng, range(row))
        return row


def _truth(draft: Draft) -> dict[str, Any]:
    """Return the fields of a review that follow from what is said in it."""
    label = LABELS[draft.score > 0]
    decisive = [opinion for opinion in draft.opinions if draft.polarity(opinion) * draft.score > 0]
    reasons = [f"the {opinion.aspect} was {' '.join(draft.said(opinion))}" for opinion in decisive]
    return {
        "true_label": label,
        "rationale": tuple(position for opinion in decisive for position in opinion.positions),
        "aspects": {opinion.aspect: 1 if draft.polarity(opinion) > 0 else -1 for opinion in draft.opinions},
        "phrases": tuple(phrase for opinion in draft.opinions for phrase in _phrases(draft, opinion)),
        "explanation": f"The label is {label} because {_listed(reasons)}.",
    }


def _phrases(draft: Draft, opinion: Opinion) -> Iterator[Phrase]:
    """Yield the phrases of an opinion from the outermost to the adjective alone."""
    said = draft.said(opinion)
    end = opinion.positions[-1] + 1
    for k, start in enumerate(opinion.positions):
        yield Phrase(start, end, polarity(said[k:]), opinion.aspect)


def _listed(parts: list[str]) -> str:
    *front, last = parts
    return f"{', '.join(front)} and {last}" if front else last
