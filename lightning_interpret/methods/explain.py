"""Explanations in one line of a notebook."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lightning_interpret.explanations import Attribution, AttributionRow
from lightning_interpret.tasks import Task, find_task
from lightning_interpret.tasks.encode import encode, max_tokens, named_tokenizer


def explain(
    model: nn.Module,
    tokenizer: Any,
    texts: str | Sequence[str],
    *,
    method: Any = "integrated_gradients",
    layer: str | Sequence[str] | None = None,
    which: str = "predicted",
    output: str = "logit",
    task: Task | None = None,
    references: Sequence[str] | None = None,
    batch_size: int = 16,
) -> Any:
    """Return the attributions of a model's predictions for some texts, one row a text, in their order.

    For several layers, a dict of them by name, in the order of the layers.

    Args:
        model: A `transformers` classifier, or a module that holds one.
        tokenizer: Its tokenizer: the object, a name or a directory.
        texts: A text, or several.
        method: Name of a method, or one with its options.
        layer: Name of the layer to attribute to, a list of names, or ``"all"`` for the word embeddings and each block;
            by default the word embeddings.
        which: ``predicted``, a label, or a contrast ``A-B``.
        output: ``logit``, ``log_prob``, ``prob`` or ``margin``.
        task: How the model is read, where it is no `transformers` classifier.
        references: Texts (of the training data) for a baseline that is drawn from data, such as ``training_mean``.
        batch_size: Texts in one call of the method.

    Raises:
        ValueError: If there is no text, a name does not exist, or references are missing or given without a use.

    Example::

        record = lightning_interpret.explain(model, tokenizer, "not a bad film")
        print(record[0])
    """
    from lightning_interpret.methods import method_named

    if isinstance(tokenizer, str):
        tokenizer = named_tokenizer(tokenizer)
    texts = [texts] if isinstance(texts, str) else list(texts)
    if not texts:
        raise ValueError("`texts` is empty: give a text or a list of them.")
    chosen, found = method_named(method), find_task(model, task=task, tokenizer=tokenizer)
    device = next((weight.device for weight in model.parameters()), torch.device("cpu"))
    limit = max_tokens(tokenizer, model)
    rows: dict[str, list[AttributionRow]] = defaultdict(list)
    if references is not None:
        chosen.check_references(list(references))
        found = found.with_references(encode(tokenizer, list(references), max_length=limit).to(device))
    for start in range(0, len(texts), batch_size):
        batch = encode(tokenizer, texts[start : start + batch_size], max_length=limit).to(device)
        record = chosen(model, batch, found, layer=layer, which=which, output=output)
        for name, each in record.items() if isinstance(record, dict) else [("", record)]:
            rows[name] += each
    records = {name: Attribution.from_rows(each) for name, each in rows.items()}
    return records.get("", records)
