"""A record of evidence on one page: texts and lists shortened as far as it takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from lightning_interpret.cards import sentence
from lightning_interpret.evidence import EvidenceRow, LandmarksRow, NeighborsRow, TrainingExample
from lightning_interpret.report.pages import Fits, Record
from lightning_interpret.tensorboard.payload import FACT
from lightning_interpret.texts import shortened

_OF_TOKENS = ("tokens", "by_token", "on_tokens", "means")
_LISTED = 5  # examples of each sign whose ids are followed from step to step
#: Characters of a text and entries of a list, ever fewer.
BOUNDS = ((4000, 2000), (1500, 1000), (500, 400), (200, 200), (100, 100), (60, 50), (40, 20), (20, 10), (20, 3))


def records(row: EvidenceRow, fits: Fits) -> list[Record]:
    """Return the one record of a row: a reader sees no more than a page, and the file of records keeps all.

    Beside the row's own fields stands what the tab follows from step to step: the ``gold_share`` among the neighbours,
    the ids ``listed``, the scores ``most_helpful`` and ``most_harmful``, and whether the solver ``converged``; of
    landmarks ``most_like`` and ``most_unlike``, the ``total`` of all of them, the ``bias_share`` of what did not reach
    them, whether that all adds up (``converged``), and the ``sentence``: our words and logged texts in turn.

    Args:
        row: The row to write.
        fits: Whether a record fits on one page of so many.

    Raises:
        ValueError: If not even the record with the shortest texts fits.
    """
    record = _slim(row.to_dict()) | _followed(row)
    brief = _brief(record)
    for short in chain([record], [brief] * (brief is not record), shortened_records(brief)):
        if fits(short, 1):
            return [short]
    raise ValueError(f"The record of kind {row.kind!r} does not fit on a page: raise limit.")


def shortened_records(record: Record) -> Iterator[dict[str, Any]]:
    """Yield a record with its texts and lists ever shorter, which it says in its notes."""
    for longest, most in BOUNDS:
        yield shortened_record(record, longest, most)


def shortened_record(record: Record, longest: int, most: int) -> dict[str, Any]:
    """Return a record with texts of at most so many characters and lists of so many entries, as its notes say."""
    short: dict[str, Any] = _bounded(record, longest, most)
    said = f"Shortened here: texts to {longest} characters, lists to {most} entries. The file of records keeps all."
    short["notes"] = [*short["notes"], said]
    if "sentence" in record:  # it is shortened in its texts, and never loses its end
        short["sentence"] = [shortened(text, longest) if i % 2 else text for i, text in enumerate(record["sentence"])]
    return short


def _slim(value: Any) -> Any:
    """Return a record without what is said of tokens where nothing is: of each example that would be three names."""
    if isinstance(value, list):
        return [_slim(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    return {name: _slim(each) for name, each in value.items() if name not in _OF_TOKENS or each}


def _brief(record: Record) -> Record:
    """Return a record with the foremost example of each sign for each token, as its notes say; else itself."""
    tokens = record.get("by_token")
    if not tokens:
        return record
    sides = ("helpful", "harmful")
    said = "Shortened here: for each token one example of each sign. The file of records keeps all."
    one = [{**token, **{side: token[side][:1] for side in sides}} for token in tokens]
    return {**record, "by_token": one, "notes": [*record["notes"], said]}


def _followed(row: EvidenceRow) -> dict[str, Any]:
    if isinstance(row, NeighborsRow):
        return {"listed": _ids(row.neighbors)} | _gold_share(row, row.gold)
    if isinstance(row, LandmarksRow):
        return {
            "listed": _ids([*row.like[:_LISTED], *row.unlike[:_LISTED]]),
            "converged": row.converged,
            "most_like": _score(row.like),
            "most_unlike": _score(row.unlike),
            "total": _finite(row.total),
            "bias_share": _finite(row.bias_share),
            "sentence": list(sentence(row)),
        }
    followed = {
        "listed": _ids([*row.helpful[:_LISTED], *row.harmful[:_LISTED]]),
        "converged": row.approximation.converged,
        "most_helpful": _score(row.helpful),
        "most_harmful": _score(row.harmful),
    }
    return followed if row.neighbors is None else followed | _gold_share(row.neighbors, row.gold)


def _ids(examples: Iterable[TrainingExample]) -> str:
    """Return ids in one short text, none of them cut."""
    known = " ".join(str(each.example_id) for each in examples)
    return known if len(known) <= FACT else known[: known.rindex(" ", 0, FACT)]


def _gold_share(row: NeighborsRow, gold: str | None) -> dict[str, float | None]:
    return {"gold_share": _finite(row.shares.get(gold, 0.0))} if row.shares and gold is not None else {}


def _score(examples: Sequence[TrainingExample]) -> float | None:
    return _finite(examples[0].score) if examples else None


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


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
