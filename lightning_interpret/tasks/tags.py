"""Names of tags: their types, and the marks of place of BIO and its kin."""

from __future__ import annotations

from collections.abc import Sequence

OUTSIDE = "O"
_BEGINS, _INSIDE, _ENDS, _ALONE = "B", "I", "EL", "SU"


def marked(labels: Sequence[str]) -> bool:
    """Return whether labels are of a scheme that marks entities: each is ``O``, or begins with a mark of its place."""
    return OUTSIDE in labels and all(label == OUTSIDE or _split(label)[0] for label in labels)


def type_of(tag: str) -> str:
    """Return the type of a tag without the mark of its place: ``person`` of ``B-person``."""
    return _split(tag)[1]


def types(labels: Sequence[str]) -> list[str]:
    """Return the types that labels tell apart, in their order."""
    return list(dict.fromkeys(type_of(label) for label in labels if label != OUTSIDE))


def as_type(tag: str, other: str, labels: Sequence[str]) -> str:
    """Return the tag of another type that has the place of a tag: ``I-group`` for ``I-person``, or what there is."""
    place = _split(tag)[0] or _BEGINS
    candidates = (f"{place}-{other}", f"{_BEGINS}-{other}", f"{_INSIDE}-{other}", other)
    of_type = [label for label in labels if type_of(label) == other]
    return next(label for label in (*candidates, *of_type) if label in labels)


def _split(tag: str) -> tuple[str, str]:
    """Return the mark of a tag's place and its type; no mark where there is none."""
    place, dash, kind = tag.partition("-")
    marks = (_BEGINS, _INSIDE, *_ENDS, *_ALONE)
    return (place, kind) if dash and place in marks and kind else ("", tag)
