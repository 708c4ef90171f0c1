"""A record of evidence on one page: texts and lists shortened as far as it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lightning_interpret.evidence import EvidenceRow
from lightning_interpret.report.pages import Fits, Record
from lightning_interpret.texts import shortened

_BOUNDS = ((4000, 2000), (1500, 1000), (500, 400), (200, 200), (100, 100), (60, 50), (40, 20), (20, 10))


def records(row: EvidenceRow, fits: Fits) -> list[Record]:
    """Return the one record of a row: a reader sees no more than a page, and the file of records keeps all.

    Args:
        row: The row to write.
        fits: Whether a record fits on one page of so many.

    Raises:
        ValueError: If not even the record with the shortest texts fits.
    """
    record = row.to_dict()
    if fits(record, 1):
        return [record]
    for longest, most in _BOUNDS:
        short = _bounded(record, longest, most)
        said = f"Shortened here: texts to {longest} characters, lists to {most} entries. The file of records keeps all."
        short["notes"] = [*short["notes"], said]
        if fits(short, 1):
            return [short]
    raise ValueError(f"The record of kind {row.kind!r} does not fit on a page: raise limit.")


def _bounded(value: Any, longest: int, most: int) -> Any:
    if isinstance(value, str):
        return shortened(value, longest)
    if isinstance(value, list):
        return [_bounded(each, longest, most) for each in value[:most]]
    if not isinstance(value, Mapping):
        return value
    named = list(value.items())
    if named and all(isinstance(each, int | float | None) for _, each in named):  # a distribution: the largest are kept
        named = sorted(named, key=lambda item: -math.inf if item[1] is None else item[1], reverse=True)[:most]
    return {shortened(name, longest): _bounded(each, longest, most) for name, each in named}
