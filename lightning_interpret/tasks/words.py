"""Which tokens make a word: read off the tokenizer's own marks, so that it works on ids alone.

A batch at validation time holds ids, not texts. WordPiece marks what continues a word (``##``), byte-level and
SentencePiece vocabularies mark what begins one (``Ġ``, ``▁``), older ones what ends it (``</w>``); a vocabulary with no
mark has a word a token. Where words are not written apart (CJK) and at punctuation, these begin a word anew.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

_CONTINUES, _BEGINS, _ENDS = "##", ("Ġ", "▁"), "</w>"
_CUT = "\ufffd"  # what stands for bytes that are no whole character
_INSIDE_WORDS = "'’-_"


def mark_style(vocabulary: Sequence[str]) -> str:
    """Return how a vocabulary marks words: ``begins``, ``continues``, ``ends`` or ``whole`` (no mark)."""
    counts = {
        "begins": sum(token.startswith(_BEGINS) for token in vocabulary),
        "continues": sum(token.startswith(_CONTINUES) and len(token) > 2 for token in vocabulary),
        "ends": sum(token.endswith(_ENDS) for token in vocabulary),
    }
    style = max(counts, key=lambda name: counts[name])
    return style if counts[style] else "whole"


def group(
    tokens: Sequence[str], special: Sequence[bool], style: str, decode: Callable[[list[str]], str]
) -> tuple[int | None, ...]:
    """Return the word of each token, counted from 0 in reading order; ``None`` for special tokens.

    Args:
        tokens: The tokenizer's own tokens of one text.
        special: Which of them are special tokens or padding.
        style: What :func:`mark_style` says of the vocabulary.
        decode: The tokenizer's ``convert_tokens_to_string``.
    """
    words: list[int | None] = []
    current = -1
    run: list[str] = []  # the tokens of the word so far, or of its last character where that is cut in bytes
    for token, skip in zip(tokens, special, strict=True):
        if skip:
            words.append(None)
            run = []
            continue
        if not (run and _continues(token, run, style, decode)):
            current, run = current + 1, []
        words.append(current)
        run = [*run, token] if style == "begins" and _surface(run, decode).endswith(_CUT) else [token]
    return tuple(words)


def texts(tokens: Sequence[str], words: Sequence[int | None], decode: Callable[[list[str]], str]) -> tuple[str, ...]:
    """Return the text of each word, as the tokenizer joins its tokens."""
    pieces: dict[int, list[str]] = {}
    for token, word in zip(tokens, words, strict=True):
        if word is not None:
            pieces.setdefault(word, []).append(token)
    return tuple(decode(piece).strip() or "".join(piece) for piece in pieces.values())


def _continues(token: str, run: list[str], style: str, decode: Callable[[list[str]], str]) -> bool:
    if style == "continues":
        return token.startswith(_CONTINUES)
    if style == "ends":
        return not run[-1].endswith(_ENDS)
    if style == "whole" or token.startswith(_BEGINS):
        return False
    before = _surface(run, decode)
    if before.endswith(_CUT):  # in the middle of a character
        return True
    return not (_stands_alone(_surface([token], decode)[:1]) or _stands_alone(before[-1:]))


def _surface(tokens: list[str], decode: Callable[[list[str]], str]) -> str:
    """Return what is written: tokens of plain ASCII as they are, bytes of other characters put together."""
    joined = "".join(tokens)
    return joined if joined.isascii() and not joined.startswith("<0x") else decode(tokens)


def _stands_alone(character: str) -> bool:
    """Whether a character is a word of its own: CJK, punctuation or a symbol, but not what stands inside words."""
    if not character or character in _INSIDE_WORDS:
        return False
    category = unicodedata.category(character)
    wide = unicodedata.east_asian_width(character) == "W" or (category == "Lo" and "\u0e00" <= character <= "\u0eff")
    return wide or category[0] in "PS"
