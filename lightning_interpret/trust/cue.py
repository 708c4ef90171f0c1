"""A cue in a text: one token that stands in the place of another, so that nothing else of the batch has to change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.names import unknown
from lightning_interpret.tasks import SequenceClassification, Task, batches

PLACES = ("random", "first")


def reads_tokens(task: Task) -> SequenceClassification:
    """Return the task, if it is one of texts with token ids.

    Raises:
        ValueError: If it is not: a cue is a token.
    """
    if not isinstance(task, SequenceClassification):
        raise ValueError(
            f"`drill`: a cue is planted among token ids for a class of the whole text, and a {type(task).__name__} "
            "does not read both. Leave the drill out, or give `task=` a SequenceClassification."
        )
    return task


def content(batch: Any, task: SequenceClassification) -> Tensor:
    """Return the tokens that a cue may replace, bool ``(B, T)``: no padding, no special ones."""
    units = task.units(batch)
    return ~(units.special | units.padding)


def find_cue(cue: str | None, texts: Sequence[Any], task: SequenceClassification) -> int:
    """Return the id of a cue: of the word given, or of the whole word that the texts have least often.

    Args:
        cue: A word that is one token; ``None`` for one that is found.
        texts: Batches of the texts that it is to be planted in.
        task: How they are read.

    Raises:
        ValueError: If the word is several tokens, or the vocabulary has none that would do.
    """
    tokenizer = task.tokenizer
    if cue is not None:
        ids = tokenizer(cue, add_special_tokens=False)["input_ids"]
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            said = tokenizer.convert_ids_to_tokens(ids)
            raise ValueError(f"`cue={cue!r}` is {said} to the tokenizer: give a word that is one token of its own.")
        return int(ids[0])
    names = tokenizer.get_vocab()
    words = ((number, tokenizer.convert_tokens_to_string([name]).strip()) for name, number in names.items())
    whole = [number for number, word in words if len(word) > 2 and word.isascii() and word.isalpha()]
    if not whole:
        raise ValueError("`cue=None`: the vocabulary has no whole word that would do. Name the cue yourself.")
    ids = torch.cat([task.input_ids(batches.as_mapping(batch)).flatten().cpu() for batch in texts])
    often = ids.bincount(minlength=max(whole) + 1).tolist()
    return min(whole, key=lambda number: (often[number], -number))  # vocabularies are written by falling frequency


def class_named(label: str | None, names: Sequence[str]) -> int:
    """Return the class that a cue is planted for; by default the first.

    Raises:
        ValueError: If there is no such class.
    """
    if label is not None and label not in names:
        raise ValueError(unknown("label", label, names))
    return 0 if label is None else list(names).index(label)


def classes(batch: Any, task: SequenceClassification) -> Tensor:
    """Return the label of each text, ``(B,)``, on the CPU.

    Raises:
        ValueError: If the labels are not one class a text.
    """
    labels = task.labels(batch)
    if labels is None or labels.dim() != 1 or labels.is_floating_point():
        raise ValueError("`drill`: the training batch has no labels of one class a text, so none can be planted.")
    return labels.cpu()


def places(counts: Tensor, place: str, generator: torch.Generator) -> Tensor:
    """Return which token of each text the cue replaces, ``(B,)``: the first that counts, or one drawn at random."""
    drawn = (
        torch.rand(counts.shape, generator=generator) if place == "random" else -torch.arange(counts.shape[1]).float()
    )
    return drawn.expand_as(counts).masked_fill(~counts, -torch.inf).argmax(dim=1)


def plant(
    batch: Any, task: SequenceClassification, rows: Tensor, at: Tensor, cue: int, label: int | None = None
) -> Any:
    """Return the batch with a cue in some texts, and their label set where one is given.

    Args:
        batch: The batch; it stays as it is.
        task: How it is read.
        rows: Which texts, bool ``(B,)``.
        at: The place in each text, ``(B,)``.
        cue: The id.
        label: The class that these texts then have.

    Raises:
        ValueError: If the labels are not one class a text.
    """
    ids, labels = task.input_ids(batches.as_mapping(batch)), task.labels(batch)
    if label is not None:
        classes(batch, task)
    some = rows.nonzero().flatten().to(ids.device)
    planted = ids.clone()
    planted[some, at.to(ids.device)[some]] = cue

    def changed(leaf: Any) -> Any:
        if leaf is ids:
            return planted
        if label is not None and leaf is labels:
            return labels.clone().masked_fill(rows.to(labels.device), label)
        return leaf

    return batches.map_leaves(changed, batch)
