"""What records of a text as the model read it share."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_interpret.records.row import Row


@dataclass(frozen=True, kw_only=True)
class TokensRow(Row):
    """A record of a text as the model read it; the fields are those of :class:`AttributionRow`, padding stripped.

    Attributes:
        tokens: The tokenizer's own tokens.
        word_ids: For each token the word it belongs to, ``None`` for special tokens.
        words: The text of each word.
        special: Whether each token is a special one.
        offsets: For each token its ``(start, end)`` in the text, or ``None`` where the batch has none.
        segment: For each token, which of a pair of texts it is of, or ``None``.
    """

    tokens: tuple[str, ...] = ()
    word_ids: tuple[int | None, ...] = ()
    words: tuple[str, ...] = ()
    special: tuple[bool, ...] = ()
    offsets: tuple[tuple[int, int], ...] | None = None
    segment: tuple[int, ...] | None = None
