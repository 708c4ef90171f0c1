"""Several targets of one example on pages of the Interpret tab: whole, rounded, some targets a page, or narrowed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from lightning_interpret.records.targets import Target, TargetsRow
from lightning_interpret.records.units import units_of
from lightning_interpret.report.evidence_pages import shortened_record, shortened_records
from lightning_interpret.report.pages import Fits, Record
from lightning_interpret.tensorboard.payload import FACT

_PAGES, _SCORE = 8, 4  # pages of one record at most, bytes of a score at least
_WORDS = (800, 400, 200, 100, 50, 20, 8)  # that are kept, the first that fit
_TARGETS = (200, 100, 50, 20, 8, 3, 1)
_TEXTS = ((200, 200), (60, 50), (20, 10))  # characters of a text and entries of a list, beside the targets


def records(row: TargetsRow, fits: Fits) -> list[Record]:
    """Return the records of a row: one, or of many targets one for some of them each.

    A record that is too large has its scores rounded to three digits, then its targets spread over at most 8 pages;
    then words that matter to no target are left out, and at last targets behind the first, all of which its notes say.
    The file of records keeps all. The record of a further page has a ``target_offset`` and no tokens.

    Beside the row's own fields stands what the tab follows from step to step: ``mean_value`` and ``mean_error`` of the
    targets, how many there are in ``considered`` and how many are wrong in ``wrong_targets``, whether each of them
    ``converged``, their names, ``listed``, and the text as it is read, ``reading``.

    Args:
        row: The row to write.
        fits: Whether a record fits on one page of so many.

    Raises:
        ValueError: If not even the record with the shortest texts fits.
    """
    followed, room = dict(_followed(row)), _room(fits)
    if _size(row.targets) <= room:
        whole = row.to_dict() | followed
        if fits(whole, 1):
            return [whole]
    for some in _ever_smaller(row, _PAGES * room):
        pages = _spread(_rounded(some.to_dict()) | followed, room)
        if pages is not None:
            return pages
    least = row.narrowed(_WORDS[-1])
    record = replace(least, targets=least.targets[:1]).to_dict() | followed
    for short in chain([record], shortened_records(record)):
        if fits(short, 1):
            return [short]
    raise ValueError(f"The record of kind {row.kind!r} does not fit on a page: raise limit.")


def _room(fits: Fits) -> int:
    """Return how many bytes a record may take on one of several pages."""
    return _most(lambda size: fits({"": "x" * size}, _PAGES), 1 << 20)


def _size(targets: Sequence[Target]) -> int:
    """Return a number of bytes that the scores of targets are sure to take."""
    return _SCORE * sum(len(target.scores) for target in targets)


def _ever_smaller(row: TargetsRow, room: int) -> Iterator[TargetsRow]:
    """Yield records that lose ever more, those that are sure not to fit into a number of bytes left out."""
    if _size(row.targets) <= room:
        yield _said(row, "Scores are rounded to three digits here.")
    narrow = row
    for most in _WORDS:
        if most < len(row.tokens) and _SCORE * most * len(row.targets) <= room:
            narrow = row.narrowed(most, around=2)
            yield _said(narrow, _left_out(row, narrow))
    narrow = row.narrowed(_WORDS[-2])
    for count in _TARGETS:
        if count < len(row.targets):
            some = replace(narrow, targets=narrow.targets[:count])
            yield _said(some, _left_out(row, some))


def _left_out(row: TargetsRow, some: TargetsRow) -> str:
    words = f"Of {len(row.tokens)} tokens those that matter most are here, {len(some.tokens)} with marks for the others"
    targets = f"; of {len(row.targets)} targets the first {len(some.targets)}"
    more = targets if len(some.targets) < len(row.targets) else ""
    return f"{words}{more}; scores are rounded to three digits. The file of records keeps all."


def _said(row: TargetsRow, note: str) -> TargetsRow:
    return replace(row, notes=(note, *row.notes))


def _spread(record: dict[str, Any], room: int) -> list[Record] | None:
    """Return a record with its targets on as few pages as they take; ``None`` where these are too many."""
    targets = record["targets"]
    sizes = [len(json.dumps(target)) + 2 for target in targets]
    further = {"kind": record["kind"], "schema": record["schema"]}
    for head in chain([record], (_short(record, *bounds) for bounds in _TEXTS)):
        pages: list[dict[str, Any]] = []
        left = 0
        for place, (target, size) in enumerate(zip(targets, sizes, strict=True)):
            if not pages or size > left:
                page = {"target_offset": place} | (further if pages else head) | {"targets": []}
                pages.append(page)
                left = room - len(json.dumps(page))
            pages[-1]["targets"].append(target)
            left -= size
            if left < 0 or len(pages) > _PAGES:
                break  # not even one fits, or all the others do not
        else:
            if len(pages) == 1:
                del pages[0]["target_offset"]
            return [*pages] or None
        if len(pages) > 1:
            return None  # it is not the texts that make it too large
    return None


def _short(record: Record, longest: int, most: int) -> dict[str, Any]:
    """Return the record with shorter texts beside its targets and tokens."""
    of_tokens = ("targets", "tokens", "words", "word_ids", "special", "offsets", "segment", "segment_names")
    short = shortened_record({name: value for name, value in record.items() if name not in of_tokens}, longest, most)
    return short | {name: record[name] for name in of_tokens if name in record}


def _most(holds: Any, count: int) -> int:
    """Return the largest number up to ``count`` that something holds of, 0 where it holds of none."""
    low, high = 0, count
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.3g}")
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


def _followed(row: TargetsRow) -> Iterator[tuple[str, Any]]:
    values = [target.value for target in row.targets if math.isfinite(target.value)]
    errors = [each.relative_error for each in row.targets if each.relative_error is not None]
    yield "considered", len(row.targets)
    units = [unit for unit in units_of(row) if not unit.special]
    yield "reading", "".join(" " * (unit.space and i > 0) + unit.text for i, unit in enumerate(units[:FACT]))[:FACT]
    yield "mean_value", sum(values) / len(values) if values else None
    yield "mean_error", _finite(sum(errors) / len(errors)) if errors else None
    known = [target for target in row.targets if target.gold is not None and target.prediction is not None]
    yield "wrong_targets", sum(target.wrong for target in known) if known else None
    said = [target.converged for target in row.targets if target.converged is not None]
    yield "converged", all(said) if said else None
    names = " ".join(dict.fromkeys("_".join(target.name.split()) for target in row.targets))
    yield "listed", names if len(names) <= FACT else names[: max(0, names.rfind(" ", 0, FACT))]


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
