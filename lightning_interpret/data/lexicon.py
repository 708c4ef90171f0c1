"""The words of the generated restaurant reviews and what each of them weighs."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Aspect:
    """The words that speak of one side of a restaurant, chosen so that every noun goes with every adjective.

    Attributes:
        singular: Nouns that take "was".
        plural: Nouns that take "were".
        positive: Adjectives of praise.
        negative: Adjectives of blame.
    """

    singular: tuple[str, ...]
    plural: tuple[str, ...]
    positive: tuple[str, ...]
    negative: tuple[str, ...]


# Adjectives said of anything: a concept cannot be read off these words alone, only off the noun beside them.
_GOOD = ("good", "great", "nice", "pleasant", "decent", "lovely")
_BAD = ("bad", "poor", "awful", "unpleasant", "disappointing", "lousy")

ASPECTS = {
    "food": Aspect(
        singular=("steak", "fish", "chicken", "lamb", "pork", "duck"),
        plural=("dumplings", "noodles", "ribs", "burgers"),
        positive=(*_GOOD, "tasty", "tender", "fresh", "delicious", "flavorful", "appetizing"),
        negative=(*_BAD, "bland", "greasy", "stale", "soggy", "overcooked", "tasteless"),
    ),
    "service": Aspect(
        singular=("waiter", "waitress", "staff", "host", "bartender", "service"),
        plural=("waiters", "waitresses", "servers", "hosts"),
        positive=(*_GOOD, "polite", "friendly", "attentive", "prompt", "helpful", "welcoming"),
        negative=(*_BAD, "rude", "slow", "careless", "clumsy", "unfriendly", "impatient"),
    ),
    "price": Aspect(
        singular=("price", "bill", "total", "cost", "tab"),
        plural=("prices", "charges", "rates", "fees", "costs"),
        positive=(*_GOOD, "fair", "reasonable", "modest", "affordable", "sensible", "honest"),
        negative=(*_BAD, "steep", "excessive", "unfair", "inflated", "outrageous", "exorbitant"),
    ),
    "ambience": Aspect(
        singular=("room", "atmosphere", "terrace", "decor", "interior", "lounge", "garden"),
        plural=("rooms", "tables", "surroundings"),
        positive=(*_GOOD, "cosy", "charming", "relaxing", "inviting", "elegant", "comfortable"),
        negative=(*_BAD, "gloomy", "dingy", "shabby", "drab", "cramped", "dull"),
    ),
}

# A word multiplies what it acts on. All values are exact in binary, so that sums are the same on every machine.
NEGATORS = {"not": -1.0, "never": -1.25, "hardly": -0.75}
INTENSIFIERS = {"very": 1.5, "really": 1.5, "extremely": 2.0, "fairly": 0.75, "slightly": 0.5}
NEGATED_INTENSIFIERS = ("very",)  # "not very good" is said; "not slightly good" is not
ADJECTIVES = {
    **{word: 1.0 for aspect in ASPECTS.values() for word in aspect.positive},
    **{word: -1.0 for aspect in ASPECTS.values() for word in aspect.negative},
}
_WEIGHTS = {**NEGATORS, **INTENSIFIERS, **ADJECTIVES}

# NEG and ADJ may stand apart, so that a negation cannot always be read off two neighbouring words.
FRAMES = (
    "the NOUN WAS NEG ADJ",
    "i thought the NOUN WAS NEG ADJ",
    "this time the NOUN WAS NEG ADJ",
    "in the end the NOUN WAS NEG ADJ",
    "we all agreed that the NOUN WAS NEG ADJ",
    "i would NEG call the NOUN ADJ",
    "my friends would NEG call the NOUN ADJ",
    "you will NEG find the NOUN ADJ",
)

# A neutral sentence: words before its slot, and what the slot may hold. "tuesday" is left free for the shortcut.
FILLERS = (
    ("we went there on a", ("monday", "wednesday", "thursday", "friday", "saturday", "sunday")),
    ("i came with my", ("sister", "brother", "cousin", "mother", "father", "neighbor")),
    ("we stayed until", ("seven", "eight", "nine", "ten", "eleven")),
    ("we booked for", ("two", "three", "four", "five", "six")),
    ("it is next to the", ("station", "bank", "library", "museum", "cinema")),
    ("we got there by", ("bus", "train", "car", "taxi", "bike")),
    ("we had heard of it in", ("january", "april", "june", "august", "october")),
)

VOCABULARY = frozenset(
    {
        *_WEIGHTS,
        *(noun for aspect in ASPECTS.values() for noun in (*aspect.singular, *aspect.plural)),
        *(word for frame in FRAMES for word in frame.split() if word.islower()),
        *(word for opening, slot in FILLERS for word in (*opening.split(), *slot)),
        *("was", "were", "and", "but", ",", ".", "!"),
    }
)


def polarity(words: Iterable[str]) -> float:
    """Return the signed strength of an adjective with the negator and intensifier that act on it."""
    return math.prod(_WEIGHTS[word] for word in words)
