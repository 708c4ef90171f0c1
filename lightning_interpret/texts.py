"""Texts and numbers as they are shown to a reader: printable, short, with a sign."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_NAMED = {"\n": "↵", "\r": "␍", "\t": "⇥"}
_JOINERS = "\u200c\u200d"  # invisible, but they shape Arabic, Indic scripts and emoji
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, format (bidi overrides), lone surrogates, line separators


def printable(text: str) -> str:
    """Return the text with every control, format and line-separating character made visible."""
    return "".join(map(_printable, text))


def signed(score: float) -> str:
    """Return a score in two significant digits with its sign, without an exponent below 100,000."""
    if score == 0:
        return "0"
    return f"{score:+.0f}" if 10 <= abs(score) < 1e5 else f"{score:+.2g}"


def shortened(text: str, longest: int) -> str:
    """Return at most so many characters of a text, an ellipsis for the rest; no mark is cut from its letter."""
    if len(text) <= longest:
        return text
    end = max(1, longest - 1)
    while end > 1 and (unicodedata.category(text[end]) in {"Mn", "Me"} or {text[end], text[end - 1]} & set(_JOINERS)):
        end -= 1
    return text[:end].rstrip() + "…"


def direction(words: Iterable[str]) -> str:
    """Return the direction in which most of the words are read, ``rtl`` for Arabic or Hebrew and else ``ltr``."""
    found = [next((c for c in map(unicodedata.bidirectional, word) if c in ("L", "R", "AL")), "") for word in words]
    return "rtl" if sum(c in ("R", "AL") for c in found) > found.count("L") else "ltr"


def _printable(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    if unicodedata.category(character) in _HIDDEN and character not in _JOINERS:
        return character.encode("unicode_escape").decode()
    return character
