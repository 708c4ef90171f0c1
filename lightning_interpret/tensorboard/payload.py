"""The payload of an Interpret summary as it is read: pages to one payload, and a payload to its facts.

A payload is JSON ``{"schema", "kind", "monitor", "step", "probe", "page", "pages", "records": [...]}``. One that is
larger than a page is written under several tags; all its pages have the same head. Nothing is refused here but what is
not such JSON: a kind that is not known has facts as well.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PLUGIN = "interpret"
#: Version of the payload around the records; a record carries its own.
SCHEMA = 1

#: Fields of a record that have one entry a token: a window of a record holds a slice of each.
PER_TOKEN = ("tokens", "scores", "word_ids", "special", "offsets", "segment")
_PAGE = re.compile(r"(?P<first>.*/probe_\d+)/page_(?P<number>\d+)")
_PROBE = re.compile(r"interpret/(?P<monitor>.*)/probe_(?P<probe>\d+)")
_SNIPPET, _FACT = 160, 200


def page_of(tag: str) -> tuple[str, int]:
    """Return the tag of a page's first page, and which page it is, from 1."""
    match = _PAGE.fullmatch(tag)
    return (match["first"], int(match["number"])) if match else (tag, 1)


def probe_of(tag: str) -> tuple[str, int | None]:
    """Return the monitor and the probe that a tag is of; a tag of another form is its own monitor."""
    match = _PROBE.fullmatch(tag)
    return (match["monitor"], int(match["probe"])) if match else (tag, None)


def parse(text: str) -> dict[str, Any]:
    """Return one page; numbers that are not finite, which JSON has not, are ``None``.

    Raises:
        ValueError: If the text is not JSON, or not an object with a list of records.
    """
    try:
        page = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The payload is not JSON: {error}.") from error
    if not isinstance(page, dict) or not isinstance(page.get("records"), list):
        raise ValueError("The payload is not an object with a list of `records`.")
    return page


def join(pages: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the payload whose pages are given, in any order.

    Raises:
        ValueError: If a page is missing, or the pages are not all of one payload.
    """
    ordered = sorted(pages, key=lambda page: page.get("page", 1))
    numbers = [page.get("page", 1) for page in ordered]
    origins = {tuple(str(page.get(name)) for name in ("monitor", "step", "probe", "pages")) for page in ordered}
    if len(origins) != 1 or numbers != list(range(1, ordered[0].get("pages", 1) + 1)):
        raise ValueError(f"Expected every page of one row, but got pages {numbers} of {sorted(origins)}.")
    if len(ordered) == 1:
        return dict(ordered[0])
    records = [record for page in ordered for record in page["records"]]
    if all("offset" in record for record in records):  # windows of one record
        records = [_whole(records)]
    return {**ordered[0], "page": 1, "pages": 1, "records": records}


def facts(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return what fits on a line of a list: the first record's numbers and short texts, and its words as ``text``.

    ``largest`` is the largest absolute score of a word, special tokens left out.
    """
    record = payload["records"][0] if payload["records"] else {}
    if not isinstance(record, dict):
        return {}
    found = {name: _short(value, _FACT) for name, value in record.items() if isinstance(value, str | int | float)}
    words = record.get("words") or record.get("tokens")
    if "text" not in found and isinstance(words, list):
        found["text"] = _short(" ".join(map(str, words[:_SNIPPET])), _SNIPPET)
    merged = _word_scores(record)
    if merged:
        found["largest"] = max(map(abs, merged))
    return found


def drift(payload: Mapping[str, Any], before: Mapping[str, Any]) -> float | None:
    """Return 1 − cosine of the first records' scores: 0 unchanged, 2 turned round; ``None`` where they do not compare.

    Two lists of zeros are the same (0), one of zeros and another have nothing in common (1).
    """
    a, b = _scores(payload), _scores(before)
    if a is None or b is None or len(a) != len(b):
        return None
    size_a, size_b = math.hypot(*a), math.hypot(*b)
    if not size_a or not size_b:
        return float(size_a != size_b)
    cosine = sum(x / size_a * (y / size_b) for x, y in zip(a, b, strict=True))
    return 1 - max(-1.0, min(1.0, cosine))


def _scores(payload: Mapping[str, Any]) -> list[float] | None:
    record = payload["records"][0] if payload["records"] else None
    scores = record.get("scores") if isinstance(record, dict) else None
    return scores if isinstance(scores, list) and all(isinstance(s, int | float) for s in scores) else None


def _word_scores(record: Mapping[str, Any]) -> list[float]:
    scores, ids = record.get("scores"), record.get("word_ids")
    if not isinstance(scores, list):
        return []
    if not isinstance(ids, list) or len(ids) != len(scores):
        ids = list(range(len(scores)))
    sums: list[float] = []
    before = None
    for score, word in zip(scores, ids, strict=True):
        if word is not None and isinstance(score, int | float):
            if word == before:
                sums[-1] += score
            else:
                sums.append(score)
        before = word
    return sums


def _whole(windows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    whole = {name: value for name, value in windows[0].items() if name not in ("offset", "word_offset")}
    for window in windows[1:]:
        for name in PER_TOKEN:
            values, start = window.get(name), window["word_offset"]
            if name == "word_ids" and values is not None:
                values = [None if i is None else i + start for i in values]
            whole[name] = None if values is None else whole[name] + values
        whole["words"] = whole["words"][: window["word_offset"]] + window["words"]
    return whole


def _short(value: Any, size: int) -> Any:
    return value[: size - 1] + "…" if isinstance(value, str) and len(value) > size else value
