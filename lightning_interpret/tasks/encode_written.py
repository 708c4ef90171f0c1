"""Writing to a batch: sources with targets for an encoder-decoder, prompts with completions for a decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchEncoding

from lightning_interpret.tasks.encode import encode
from lightning_interpret.tasks.encoding import cut_note, padded, split_rows, whole

NONE = -100  # the label of what is no output


def encode_sources(
    tokenizer: Any,
    sources: Sequence[str],
    targets: Sequence[str | None],
    max_length: int | None = None,
    max_target_length: int | None = None,
) -> BatchEncoding:
    """Return the batch of some sources, with their targets as ``labels`` where there are any."""
    batch = encode(tokenizer, sources, max_length=max_length)
    if any(target is not None for target in targets):
        found = tokenizer(text_target=[whole(target or "") for target in targets], verbose=False)["input_ids"]
        tensors = [torch.tensor(_ended(list(ids), tokenizer, max_target_length), dtype=torch.long) for ids in found]
        batch["labels"] = pad_sequence(tensors, batch_first=True, padding_value=NONE)
    return batch


def encode_prompts(
    tokenizer: Any, rows: Sequence[tuple[str, str | None]], max_length: int | None = None
) -> BatchEncoding:
    """Return the batch of some prompts, each with its completion behind it: ``labels`` are −100 at the prompt."""
    texts, prompts = zip(*(joined(source, target) for source, target in rows), strict=True)
    options = {"return_attention_mask": True, "return_offsets_mapping": True, "verbose": False}
    found = split_rows(tokenizer([whole(text) for text in texts], **options), len(rows))
    made, notes = [], []
    for (_, target), each, text, length in zip(rows, found, texts, prompts, strict=True):
        _finish(each, len(text), None if target is None else tokenizer.eos_token_id, tokenizer)
        if target is not None:
            each["labels"] = [
                token if end > length or begin >= length else NONE
                for token, (begin, end) in zip(each["input_ids"], each["offset_mapping"], strict=True)
            ]
        before = len(each["input_ids"])
        made.append(_shortened(each, max_length))
        notes.append(cut_note(len(made[-1]["input_ids"]), before))
    batch = padded(tokenizer, made)
    batch["note"] = notes
    return batch


def joined(source: str, target: str | None) -> tuple[str, int]:
    """Return source and target in one text, and how many characters of it are the source."""
    if not source or not target:
        return source + (target or ""), len(source)
    spaced = source[-1:].isspace() or target[:1].isspace()
    return source + ("" if spaced else " ") + target, len(source)


def _ended(ids: list[int], tokenizer: Any, limit: int | None) -> list[int]:
    """Return the ids of a target, cut where they are too many, with the mark that ends it."""
    end = tokenizer.eos_token_id
    marked = end is None or end in ids[-2:]  # Marian and mBART may have a language behind it
    ids = ids if marked else [*ids, end]
    return ids if limit is None or len(ids) <= limit else [*ids[: limit - 1], ids[-1]]


def _finish(each: dict[str, list[Any]], length: int, end: int | None, tokenizer: Any) -> None:
    """Put the mark ``end`` behind a text of so many characters, in place of the one that the tokenizer may have put."""
    last = each["input_ids"][-1:]
    if last == [tokenizer.eos_token_id] and each["offset_mapping"][-1] == (0, 0):
        for values in each.values():
            values.pop()
    if end is not None:
        more = {"input_ids": end, "attention_mask": 1, "offset_mapping": (length, length)}
        for name, values in each.items():
            values.append(more.get(name, 0))


def _shortened(each: dict[str, list[Any]], limit: int | None) -> dict[str, list[Any]]:
    """Return a prompt and its completion with at most so many tokens: the prompt without its first ones, if any."""
    length = len(each["input_ids"])
    if limit is None or length <= limit:
        return each
    labels = each.get("labels", [NONE] * length)
    prompt = next((i for i, label in enumerate(labels) if label != NONE), length)
    first = int(prompt > 0 and each["offset_mapping"][0] == (0, 0))  # the mark that begins a text stays
    lost = min(length - limit, max(0, prompt - 1 - first))
    return {name: [*values[:first], *values[first + lost :]][:limit] for name, values in each.items()}
