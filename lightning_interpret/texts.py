"""Texts and numbers as they are shown to a reader: printable, short, with a sign."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache

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


def readable(token: str) -> str:
    """Return a token as it is read: marks of gaps and of continuations taken away, bytes as the characters they are.

    A byte-level vocabulary (GPT-2's) writes each byte as a letter: what is no whole character stays as it is written.
    """
    plain = token[2:] if token.startswith("##") and len(token) > 2 else token.removesuffix("</w>")
    if not plain.isascii():
        found = bytes(table[c] for c in plain) if (table := _bytes()).keys() >= set(plain) else b"\xff"
        plain = _decoded(found, plain).replace("▁", " ").replace("Ġ", " ")
    return plain.strip(" ") or ("␣" if plain else token)


def joins_without_space(before: str, here: str) -> bool:
    """Return whether two words are written without a space between them, as Chinese and Japanese ones are."""

    def wide(character: str) -> bool:
        return bool(character) and unicodedata.east_asian_width(character) == "W" and not "가" <= character <= "힣"

    return wide(before[-1:]) and wide(here[:1])


def segment_name(names: Sequence[str] | None, number: int) -> str:
    """Return what a part of a text is called: its own name, or first and second of a pair."""
    if names and 0 <= number < len(names) and str(names[number]).strip():
        return str(names[number])
    return ("first", "second")[number] if 0 <= number < 2 else f"part {number + 1}"


def shown_segments(segment: Sequence[int | None] | None, special: Sequence[bool], size: int) -> tuple[int, ...]:
    """Return for each of ``size`` tokens the part of the text that it is shown in; lists may be too short.

    A special token of a part that has no other token is shown in the part before it.
    """
    given = [(segment[i] or 0) if segment is not None and i < len(segment) else 0 for i in range(size)]
    known = {part for i, part in enumerate(given) if not any(special[i : i + 1])} or set(given)
    found: list[int] = []
    for i, part in enumerate(given):
        found.append(part if part in known else found[-1] if found else next(p for p in given[i:] if p in known))
    return tuple(found)


def _decoded(found: bytes, otherwise: str) -> str:
    try:
        return found.decode()
    except UnicodeDecodeError:
        return otherwise


@cache
def _bytes() -> dict[str, int]:
    """Return the byte that each letter of a byte-level vocabulary stands for (Radford et al., 2019)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(others)}


def _printable(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    if unicodedata.category(character) in _HIDDEN and character not in _JOINERS:
        return character.encode("unicode_escape").decode()
    return character
