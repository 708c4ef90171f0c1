"""Named entities in the tags of words, read as seqeval reads them in its default mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_MARKS = frozenset("BIES")


class Entity(NamedTuple):
    """A stretch of words of one type.

    Attributes:
        kind: The type; empty where tags have none.
        start: Its first word.
        end: One past its last word.
    """

    kind: str
    start: int
    end: int


def entities(tags: Sequence[str]) -> list[Entity]:
    """Return the entities that tags stand for, in order.

    Tags are ``B-type``, ``I-type``, ``E-type``, ``S-type`` and ``O`` (BIO, IOB, BIOES). As conlleval and seqeval's
    default mode do, an entity begins at each B or S, wherever the type changes and after what ended one, so that an
    ``I-`` needs no ``B-`` before it. A tag without such a mark is a type by itself: equal ones in a row are one entity.
    """
    found: list[Entity] = []
    start, before, kind_before = 0, "O", ""
    for place, tag in enumerate([*tags, "O"]):
        mark, kind = _parts(tag)
        changed = kind != kind_before
        if before != "O" and (before in "ES" or mark in "BSO" or changed):
            found.append(Entity(kind_before, start, place))
        if mark != "O" and (mark in "BS" or before in "ESO" or changed):
            start = place
        before, kind_before = mark, kind
    return found


def _parts(tag: str) -> tuple[str, str]:
    """Return mark and type of a tag."""
    if tag == "O":
        return "O", ""
    mark, _, kind = tag.partition("-")
    return (mark, kind) if mark in _MARKS else ("I", tag)
