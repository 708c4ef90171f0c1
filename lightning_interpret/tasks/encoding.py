"""Rows of tokens to a batch: padding of whatever goes by tokens, and pairs of texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import BatchEncoding

_LONE = re.compile("[\ud800-\udfff]")  # half a character, which JSON can say and no tokenizer takes
_FILL: dict[str, Any] = {"labels": -100, "word_ids": -1, "offset_mapping": (0, 0)}


def whole(text: str) -> str:
    """Return a text that a tokenizer takes, of as many characters: halves of characters are replaced."""
    return _LONE.sub("\ufffd", text)


def need_places(tokenizer: Any, what: str) -> None:
    """Raise where a tokenizer does not know where its tokens stand in the text.

    Raises:
        ValueError: If it is a slow one.
    """
    if not tokenizer.is_fast:
        raise ValueError(
            f"{what} by the places of tokens in the text, which {type(tokenizer).__name__} does not know: use a fast "
            "tokenizer."
        )


def padded(tokenizer: Any, rows: Sequence[Mapping[str, Sequence[Any]]], side: str | None = None) -> BatchEncoding:
    """Return rows as tensors ``(B, T, ...)``, padded to the longest on the tokenizer's side.

    Args:
        tokenizer: The tokenizer.
        rows: For each example what it has a token, by name: all of one length.
        side: Where the padding stands, ``left`` or ``right``; by default where the tokenizer has it.

    Raises:
        ValueError: If they are of several lengths, and the tokenizer has no padding token.
    """
    width = max(1, *(len(row["input_ids"]) for row in rows))  # texts of no tokens are one token of padding
    if tokenizer.pad_token_id is None and {len(row["input_ids"]) for row in rows} != {width}:
        raise ValueError(
            "The tokenizer has no padding token, so texts of several lengths, or of none, make no batch: set "
            "`tokenizer.pad_token = tokenizer.eos_token` (and `model.config.pad_token_id`), or use batch size 1."
        )
    fill = _FILL | {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    left = (side or tokenizer.padding_side) == "left"
    made = BatchEncoding()
    for name in rows[0]:
        blanks = [[fill.get(name, 0)] * (width - len(row[name])) for row in rows]
        lines = [
            blank + list(row[name]) if left else list(row[name]) + blank
            for row, blank in zip(rows, blanks, strict=True)
        ]
        made[name] = torch.tensor(lines, dtype=torch.long)
    return made


def split_rows(found: BatchEncoding, count: int) -> list[dict[str, list[Any]]]:
    """Return what a tokenizer gave each of some texts, by name."""
    return [{name: list(values[row]) for name, values in found.items()} for row in range(count)]


def encode_pairs(tokenizer: Any, pairs: Sequence[tuple[str, str]], max_length: int | None) -> BatchEncoding:
    """Return the batch of some pairs of texts, with ``offset_mapping`` in each text, and ``note`` of what was cut.

    The longer text of a pair is cut first.
    """
    firsts, seconds = ([whole(pair[part]) for pair in pairs] for part in (0, 1))
    found = tokenizer(
        firsts,
        seconds,
        truncation="longest_first" if max_length is not None else False,
        max_length=max_length,
        return_attention_mask=True,
        return_offsets_mapping=tokenizer.is_fast,
        verbose=False,
    )
    lengths = [len(ids) for ids in found["input_ids"]]
    batch = padded(tokenizer, split_rows(found, len(pairs)))
    full = [i for i, length in enumerate(lengths) if length == max_length]
    before = (
        tokenizer([firsts[i] for i in full], [seconds[i] for i in full], verbose=False)["input_ids"] if full else []
    )
    batch["note"] = [None] * len(pairs)
    for i, ids in zip(full, before, strict=True):
        batch["note"][i] = cut_note(lengths[i], len(ids))
    return batch


def cut_note(length: int, before: int) -> str | None:
    """Return what to say of a text of which only ``length`` of ``before`` tokens are read."""
    return f"cut to {length} of {before} tokens: the model takes no more" if length < before else None
