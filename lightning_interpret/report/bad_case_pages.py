"""Records of bad cases on one page each: whole, or with texts and lists shortened around what matters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from lightning_interpret.bad_cases import BadCaseGroupRow, BadCaseRow, BadCasesRow
from lightning_interpret.cards import card_of
from lightning_interpret.report.evidence_pages import BOUNDS, shortened_record
from lightning_interpret.report.pages import Fits, Record
from lightning_interpret.report.pages import records as attribution_pages
from lightning_interpret.tensorboard.payload import FACT, PER_TOKEN

BadCase = BadCaseRow | BadCaseGroupRow | BadCasesRow


def records(row: BadCase, fits: Fits) -> list[Record]:
    """Return the one record of a row: a reader sees no more than a page, and the file of records keeps all.

    Beside the row's own fields stand the ``sentence`` of its card, our words and logged texts in turn, and of a group
    the ids ``listed``. Over the steps the tab follows of a group its ``size``, ``sure`` and ``accuracy``, of the
    overview ``wrong_cases``, ``confident``, ``unsure`` and ``accuracy``.

    Args:
        row: The row to write.
        fits: Whether a record fits on one page of so many.

    Raises:
        ValueError: If not even the record with the shortest texts fits.
    """
    record = row.to_dict() | {"sentence": list(card_of(row).sentence)} | dict(_listed(row))
    if fits(record, 1):
        return [record]
    if isinstance(row, BadCaseRow) and row.attribution is not None and row.attribution.units == "location":
        record["attribution"] = dict(attribution_pages(row.attribution, lambda image, _: fits(image, 1))[0])
    for longest, most in BOUNDS:
        short = shortened_record(_around(record, most), longest, most)
        if fits(short, 1):
            return [short]
    raise ValueError(f"The record of kind {row.kind!r} does not fit on a page: raise limit.")


def _listed(row: BadCase) -> Iterator[tuple[str, str]]:
    if isinstance(row, BadCaseGroupRow):
        ids = " ".join(str(each.index if each.example_id is None else each.example_id) for each in row.members)
        yield "listed", ids if len(ids) <= FACT else ids[: ids.rindex(" ", 0, FACT)]


def _around(record: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Return a record whose lists have lost what no reader looks for: words far from the strongest, early sizes."""
    attribution = record.get("attribution")
    changes = {"attribution": _window(attribution, most)} if attribution else {}
    return {**record, **changes} | ({"sizes": record["sizes"][-most:]} if "sizes" in record else {})


def _window(attribution: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Return an attribution with so many tokens around its strongest, and the words of these; an image stays."""
    tokens, words = attribution["tokens"], attribution["words"]
    if attribution["units"] == "location" or len(tokens) <= most:
        return dict(attribution)
    sizes = [
        0.0 if special or score is None or not math.isfinite(score) else abs(score)
        for score, special in zip(attribution["scores"], attribution["special"] or [False] * len(tokens), strict=True)
    ]
    start = max(0, min(sizes.index(max(sizes)) - most // 2, len(tokens) - most))
    cut = {
        name: attribution[name] and attribution[name][start : start + most] for name in PER_TOKEN if name in attribution
    }
    used = sorted({word for word in cut["word_ids"] if word is not None})
    places = {word: place for place, word in enumerate(used)}
    cut["word_ids"] = [None if word is None else places[word] for word in cut["word_ids"]]
    said = f"Tokens {start + 1} to {start + most} of {len(tokens)}: the error is that of all of them."
    return {
        **attribution,
        **cut,
        "words": words and [words[word] for word in used],
        "notes": [*attribution["notes"], said],
    }
