"""A tree of spans on pages of the Interpret tab: whole, or with its topmost levels, or in windows of its tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from lightning_interpret.cards import card_of
from lightning_interpret.records.span_tree import SpanTreeRow
from lightning_interpret.report.evidence_pages import shortened_records
from lightning_interpret.report.pages import Fits, Record, windows
from lightning_interpret.tensorboard.payload import PER_TOKEN

_SIZES = (1024, 256, 64, 16, 4, 1)  # spans that are kept, the first that fit


def records(row: SpanTreeRow, fits: Fits) -> list[Record]:
    """Return the records of a row: one, or of a text that is too long for a page one for each window of its tokens.

    Levels at the bottom of the tree are left out as far as it takes, which is said in the notes; the file of records
    keeps all. Beside the row's own fields stands what the tab follows from step to step: the ``depth``, the number of
    spans in ``considered``, the ``interaction`` at the top, and the ``sentence``, our words and logged texts in turn.

    Args:
        row: The row to write.
        fits: Whether a record fits on one page of so many.

    Raises:
        ValueError: If not even the record with the shortest texts fits.
    """
    for record in _ever_smaller(row):
        if fits(record, 1):
            return [record]
    if row.tokens:
        for record in _ever_smaller(row):
            named = {name: record[name] for name in (*PER_TOKEN, "words") if name in record}
            for head in shortened_records({name: value for name, value in record.items() if name not in named}):
                if len(head["nodes"]) < len(record["nodes"]):
                    break  # a list that is cut is no tree: another one has fewer levels
                try:
                    return windows(head | named, fits)
                except ValueError:  # not even one token fits beside this head
                    continue
    for short in shortened_records(_whole(row.pruned(1), row)):
        if fits(short, 1):
            return [short]
    raise ValueError(f"The record of kind {row.kind!r} does not fit on a page: raise limit.")


def _ever_smaller(row: SpanTreeRow) -> Iterator[dict[str, Any]]:
    yield _whole(row, row)
    for size in _SIZES:
        if size < len(row.nodes):
            yield _whole(row.pruned(size), row)


def _whole(some: SpanTreeRow, row: SpanTreeRow) -> dict[str, Any]:
    top = row.nodes[0].interaction if row.nodes else None
    record = some.to_dict() | {
        "depth": row.depth,
        "considered": len(row.nodes),
        "interaction": top if top is not None and math.isfinite(top) else None,
        "sentence": list(card_of(row).sentence),
    }
    if len(some.nodes) < len(row.nodes):
        said = f"Of {len(row.nodes)} spans the {len(some.nodes)} topmost are here. The file of records keeps all."
        record["notes"] = [said, *record["notes"]]
    return record
