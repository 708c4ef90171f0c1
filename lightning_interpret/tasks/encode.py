"""Texts to a batch: tokens, padding, labels, ids, and a note on every text that was cut."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer, BatchEncoding, PreTrainedModel

from lightning_interpret.functional.character_spans import tokens_of_spans

_LONE = re.compile("[\ud800-\udfff]")  # half a character, which JSON can say and no tokenizer takes


def named_tokenizer(name: str) -> Any:
    """Return a tokenizer by its name or directory.

    Raises:
        OSError: If there is none.
    """
    try:
        found = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise OSError(f"`tokenizer={name!r}` cannot be loaded ({str(error).splitlines()[0]})") from error
    # where a directory holds a model alone, `transformers` makes a tokenizer that knows its special tokens only
    if set(found.get_vocab().values()) <= set(found.all_special_ids):
        raise OSError(f"`tokenizer={name!r}` has no vocabulary: save the tokenizer there with `save_pretrained`.")
    return found


def max_tokens(tokenizer: Any, module: nn.Module | None) -> int | None:
    """Return how many tokens a text may have: what the tokenizer says and what the positions of the model allow."""
    limits = [int(tokenizer.model_max_length)] if tokenizer.model_max_length < 10**9 else []
    if module is not None:
        tables = [part for name, part in module.named_modules() if name.endswith(("position_embeddings", ".wpe"))]
        limits += [
            # RoBERTa's positions begin after the padding id
            table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
            for table in tables
            if isinstance(table, nn.Embedding)
        ]
        models = [part for part in module.modules() if isinstance(part, PreTrainedModel)]
        positions = [getattr(model.config, "max_position_embeddings", None) for model in models]
        limits += [] if limits else [count for count in positions if isinstance(count, int) and count > 0]
    return min(limits, default=None)


def encode(
    tokenizer: Any,
    texts: Sequence[str],
    *,
    max_length: int | None = None,
    labels: Sequence[int] | None = None,
    example_ids: Sequence[int] | None = None,
    concepts: Sequence[Sequence[float]] | None = None,
    rationales: Sequence[Sequence[tuple[int, int]] | None] | None = None,
) -> BatchEncoding:
    """Return the batch of some texts, padded to the longest of them.

    The batch holds what the tokenizer returns, ``offset_mapping`` where it can tell, ``note`` (a list: how much of a
    text was cut, or None), and ``labels``, ``example_id``, ``concepts`` and ``rationale`` where they are given.

    Args:
        tokenizer: A `transformers` tokenizer.
        texts: The texts.
        max_length: Tokens a text may have; longer ones are cut.
        labels: Class of each text.
        example_ids: Stable id of each text in its data set.
        concepts: Labels of the concepts of each text, from 0 to 1, NaN where there is none.

        rationales: What people selected of each text, in spans of characters; ``None`` where nobody was asked. A token
            is selected that has a character in one of them.

    Raises:
        ValueError: If texts of several lengths cannot be padded, because the tokenizer has no padding token; or if
            there are rationales, and the tokenizer does not know where its tokens stand.
    """
    if rationales is not None and not tokenizer.is_fast:
        raise ValueError(
            f"Rationales are aligned by the places of tokens in the text, which {type(tokenizer).__name__} does not "
            "know: use a fast tokenizer, or leave them out."
        )
    batch = tokenizer(
        [_LONE.sub("\ufffd", text) for text in texts],
        truncation=max_length is not None,
        max_length=max_length,
        return_attention_mask=True,
        return_offsets_mapping=tokenizer.is_fast,
    )
    cut = [_cut(batch, i) if max_length is not None else 0 for i in range(len(texts))]
    lengths = [len(ids) for ids in batch["input_ids"]]
    width = max(1, *lengths)  # texts of no tokens are one token of padding
    offsets = batch.pop("offset_mapping", None)
    if tokenizer.pad_token_id is None:
        if set(lengths) != {width}:
            raise ValueError(
                "The tokenizer has no padding token, so texts of several lengths, or of none, make no batch: set "
                "`tokenizer.pad_token = tokenizer.eos_token` (and `model.config.pad_token_id`), or use batch size 1."
            )
        padded = batch.convert_to_tensors("pt")
    else:
        padded = tokenizer.pad(batch, padding="max_length", max_length=width, return_tensors="pt")
    if offsets is not None:
        left = tokenizer.padding_side == "left"
        blanks = [[(0, 0)] * (width - length) for length in lengths]
        rows = [blank + row if left else row + blank for row, blank in zip(offsets, blanks, strict=True)]
        padded["offset_mapping"] = torch.tensor(rows, dtype=torch.long).reshape(len(rows), width, 2)
    if rationales is not None:
        padded["rationale"] = tokens_of_spans(rationales, padded["offset_mapping"], [len(text) for text in texts])
    padded["note"] = [
        f"cut to {length} of {length + more} tokens: the model takes no more" if more else None
        for length, more in zip(lengths, cut, strict=True)
    ]
    if labels is not None:
        padded["labels"] = torch.tensor(list(labels), dtype=torch.long)
    if example_ids is not None:
        padded["example_id"] = torch.tensor(list(example_ids), dtype=torch.long)
    if concepts is not None:
        padded["concepts"] = torch.tensor([list(row) for row in concepts], dtype=torch.float32)
    return padded


def _cut(batch: BatchEncoding, row: int) -> int:
    """Return how many tokens of one text were cut; 0 where the tokenizer cannot tell."""
    if batch.encodings is None:
        return 0
    return sum(sum(mark == 0 for mark in part.special_tokens_mask) for part in batch.encodings[row].overflowing)


def following(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of texts as they stand after other words, without special tokens; none of an empty text.

    A tokenizer may write a word in another way where a text begins with it.
    """
    if not texts:
        return []
    before, after = ":", [f": {text.strip()}" if text.strip() else ":" for text in texts]
    options: dict[str, Any] = {"add_special_tokens": False, "verbose": False}
    mark, *rows = tokenizer([before, *after], **options)["input_ids"]
    if all(row[: len(mark)] == mark for row in rows):
        return [row[len(mark) :] for row in rows]
    return tokenizer([text.strip() for text in texts], **options)["input_ids"]
