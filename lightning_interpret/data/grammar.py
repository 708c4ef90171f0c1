"""How words become a restaurant review, and the record of where in it something is said."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from typing import TypeVar

from lightning_interpret.data.lexicon import (
    ASPECTS,
    FILLERS,
    FRAMES,
    INTENSIFIERS,
    NEGATED_INTENSIFIERS,
    NEGATORS,
    polarity,
)

T = TypeVar("T")

_FILLERS_BY_CLAUSES = {1: (0, 1, 2), 2: (0, 1, 2), 3: (0, 1), 4: (0,)}  # keeps a review at about 6 to 35 words
_AGREEMENT = 0.8  # share of clauses that follow the mood of their review
_NEGATED = 0.25
_INTENSIFIED = 0.4
_JOINED = 0.6  # share of clauses that go on in the sentence before
_EXCLAIMED = 0.15
_DECIDED = 0.5  # least strength of a verdict: the label of a review that is closer is a matter of taste
_CLAUSE_ENDS = (".", "!", "and", "but")


def chance(rng: Random, share: float) -> bool:
    """Return True in ``share`` of the calls."""
    return rng.random() < share


def pick(rng: Random, options: Sequence[T]) -> T:
    """Return one of ``options``.

    Only ``Random.random`` is promised to give the same sequence in every Python version; ``choice`` is not.
    """
    return options[int(rng.random() * len(options))]


def shuffled(rng: Random, options: Sequence[T]) -> list[T]:
    """Return ``options`` in random order."""
    return sorted(options, key=lambda _: rng.random())


@dataclass(frozen=True)
class Opinion:
    """One aspect judged: the positions of the adjective and of the words that act on it.

    Attributes:
        aspect: What is judged.
        positions: Negator, intensifier and adjective in reading order; the adjective is last and always there.
    """

    aspect: str
    positions: tuple[int, ...]


@dataclass
class Draft:
    """A review while it is written.

    Attributes:
        words: The words so far.
        opinions: What is judged, in reading order.
        swaps: Neutral words by position, each with the words that could stand in its place.
    """

    words: list[str] = field(default_factory=list)
    opinions: list[Opinion] = field(default_factory=list)
    swaps: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def said(self, opinion: Opinion) -> list[str]:
        """Return the words of an opinion, without those that stand between them."""
        return [self.words[position] for position in opinion.positions]

    def polarity(self, opinion: Opinion) -> float:
        """Return the signed strength of an opinion."""
        return polarity(self.said(opinion))

    @property
    def score(self) -> float:
        """The sum of the opinions' polarities; its sign is the true label."""
        return sum(self.polarity(opinion) for opinion in self.opinions)

    def state(
        self,
        frame: str,
        rng: Random,
        nouns: tuple[str, ...],
        was: str,
        negators: Sequence[str],
        judged: Sequence[str],
    ) -> list[int]:
        """Add a clause that judges one of some nouns, and return the positions of negators and judgement."""
        slots = {"NOUN": [pick(rng, nouns)], "WAS": [was], "NEG": negators, "ADJ": judged}
        positions: list[int] = []
        for slot in frame.split():
            start = len(self.words)
            self.words += slots.get(slot, [slot])
            if slot == "NOUN":
                self.swaps[start] = nouns
            elif slot in ("NEG", "ADJ"):
                positions += range(start, len(self.words))
        return positions

    def fill(self, opening: str, slot: tuple[str, ...], rng: Random) -> None:
        """Add a sentence that says nothing good or bad."""
        self.words += opening.split()
        self.swaps[len(self.words)] = slot
        self.words += [pick(rng, slot), "."]

    def change_neutral_word(self, rng: Random) -> None:
        """Put another word in the place of one that decides nothing."""
        position = pick(rng, sorted(self.swaps))
        self.words[position] = pick(rng, [word for word in self.swaps[position] if word != self.words[position]])

    def plant(self, rng: Random, word: str) -> int:
        """Insert ``word`` at the start of a clause, which is outside of every phrase, and return its position."""
        at = pick(rng, [0, *(k for k, before in enumerate(self.words[:-1], 1) if before in _CLAUSE_ENDS)])
        self.words.insert(at, word)
        self.opinions = [
            Opinion(opinion.aspect, tuple(position + (position >= at) for position in opinion.positions))
            for opinion in self.opinions
        ]
        self.swaps = {position + (position >= at): options for position, options in self.swaps.items()}
        return at


def stream(seed: int, purpose: str, row: int) -> Random:
    """Return the random stream of one purpose and row: hashed, so that no stream is another one shifted."""
    return Random(int.from_bytes(blake2b(f"{seed}/{purpose}/{row}".encode(), digest_size=8).digest(), "big"))


def decided(draft: Draft) -> bool:
    """Return whether the opinions of a review do not nearly cancel out."""
    return abs(draft.score) >= _DECIDED


def compose(rng: Random, accept: Callable[[Draft], bool] = decided, *, negated: float = _NEGATED) -> Draft:
    """Write one review that is accepted, of whose opinions a share is negated."""
    while True:
        draft = _attempt(rng, negated)
        if accept(draft):
            return draft


def _attempt(rng: Random, negated: float) -> Draft:
    aspects = shuffled(rng, list(ASPECTS))[: pick(rng, (1, 2, 3, 4))]
    fillers = shuffled(rng, FILLERS)[: pick(rng, _FILLERS_BY_CLAUSES[len(aspects)])]
    opens_with_filler = len(fillers) == 2 or (len(fillers) == 1 and chance(rng, 0.5))
    draft = Draft()
    if opens_with_filler:
        draft.fill(*fillers.pop(), rng)
    _add_clauses(draft, rng, aspects, negated)
    for filler in fillers:
        draft.fill(*filler, rng)
    return draft


def _add_clauses(draft: Draft, rng: Random, aspects: Sequence[str], negated: float) -> None:
    """Add one clause an aspect, each in a frame of its own, in sentences of one or two clauses."""
    mood = pick(rng, (-1, 1))
    previous, may_join = 0, False
    for aspect, frame in zip(aspects, shuffled(rng, FRAMES), strict=False):
        sign = mood if chance(rng, _AGREEMENT) else -mood
        joined = may_join and chance(rng, _JOINED)
        if joined:
            draft.words += ["and"] if sign == previous else [",", "but"]
        elif previous:
            draft.words.append(_mark(rng))
        _add_opinion(draft, rng, frame, aspect, sign, negated)
        previous, may_join = sign, not joined
    draft.words.append(_mark(rng))


def _mark(rng: Random) -> str:
    return "!" if chance(rng, _EXCLAIMED) else "."


def _add_opinion(draft: Draft, rng: Random, frame: str, aspect: str, sign: int, negated: float) -> None:
    """Add a clause that says something of this sign, the adjective's own sign turned round if it is negated."""
    words = ASPECTS[aspect]
    nouns, was = pick(rng, ((words.singular, "was"), (words.plural, "were")))
    negators = [pick(rng, list(NEGATORS))] if chance(rng, negated) else []
    intensifying = NEGATED_INTENSIFIERS if negators else list(INTENSIFIERS)
    intensifiers = [pick(rng, intensifying)] if chance(rng, _INTENSIFIED) else []
    adjective = pick(rng, words.negative if (sign < 0) != bool(negators) else words.positive)

    positions = draft.state(frame, rng, nouns, was, negators, [*intensifiers, adjective])
    draft.opinions.append(Opinion(aspect, tuple(positions)))
