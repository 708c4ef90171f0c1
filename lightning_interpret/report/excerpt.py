"""A text with the words that mattered: in one piece if it is short, and else in windows around them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from lightning_interpret.explanations import AttributionRow
from lightning_interpret.report.catalogue import Html
from lightning_interpret.texts import printable

SHORT, WHOLE = 320, 1500  # characters that are shown at once, and of the whole text
_AROUND, _WINDOWS, _WORD = 80, 3, 120  # characters on either side, windows of a text, characters of a marked word
_MARKED, _MATTERS = 12, 0.35  # words that are marked, and from which share of the strongest
_NAMED = 3  # words that a sentence names
_SEARCHED = 20_000  # characters in which words without places are looked for
_SPACE, _SAID = re.compile(r"\s+"), re.compile(r"\w")
_JOINERS = "\u200c\u200d"


@dataclass(frozen=True)
class Word:
    """A word at its place in a text.

    Attributes:
        start: Where it begins.
        end: Where it ends.
        score: What it contributes to the answer, below 0 against it.
        number: Which word of the attribution it is; neighbours differ by 1.
    """

    start: int
    end: int
    score: float
    number: int = 0


def words_of(attribution: AttributionRow | None, text: str) -> list[Word]:
    """Return the words of an attribution at their places in a text; those that are not found are left out."""
    if attribution is None or attribution.units == "location":
        return []
    merged = [(word.text, word.score) for word in attribution.merged() if not word.special]
    places = _told(attribution, text)
    found = places if len(places) == len(merged) else _searched([word for word, _ in merged], text)
    return [
        Word(*place, score if score == score else 0.0, number)  # a number that is none weighs nothing
        for number, (place, (_, score)) in enumerate(zip(found, merged, strict=True))
        if place is not None
    ]


def found_in(text: str, words: Iterable[str]) -> list[Word]:
    """Return where texts occur as words of their own, each with the same weight."""
    places: list[re.Match[str]] = []
    for word in words:
        if not 0 < len(word.strip()) <= _WORD:
            continue
        pattern = rf"(?<!\w){re.escape(word)}(?!\w)" if word.isascii() else re.escape(word)
        places += re.finditer(pattern, text[:_SEARCHED], re.IGNORECASE)
    ordered = sorted((match.start(), match.end()) for match in places)
    return [Word(start, end, 1.0, 2 * number) for number, (start, end) in enumerate(ordered)]


def marked(words: Sequence[Word]) -> list[Word]:
    """Return the words that are strong enough to be marked, in reading order."""
    scale = max((abs(word.score) for word in words), default=0.0)
    strong = [word for word in words if scale and abs(word.score) >= _MATTERS * scale]
    return sorted(sorted(strong, key=lambda word: -abs(word.score))[:_MARKED], key=lambda word: word.start)


def reasons(words: Sequence[Word], text: str) -> tuple[list[str], bool]:
    """Return the phrases that speak most for an answer, the strongest first, and whether they are most of it.

    Words side by side are one phrase, and punctuation is none. They are most of it where they add up to half of all
    that speaks for it.
    """
    total = sum(word.score for word in words if word.score > 0)
    strong = [word for word in marked(words) if word.score > 0 and _SAID.search(text, word.start, word.end)]
    phrases: list[list[Word]] = []
    for word in strong:
        if phrases and word.number == phrases[-1][-1].number + 1:
            phrases[-1].append(word)
        else:
            phrases.append([word])
    weights: dict[str, float] = {}
    for phrase in phrases:
        name = plain(text[phrase[0].start : phrase[-1].end], _WORD)
        name = next((known for known in weights if known.casefold() == name.casefold()), name)
        weights[name] = weights.get(name, 0.0) + sum(word.score for word in phrase)
    named = sorted(weights, key=lambda name: -weights[name])[:_NAMED]
    return named, bool(named) and sum(weights[name] for name in named) >= 0.5 * total


def excerpt(text: str, words: Sequence[Word]) -> Html:
    """Return a text with its words marked; of a long one windows around the strongest."""
    chosen = marked(words)
    return _html(text, [(0, len(text))] if len(text) <= SHORT else _windows(text, chosen), chosen)


def whole(text: str, words: Sequence[Word]) -> tuple[Html, int]:
    """Return the beginning of a text with its words marked, and how many characters are left out."""
    end = _edge(text, min(len(text), WHOLE))
    return _html(text, [(0, end)], marked(words), ends=False), len(text) - end


def plain(text: str | None, longest: int) -> str:
    """Return a text on one line, at most so many characters of it; of a longer one the last is an ellipsis."""
    kept = (text or "")[: 2 * longest]
    line = _SPACE.sub(" ", kept).strip()
    whole = len(kept) == len(text or "") and len(line) <= longest
    return line if whole else line[: _edge(line, min(len(line), longest - 1))].rstrip() + "…"


def _told(attribution: AttributionRow, text: str) -> list[tuple[int, int] | None]:
    """Return the places of the words by the offsets of their tokens, one a word; none where these are not known."""
    offsets, ids = attribution.offsets, attribution.word_ids or tuple(range(len(attribution.tokens)))
    if offsets is None or len(offsets) != len(ids):
        return []
    places: list[tuple[int, int]] = []
    before: int | None = None
    for word, (start, end) in zip(ids, offsets, strict=True):
        if word is not None and word == before:
            places[-1] = (places[-1][0], max(places[-1][1], end))
        elif word is not None:
            places.append((start, end))
        before = word
    rising = all(a[1] <= b[0] for a, b in pairwise(places))
    return list(places) if rising and all(0 <= a < b <= len(text) for a, b in places) else []


def _searched(words: Sequence[str], text: str) -> list[tuple[int, int] | None]:
    """Return where words stand one after the other; ``None`` for one that is not found."""
    lower, at = text[:_SEARCHED].lower(), 0
    lower = lower if len(lower) == min(len(text), _SEARCHED) else text[:_SEARCHED]  # a letter may become two
    places: list[tuple[int, int] | None] = []
    for word in words:
        start = lower.find(word.lower(), at) if word.strip() else -1
        places.append(None if start < 0 else (start, start + len(word)))
        at = at if start < 0 else start + len(word)
    return places


def _windows(text: str, chosen: Sequence[Word]) -> list[tuple[int, int]]:
    strongest = sorted(chosen, key=lambda word: -abs(word.score))[:_WINDOWS]
    if not strongest:
        return [(0, _snapped(text, SHORT, -1))]
    joined: list[tuple[int, int]] = []
    for word in sorted(strongest, key=lambda word: word.start):
        start = _snapped(text, max(0, word.start - _AROUND), 1)
        end = _snapped(text, min(len(text), min(word.end, word.start + _WORD) + _AROUND), -1)
        if joined and start <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((min(start, word.start), max(end, word.start + 1)))
    return joined


def _snapped(text: str, at: int, by: int) -> int:
    """Return a place between words near another one, or between letters where there is none."""
    if not 0 < at < len(text):
        return at
    for place in range(at, at + 16 * by, by):
        if 0 < place < len(text) and text[place - 1 if by > 0 else place].isspace():
            return place
    return _edge(text, at)


def _edge(text: str, at: int) -> int:
    """Return the place before a mark's letter, where a text may be cut."""
    for place in range(at, max(0, at - 16), -1):
        around = text[place - 1 : place + 1]
        if place >= len(text) or not (
            unicodedata.category(text[place]) in {"Mn", "Me"} or any(joiner in around for joiner in _JOINERS)
        ):
            return place
    return at


def _html(text: str, windows: Sequence[tuple[int, int]], chosen: Sequence[Word], ends: bool = True) -> Html:
    parts: list[str] = []
    for number, (start, end) in enumerate(windows):
        parts.append("… " if start > 0 and not number else " … " if number else "")
        parts += _marks(text, start, end, chosen)
    parts.append(" …" if ends and windows and windows[-1][1] < len(text) else "")
    return Html("".join(parts))


def _marks(text: str, start: int, end: int, chosen: Sequence[Word]) -> Iterator[str]:
    at = start
    for word in chosen:
        first, last = max(at, word.start), min(end, word.end)
        if first < last:
            side = "for" if word.score > 0 else "against"
            yield _escaped(text[at:first])
            yield f'<mark class="{side}">{_escaped(text[first:last])}</mark>'
            at = last
    yield _escaped(text[at:end])


def _escaped(text: str) -> str:
    return escape(printable(_SPACE.sub(" ", text)))
