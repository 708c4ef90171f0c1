"""What the negations of a case act on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from lightning_interpret.causes.case import Case
from lightning_interpret.causes.words import NEGATORS

_SCOPE = 6  # words after a negation in which it acts


@dataclass(frozen=True)
class Negated:
    """One negation and the word in its scope that says most of the prediction, or all those of a text.

    Attributes:
        negations: Places of the negations.
        places: Places from each to its word.
        heads: Places of the words.
    """

    negations: tuple[int, ...]
    places: tuple[int, ...]
    heads: tuple[int, ...]


def negated(case: Case) -> list[Negated]:
    """Return what each negation of a case acts on, and all of it together where there are several.

    A negation acts on the words after it up to the next punctuation, :data:`_SCOPE` at most. Of these the word counts
    that training data tie most to the prediction, or else that scores most for it.
    """
    keys, at, found = case.words.keys, case.words.at, list[Negated]()
    scores = case.scores()
    size = 1e3 * max((abs(score) for score in scores.values()), default=1.0)  # where training data tie none of them
    for i, key in enumerate(keys):
        if key not in NEGATORS or key == "n":  # of "n't" the "t" stands for both
            continue
        if key == "t" and not (i and keys[i - 1].endswith("n")):
            continue
        scope = list[int]()
        for n in range(i + 1, min(len(keys), i + 1 + _SCOPE)):
            between = case.words.shown[at[n - 1] + 1 : at[n]]
            if any(mark not in ("'", "’") for mark in between) or keys[n] in NEGATORS - {"t"}:
                break
            scope.append(at[n])
        if scope:
            ties = {place: case.ties.get(keys[at.index(place)], 0.0) for place in scope}
            head = max(scope, key=lambda place: ties[place] if ties[place] > 0 else scores.get(place, 0.0) / size)
            found.append(Negated((at[i],), tuple(range(at[i], head + 1)), (head,)))
    if len(found) > 1:
        every = ([each.negations for each in found], [each.places for each in found], [each.heads for each in found])
        found.append(Negated(*(tuple(sorted(set(chain.from_iterable(part)))) for part in every)))
    return found
