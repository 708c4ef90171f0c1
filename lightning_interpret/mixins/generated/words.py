"""What a model of generated explanations writes: the ids of labels and marks, checked, and how much room there is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from lightning_interpret.layers.explanation_format import ExplanationFormat
from lightning_interpret.tasks.encode import following, max_tokens
from lightning_interpret.tasks.writing import Decoder, Writer


def settle(
    form: ExplanationFormat,
    writer: Writer,
    tokenizer: Any,
    *,
    labels: Sequence[str],
    words: Sequence[str] | None,
    marks: tuple[str, str],
) -> None:
    """Settle what is written for each label, and where.

    Args:
        form: What is settled.
        writer: What writes.
        tokenizer: Its tokenizer.
        labels: Names of the classes.
        words: What is written for them; by default the names.
        marks: What stands before a label, and before an explanation.

    Raises:
        ValueError: If there is not one text for each class, the tokenizer does not know one, or two are written alike.
    """
    texts = [str(each) for each in words or labels]
    if not texts or len(texts) != len(labels):
        raise ValueError(
            f"`generated_labels={words}` must name what is written for each class, but the module has "
            f"`labels={list(labels)}`."
        )
    names = [*["generated_labels"] * len(texts), "generated_label_mark", "generated_explanation_mark"]
    ids = following(tokenizer, [*texts, *marks])
    unknown, met = getattr(tokenizer, "unk_token_id", None), dict[tuple[int, ...], str]()
    for name, text, tokens in zip(names, [*texts, *marks], ids, strict=True):
        if unknown is not None and unknown in tokens:
            raise ValueError(f"`{name}`: the tokenizer does not know all of {text!r}: choose words that it knows.")
        if not tokens and (name == "generated_labels" or isinstance(writer, Decoder)):
            raise ValueError(f"`{name}`: {text!r} has no tokens, but has to have at least one.")
        if name == "generated_labels" and met.setdefault(tuple(tokens), text) is not text:
            raise ValueError(f"`generated_labels`: {met[tuple(tokens)]!r} and {text!r} are written alike.")
    form.settle(ids[: len(texts)], ids[-2], ids[-1], writer.end)


def room(form: ExplanationFormat, writer: Writer, tokenizer: Any, limit: int) -> tuple[dict[str, int], int]:
    """Return how many tokens of a text are read for a ``label`` and for an ``explanation``, and how many the last has.

    Args:
        form: What is written; settled.
        writer: What writes.
        tokenizer: Its tokenizer.
        limit: Tokens that an explanation may have if there is room.

    Raises:
        ValueError: If the model takes so little that no explanation has room.
    """
    most = max_tokens(tokenizer, writer.model) or sys.maxsize
    around = len(form.label_mark) + len(form.explanation_mark) + form.words.shape[1] + 2  # a start and an end
    limit = min(limit, most // 2 - around)
    if limit < 1:
        raise ValueError(
            f"The model takes {most} tokens, which leaves no room for an explanation beside the text, the labels' "
            "words and the marks: use one that takes more."
        )
    follows = isinstance(writer, Decoder)  # what is written stands after what is read
    reads = form.explains_first and form.reads == "both"
    label = around + limit if reads else around if follows else 0
    explanation = around + limit if follows else around if form.order == "predict_then_explain" else 0
    return {"label": most - label, "explanation": most - explanation}, limit
