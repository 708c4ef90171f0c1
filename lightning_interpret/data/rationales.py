"""What people selected of a text, as spans of its characters: whatever tokenisation it was written down in."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

Spans = tuple[tuple[int, int], ...]

#: What stands in a field of a table where there is nothing.
NOTHING = ("", "nan", "none", "null")

_WORD = re.compile(r"\S+")


def read_rationale(value: Any, text: str) -> Spans | None:
    """Return a rationale as spans ``(start, end)`` of characters, the end not included; ``None`` where there is none.

    Args:
        value: A list, or one as JSON: of ``[start, end]`` in characters, or of a flag 0 or 1 for each word of the text
            between spaces. Nothing, an empty text or NaN says that nobody was asked; an empty list, that nothing was
            selected.
        text: The text that it is of.

    Raises:
        ValueError: If it is no such list, or does not fit the text.
    """
    if isinstance(value, str):
        if value.strip().lower() in NOTHING:
            return None
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON ({error.msg}, column {error.colno})") from error
    if value is None or value != value:
        return None
    if not isinstance(value, list | tuple):
        raise ValueError(f"a {type(value).__name__}, not a list of [start, end] or of a flag for each word")
    found = [list(each) if isinstance(each, list | tuple) else each for each in value]
    if all(isinstance(each, list) for each in found):
        return _trimmed(_checked(found, text), text)
    words = [match.span() for match in _WORD.finditer(text)]
    return spans_of_tokens(found, words, text)


def spans_of_tokens(flags: Sequence[Any], offsets: Sequence[tuple[int, int]], text: str) -> Spans:
    """Return the stretches of tokens that are flagged, of any tokenisation whose offsets are known.

    Args:
        flags: For each token whether it was selected, 0 or 1.
        offsets: For each token its ``(start, end)`` in the text; those of no characters are in no stretch.
        text: The text.

    Raises:
        ValueError: If there are more or fewer flags than tokens, one is neither 0 nor 1, or an offset is outside.
    """
    if len(flags) != len(offsets):
        raise ValueError(f"{len(flags)} flags, but the text has {len(offsets)} tokens")
    wrong = [flag for flag in flags if flag not in (0, 1)]
    if wrong:
        raise ValueError(f"the flag {wrong[0]!r}, which is neither 0 nor 1")
    tokens = [(bool(flag), place) for flag, place in zip(flags, offsets, strict=True) if place[0] != place[1]]
    _checked([list(place) for _, place in tokens], text)
    stretches = [[place for _, place in some] for flag, some in groupby(tokens, key=lambda each: each[0]) if flag]
    return tuple((places[0][0], places[-1][1]) for places in stretches)


def offsets_of_words(words: Sequence[str], text: str) -> Spans:
    """Return where words stand in a text, for rationales that are given for words alone.

    Args:
        words: Words in reading order, as they are written in the text.
        text: The text.

    Raises:
        ValueError: If one of them is not in the text after the one before it.
    """
    found, at = [], 0
    for number, word in enumerate(words):
        start = text.find(word, at)
        if start < 0:
            raise ValueError(f"word {number}, {word[:40]!r}, is not in the text after character {at}")
        at = start + len(word)
        found.append((start, at))
    return tuple(found)


def _trimmed(spans: Spans, text: str) -> Spans:
    """Return the spans without white space at their ends, which some tokenizers give to the token after it."""
    inner = ((start, text[start:end]) for start, end in spans)
    found = ((start + len(said) - len(said.lstrip()), said.strip()) for start, said in inner)
    return tuple((start, start + len(said)) for start, said in found if said)


def _checked(spans: Sequence[Any], text: str) -> Spans:
    for span in spans:
        whole = len(span) == 2 and all(isinstance(at, int) and not isinstance(at, bool) for at in span)
        if not whole or not 0 <= span[0] <= span[1] <= len(text):
            raise ValueError(f"the span {str(span)[:40]}, but the text has {len(text)} characters: [start, end] in it")
    return tuple((start, end) for start, end in spans)
