"""Named entities in the tags of words, read as seqeval reads them in its default mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_BEGIN, _INSIDE, _LAST, _ALONE = "B", "I", "EL", "SU"  # L and U are what BILOU has for E and S


class Entity(NamedTuple):
    """A stretch of words of one type.

    Attributes:
        type: The type; empty where tags have none.
        start: Its first word.
        end: One past its last word.
    """

    type: str
    start: int
    end: int


def entities(tags: Sequence[str]) -> list[Entity]:
    """Return the entities that tags stand for, in order.

    Tags are ``B-type``, ``I-type``, ``E-type``, ``S-type`` and ``O`` (BIO, IOB, BIOES, BILOU). As conlleval and
    seqeval's default mode do, an entity begins at each B or S, wherever the type changes and after what ended one, so
    that an ``I-`` needs no ``B-`` before it. A tag without such a mark is a type by itself: equal ones in a row are one
    entity.
    """
    found: list[Entity] = []
    start, before, type_before = 0, "O", ""
    for place, tag in enumerate([*tags, "O"]):
        mark, of = _parts(tag)
        begins = mark in (_BEGIN, *_ALONE) or before in (*_LAST, *_ALONE) or of != type_before
        if before != "O" and (begins or mark == "O"):
            found.append(Entity(type_before, start, place))
        if mark != "O" and (begins or before == "O"):
            start = place
        before, type_before = mark, of
    return found


def _parts(tag: str) -> tuple[str, str]:
    """Return mark and type of a tag."""
    if tag == "O":
        return "O", ""
    mark, _, of = tag.partition("-")
    return (mark, of) if mark in (_BEGIN, _INSIDE, *_LAST, *_ALONE) else (_INSIDE, tag)
