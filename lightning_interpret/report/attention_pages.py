"""Attention on pages of the Interpret tab: maps of as many tokens as fit, and of a long text its tokens in windows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from lightning_interpret.cards import card_of
from lightning_interpret.records.attention import AttentionMapRow
from lightning_interpret.report.evidence_pages import shortened_records
from lightning_interpret.report.pages import Fits, Record, windows
from lightning_interpret.tensorboard.payload import PER_TOKEN

_SIZES = (28, 24, 20, 16, 12, 8, 4, 0)  # tokens that have weights in maps, the first that fits


def records(row: AttentionMapRow, fits: Fits) -> list[Record]:
    """Return the records of a row: one, or of a text that is too long for a page one for each window of its tokens.

    Maps lose tokens as far as it takes, which is said in the notes; the file of records keeps all that the row has.
    Beside the row's own fields stands what the tab follows from step to step: ``entropy``, ``head_agreement`` and the
    ``sentence``, our words and logged texts in turn.

    Args:
        row: The row to write.
        fits: Whether a record fits on one page of so many.

    Raises:
        ValueError: If not even the record with the shortest texts fits.
    """
    record: dict[str, Any] = {}
    for record in _ever_smaller(row):
        if fits(record, 1):
            return [record]
    named = {name: record[name] for name in (*PER_TOKEN, "words") if name in record}
    rest = {name: value for name, value in record.items() if name not in named}
    if row.tokens:
        for head in chain([rest], shortened_records(rest)):
            try:
                return windows(head | named, fits)
            except ValueError:  # not even one token fits beside this head
                continue
    for short in shortened_records(record):
        if fits(short, 1):
            return [short]
    raise ValueError(f"The record of kind {row.kind!r} does not fit on a page: raise limit.")


def _ever_smaller(row: AttentionMapRow) -> Iterator[dict[str, Any]]:
    for some in (row, *(row.cropped(size) for size in _SIZES if size < row.shown)):
        yield some.to_dict() | {
            "entropy": row.entropy,
            "head_agreement": row.head_agreement,
            "sentence": list(card_of(row).sentence),
        }
