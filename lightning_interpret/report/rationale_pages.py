"""What a model says of itself on pages of the Interpret tab: whole, in windows of its tokens, or shortened."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from lightning_interpret.cards import card_of
from lightning_interpret.rationales import ConceptsRow, RationaleRow, SpansRow
from lightning_interpret.records import Row
from lightning_interpret.records.concept_test import ConceptTestRow
from lightning_interpret.records.trust import TrustRow
from lightning_interpret.report.evidence_pages import shortened_records
from lightning_interpret.report.pages import Fits, Record, windows
from lightning_interpret.tensorboard.payload import FACT, PER_TOKEN

_LISTED = 5  # concepts that are followed from step to step


def records(row: Row, fits: Fits) -> list[Record]:
    """Return the records of a row: one, or of a long text one for each window of its tokens.

    Beside the row's own fields stands what the tab follows from step to step: ``sufficiency`` and
    ``comprehensiveness``, each beside its ``_control``; the ``weight`` of the foremost span, and what it costs when it
    is ``erased``; the foremost concepts, ``listed``, ``concept_accuracy``, and ``concept_count`` and ``concept_sum`` of
    all of them, also where not all fit; of concept vectors the concepts that are told apart from random ones,
    ``listed``, and in how many tests they are, ``told_apart``; of a comparison of methods the gain and the error of the
    best, and how far they agree; and the ``sentence``, our words and logged texts in turn.

    Args:
        row: The row to write.
        fits: Whether a record fits on one page of so many.

    Raises:
        ValueError: If not even the record with the shortest texts fits.
    """
    record = row.to_dict() | dict(_followed(row)) | {"sentence": list(card_of(row).sentence)}
    if fits(record, 1):
        return [record]
    if record.get("tokens"):
        named = {name: record[name] for name in (*PER_TOKEN, "words") if name in record}
        for head in shortened_records({name: value for name, value in record.items() if name not in named}):
            try:
                return windows(head | named, fits)
            except ValueError:  # not even one token fits beside this head
                continue
    for short in shortened_records(record):
        if fits(short, 1):
            return [short]
    raise ValueError(f"The record of kind {row.kind!r} does not fit on a page: raise limit.")


def _followed(row: Row) -> Iterator[tuple[str, Any]]:
    if isinstance(row, RationaleRow):
        yield "sufficiency", _finite(row.sufficiency)
        yield "comprehensiveness", _finite(row.comprehensiveness)
        yield "sufficiency_control", _finite(row.sufficiency_control)
        yield "comprehensiveness_control", _finite(row.comprehensiveness_control)
    elif isinstance(row, SpansRow) and row.spans:
        yield "weight", _finite(row.spans[0].weight)
        yield "erased", _finite(row.spans[0].erased)
    elif isinstance(row, TrustRow):
        best = next((each for each in row.methods if each.name == row.recommended), None)
        yield "best_gain", None if best is None else _finite(best.gain)
        yield "best_error", None if best is None else _finite(best.figures.get("relative_error"))
        taus = [each.kendall for each in row.agreement if each.kendall is not None]
        yield "mean_agreement", sum(taus) / len(taus) if taus else None
    elif isinstance(row, ConceptsRow):
        yield "listed", _listed(each.name for each in row.concepts[:_LISTED])
        known = [each.right for each in row.concepts if each.right is not None]
        yield "concept_accuracy", sum(known) / len(known) if known else None
        parts = [each.contribution for each in row.concepts if each.contribution is not None]
        yield "concept_count", len(row.concepts)
        yield "concept_sum", _finite(sum(parts)) if parts else None
    elif isinstance(row, ConceptTestRow):
        yield "listed", _listed(dict.fromkeys(test.concept for test in row.tests if test.significant))
        yield "told_apart", sum(test.significant for test in row.tests)


def _listed(names: Iterable[str]) -> str:
    """Return names in one short text, none of them cut."""
    known = " ".join("_".join(name.split()) for name in names)
    return known if len(known) <= FACT else known[: max(0, known.rfind(" ", 0, FACT))]


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
