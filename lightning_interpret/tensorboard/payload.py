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
PER_TOKEN = (
    *("tokens", "scores", "unit_errors", "word_ids", "special", "offsets", "segment"),
    *("selected", "probabilities", "gold_rationale", "token_weights"),
)
_PAGE = re.compile(r"(?P<first>.*/probe_\d+)/page_(?P<number>\d{1,9})")
_PROBE = re.compile(r"interpret/(?P<monitor>.*)/probe_(?P<probe>\d{1,9})")
#: Characters of a fact: a longer text is cut.
FACT = 200
_SNIPPET = 160
_EXACT = 2**53  # the largest integer that a browser is sure to read as it is
#: What the tab itself says of a step, and a picture: a record's own fields of these names are no facts.
_NO_FACTS = ("problem", "drift", "largest", "image")


def page_of(tag: str) -> tuple[str, int]:
    """Return the tag of a page's first page, and which page it is, from 1."""
    match = _PAGE.fullmatch(tag) if "/page_" in tag else None
    return (match["first"], int(match["number"])) if match else (tag, 1)


def probe_of(tag: str) -> tuple[str, int | None]:
    """Return the monitor and the probe that a tag is of; a tag of another form is its own monitor."""
    match = _PROBE.fullmatch(tag)
    return (match["monitor"], int(match["probe"])) if match else (tag, None)


def parse(text: str) -> dict[str, Any]:
    """Return one page; numbers that a float cannot hold, or that are not finite, are ``None``.

    Integers that a browser would round, such as ids that are hashes, are texts.

    Raises:
        ValueError: If the text is not JSON, or not an object with a list of records.
    """
    try:
        page = json.loads(text, parse_constant=lambda _: None, parse_float=_float, parse_int=_int)
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
    whole = numbers == list(range(1, len(ordered) + 1))
    if len(origins) != 1 or not whole or ordered[0].get("pages", 1) != len(ordered):
        raise ValueError(f"Expected every page of one row, but got pages {numbers} of {sorted(origins)}.")
    if len(ordered) == 1:
        return dict(ordered[0])
    records = [record for page in ordered for record in page["records"]]
    if all(isinstance(record, dict) and {"offset", "word_offset"} <= record.keys() for record in records):
        records = [_whole(records)]
    elif all(isinstance(record, dict) and isinstance(record.get("target_offset"), int) for record in records):
        records = [_with_all_targets(records)]
    return {**ordered[0], "page": 1, "pages": 1, "records": records}


def shifted(word_ids: Sequence[int | None], by: int) -> list[int | None]:
    """Return the words of tokens, counted from another word."""
    return [None if i is None else i + by for i in word_ids]


def facts(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return what fits on a line of a list: the first record's numbers and short texts, and its words as ``text``.

    ``largest`` is the largest absolute score of a word or a location, special tokens and units of no location left out,
    and those that have no number.
    """
    record = payload["records"][0] if payload["records"] else {}
    if not isinstance(record, dict):
        return {}
    plain = {
        name: value for name, value in record.items() if name not in _NO_FACTS and isinstance(value, str | int | float)
    }
    found = {name: _short(value, FACT) for name, value in plain.items()}
    if "reading" in found:  # the text as a reader has it, of a record that has tokens alone
        found.setdefault("text", _short(found.pop("reading"), _SNIPPET))
    words = record.get("words") or record.get("tokens")
    if record.get("units") == "location":
        found.setdefault("text", "Image")
    if "text" not in found and isinstance(words, list):
        found["text"] = _short(" ".join(map(str, words[:_SNIPPET])), _SNIPPET)
    sizes = [abs(score) for each in (record, *_each_target(record)) for score in _word_scores(each)]
    sizes = [size for size in sizes if math.isfinite(size)]
    if sizes:
        found["largest"] = max(sizes)
    return found


def drift(payload: Mapping[str, Any], before: Mapping[str, Any]) -> float | None:
    """Return how far the first records are from each other; ``None`` where they do not compare.

    Of scores, and of weights of tokens, 1 − cosine: 0 unchanged, 2 turned round; two lists of zeros are the same (0),
    one of zeros and another have nothing in common (1). Of several targets these are the scores of all that are in both
    by their name and place, which must read as much. Of a selection, the share of it that was not selected before;
    of a tree of spans, the share of those that it chose which were not in the tree before.
    """
    for chosen in (_selected, _spans):
        now, then = chosen(payload), chosen(before)
        if now is not None and then is not None:
            return len(now - then) / len(now) if now else None
    a, b = _of_same_targets(payload, before) or (_scores(payload), _scores(before))
    if a is None or b is None or len(a) != len(b):
        return None
    size_a, size_b = math.hypot(*a), math.hypot(*b)
    if not size_a or not size_b:
        return float(size_a != size_b)
    cosine = sum(x / size_a * (y / size_b) for x, y in zip(a, b, strict=True))
    return round(1 - max(-1.0, min(1.0, cosine)), 12)  # the same weights are 0, whatever was rounded


def _of_same_targets(payload: Mapping[str, Any], before: Mapping[str, Any]) -> tuple[list[float], list[float]] | None:
    """Return the scores of the targets that are in both records, as one list each; ``None`` where there are none."""
    now, then = _targets(payload), _targets(before)
    both = [key for key in now if key in then]
    if not both:
        return None
    return [score for key in both for score in now[key]], [score for key in both for score in then[key]]


def _targets(payload: Mapping[str, Any]) -> dict[Any, list[float]]:
    """Return the scores of each target by its name, its place, how much it reads, and which of several such it is."""
    found: dict[Any, list[float]] = {}
    for target in _list(payload, "targets") or []:
        scores = target.get("scores") if isinstance(target, dict) else None
        if not isinstance(scores, list) or not all(isinstance(score, int | float) for score in scores):
            continue
        key = (str(target.get("name")), str(target.get("span")), len(scores))
        found[(*key, sum(other[:3] == key for other in found))] = scores
    return found


def _scores(payload: Mapping[str, Any]) -> list[float] | None:
    scores = _list(payload, "scores")
    found = _list(payload, "token_weights") if scores is None else scores
    return found if found is not None and all(isinstance(s, int | float) for s in found) else None


def _selected(payload: Mapping[str, Any]) -> set[Any] | None:
    """Return the places of the tokens that are selected, special ones left out."""
    selected, special = _list(payload, "selected"), _list(payload, "special") or []
    return None if selected is None else {i for i, kept in enumerate(selected) if kept and not any(special[i : i + 1])}


def _spans(payload: Mapping[str, Any]) -> set[Any] | None:
    """Return where the spans of a tree lie, but for the whole text and single units."""
    nodes = _list(payload, "nodes")
    if nodes is None:
        return None
    ends = [tuple(node.get(name) for name in ("start", "end")) for node in nodes if isinstance(node, dict)]
    found = {(a, b) for a, b in ends if isinstance(a, int) and isinstance(b, int) and b - a > 1}
    return {span for span in found if span[1] - span[0] < max(b - a for a, b in found)}


def _list(payload: Mapping[str, Any], name: str) -> list[Any] | None:
    record = payload["records"][0] if payload["records"] else None
    found = record.get(name) if isinstance(record, dict) else None
    return found if isinstance(found, list) else None


def _word_scores(record: Mapping[str, Any]) -> list[float]:
    scores, ids = record.get("scores"), record.get("word_ids")
    if not isinstance(scores, list):
        return []
    special = record.get("special")
    if record.get("units") == "location" and isinstance(special, list) and len(special) == len(scores):
        ids = [None if out else i for i, out in enumerate(special)]
    elif not isinstance(ids, list) or len(ids) != len(scores):
        ids = list(range(len(scores)))
    sums: list[float] = []
    before = None
    for score, word in zip(scores, ids, strict=True):
        number = float(score) if isinstance(score, int | float) else math.nan  # which no sum gets rid of
        if word is not None and word == before:
            sums[-1] += number
        elif word is not None:
            sums.append(number)
        before = word
    return sums


def _each_target(record: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Yield each target of a record with its scores and the words that these are of."""
    targets, ids = record.get("targets"), record.get("word_ids")
    for target in targets if isinstance(targets, list) else ():
        scores = target.get("scores") if isinstance(target, dict) else None
        if isinstance(scores, list):
            yield {"scores": scores, "word_ids": ids[: len(scores)] if isinstance(ids, list) else None}


def _with_all_targets(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    whole = {name: value for name, value in parts[0].items() if name != "target_offset"}
    return whole | {"targets": [target for part in parts for target in part.get("targets") or []]}


def _whole(windows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    whole = {name: value for name, value in windows[0].items() if name not in ("offset", "word_offset")}
    for window in windows[1:]:
        for name in (name for name in PER_TOKEN if name in whole):
            values, start = window.get(name), window["word_offset"]
            if name == "word_ids" and values is not None:
                values = shifted(values, start)
            whole[name] = None if values is None else whole[name] + values
        whole["words"] = whole["words"][: window["word_offset"]] + window["words"]
    return whole


def _short(value: Any, size: int) -> Any:
    return value[: size - 1] + "…" if isinstance(value, str) and len(value) > size else value


def _float(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _int(text: str) -> int | str | None:
    if len(text) >= 300:
        return None
    number = int(text)
    return number if abs(number) <= _EXACT else text
