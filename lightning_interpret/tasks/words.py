"""Which tokens make a word: read off the tokenizer's own marks, so that it works on ids alone.

A batch at validation time holds ids, not texts. WordPiece marks what continues a word (``##``), byte-level and
SentencePiece vocabularies mark what begins one (``Ġ``, ``▁``), older ones what ends it (``</w>``); a vocabulary with no
mark has a word a token. Where words are not written apart (CJK) and at punctuation, these begin a word anew.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence

_CONTINUES, _BEGINS, _ENDS = "##", ("Ġ", "▁"), "</w>"
_CUT = "\ufffd"  # what stands for bytes that are no whole character
_BYTES = 4  # of one character, at most
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
    current, before = -1, ""  # what is written by the run before; nothing after a special token
    for run in _runs(tokens, special, style, decode):
        if special[run[0]]:
            words.append(None)
            before = ""
            continue
        written = _written([tokens[i] for i in run], style, decode)
        if not (before and _continues(written, before, style)):
            current += 1
        words += [current] * len(run)
        before = written
    return tuple(words)


def texts(tokens: Sequence[str], words: Sequence[int | None], decode: Callable[[list[str]], str]) -> tuple[str, ...]:
    """Return the text of each word, as the tokenizer joins its tokens."""
    pieces: dict[int, list[str]] = {}
    for token, word in zip(tokens, words, strict=True):
        if word is not None:
            pieces.setdefault(word, []).append(token)
    return tuple(decode(piece).strip() or "".join(piece) for piece in pieces.values())


def marks(vocabulary: Sequence[str], decode: Callable[[list[str]], str]) -> tuple[list[bool], list[bool], list[bool]]:
    """Return for each token of a vocabulary whether it begins a word, closes one, and is white space.

    By these :func:`group` can be followed on ids alone, many texts at once: a token that neither begins a word nor
    comes after one that closes it continues what stands before it, and so does any after white space. Bytes of a
    character that is cut are taken to continue.
    """
    style = mark_style(vocabulary)
    written = [_written([token], style, decode) for token in vocabulary]
    if style == "continues":
        starts = [not each.startswith(_CONTINUES) for each in written]
        return starts, [False] * len(written), [False] * len(written)
    if style == "ends":
        return [False] * len(written), [each.endswith(_ENDS) for each in written], [False] * len(written)
    if style == "whole":
        return [True] * len(written), [True] * len(written), [False] * len(written)
    starts = [each[:1].isspace() or (each[:1] != _CUT and _stands_alone(each[:1])) for each in written]
    return starts, [each[-1:] != _CUT and _stands_alone(each[-1:]) for each in written], [*map(str.isspace, written)]


def _runs(
    tokens: Sequence[str], special: Sequence[bool], style: str, decode: Callable[[list[str]], str]
) -> Iterator[list[int]]:
    """Yield the places of tokens, those of one character that is cut into bytes together."""
    run: list[int] = []
    for i in range(len(tokens)):
        if run and (special[i] or tokens[i].startswith(_BEGINS)):
            yield run
            run = []
        run = [*run, i]
        whole = style != "begins" or not _written([tokens[k] for k in run], style, decode).endswith(_CUT)
        if special[i] or whole or len(run) == _BYTES:
            yield run
            run = []
    if run:
        yield run


def _continues(written: str, before: str, style: str) -> bool:
    if style == "continues":
        return written.startswith(_CONTINUES)
    if style == "ends":
        return not before.endswith(_ENDS)
    if style == "whole":
        return False
    if before.isspace():  # white space belongs to the word that it begins
        return True
    return not (written[:1].isspace() or _stands_alone(written[:1]) or _stands_alone(before[-1:]))


def _written(run: list[str], style: str, decode: Callable[[list[str]], str]) -> str:
    """Return what tokens write; a mark that begins a word is a space."""
    if style != "begins":
        return run[0]
    begins = run[0].startswith(_BEGINS)
    plain = "".join(run)[begins:]
    if not plain.isascii() or plain.startswith("<0x"):
        plain = decode(run).removeprefix(" " if begins else "")
    return " " + plain if begins else plain


def _stands_alone(character: str) -> bool:
    """Whether a character is a word of its own: CJK, punctuation or a symbol, but not what stands inside words."""
    if not character or character in _INSIDE_WORDS:
        return False
    category = unicodedata.category(character)
    wide = unicodedata.east_asian_width(character) == "W" or (category == "Lo" and "\u0e00" <= character <= "\u0eff")
    return wide or category[0] in "PS"
