"""The words of a text as the model read it: which tokens are joined, and what of a long text is kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from lightning_interpret.records.tokens import TokensRow
from lightning_interpret.texts import joins_without_space, readable, shown_segments

_BEGINS = ("Ġ", "▁")
_MATTERS = 0.05  # share of the largest weight


@dataclass(frozen=True)
class Unit:
    """A word, or a special token.

    Attributes:
        text: The word, as it is read.
        start: Its first token.
        end: The token after its last.
        special: Whether it is a special token.
        segment: Which of the parts of the text it is of.
        space: Whether the text has a gap before it, as far as the record knows.
    """

    text: str
    start: int
    end: int
    special: bool
    segment: int
    space: bool


def units_of(row: TokensRow) -> tuple[Unit, ...]:
    """Return the words of a record in reading order; lists that are too short leave tokens as they are."""
    size = len(row.tokens)
    ids = row.word_ids if len(row.word_ids) == size else tuple(range(size))
    words = row.words if len(row.word_ids) == size else ()
    parts = shown_segments(row.segment, row.special, size)
    marked = any(token.startswith(_BEGINS) for token in row.tokens if isinstance(token, str))
    found: list[Unit] = []
    keys = [(parts[i], i if _special(row, ids, i) else ids[i], _special(row, ids, i)) for i in range(size)]
    for (segment, word, special), places in groupby(range(size), key=keys.__getitem__):
        run = list(places)
        text = at(words, word) if not special and isinstance(word, int) else None
        named = text if isinstance(text, str) and text else readable("".join(str(row.tokens[i]) for i in run))
        space = not found or found[-1].special or special or _gap(row, run[0], marked, found[-1].text, named)
        found.append(Unit(named, run[0], run[-1] + 1, special, segment, space))
    return tuple(found)


def kept_of(
    weights: Sequence[float], most: int, around: int, always: Iterable[int] = (), alone: Iterable[int] = ()
) -> set[int]:
    """Return the places that are kept of a long list, about ``most`` of them.

    Some are kept ``always``, with those ``around`` them, then some ``alone``, then the strongest with those around
    them. What is below a twentieth of the strongest is not one of these.
    """
    kept: set[int] = set()
    least = _MATTERS * max(weights, default=0.0)
    strongest = sorted((i for i in range(len(weights)) if weights[i] >= least), key=lambda i: -weights[i])
    for place, reach in (*((i, around) for i in always), *((i, 0) for i in alone), *((i, around) for i in strongest)):
        near = [i for by in range(reach + 1) for i in {place - by, place + by} if 0 <= i < len(weights)]
        kept.update(near[: max(0, most - len(kept))])
        if len(kept) >= most:
            break
    return kept | {i for i in range(len(weights)) if {i - 1, i + 1} <= kept}  # a mark of one is no shorter than it


def at(values: Any, i: int) -> Any:
    """Return an entry of a field that may be missing, or shorter than the tokens: a record may come from anywhere."""
    return values[i] if values is not None and 0 <= i < len(values) else None


def _special(row: TokensRow, ids: Sequence[int | None], i: int) -> bool:
    return bool(at(row.special, i)) or ids[i] is None


def _gap(row: TokensRow, i: int, marked: bool, before: str, here: str) -> bool:
    now, last = at(row.offsets, i), at(row.offsets, i - 1)
    known = now is not None and last is not None and now[1] > now[0] and last[1] > last[0]
    if known and now[0] >= last[1]:
        return bool(now[0] > last[1] or (row.text is not None and row.text[now[0] : now[0] + 1].isspace()))
    return str(row.tokens[i]).startswith(_BEGINS) if marked else not joins_without_space(before, here)
