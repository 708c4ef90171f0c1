"""Explanations in one line of a notebook."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from lightning_interpret.explanations import Attribution, AttributionRow
from lightning_interpret.tasks import Task, TextTask, find_task
from lightning_interpret.tasks.encode import encode, max_tokens, named_tokenizer


def explain(
    model: nn.Module,
    tokenizer: Any,
    texts: str | Sequence[str | tuple[str, str]],
    *,
    method: Any = "integrated_gradients",
    layer: str | Sequence[str] | None = None,
    which: str = "predicted",
    output: str = "logit",
    task: Task | None = None,
    references: Sequence[str] | None = None,
    batch_size: int = 16,
) -> Any:
    """Return the attributions of a model's predictions for some texts, in their order.

    One row a text; of a task with several targets (entities, labels, generated tokens) one row a target, and
    ``example`` says of which text it is. For several layers, a dict of them by name, in the order of the layers.

    Args:
        model: A `transformers` model with a head, or a module that holds one.
        tokenizer: Its tokenizer: the object, a name or a directory.
        texts: A text, or several. A pair of texts is a tuple: of premise and hypothesis, question and passage, prompt
            and what follows it, source and output.
        method: Name of a method, or one with its options.
        layer: Name of the layer to attribute to, a list of names, or ``"all"`` for the word embeddings and each block;
            by default the word embeddings.
        which: ``predicted``, ``gold`` (of given output), a label, a contrast ``A-B``, or what else the task explains.
        output: ``logit``, ``log_prob``, ``prob`` or ``margin``.
        task: How the model is read, where that cannot be told from it: ``CausalGeneration(tokenizer,
            continuation="own")`` explains what a model writes itself.
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
    of: dict[str, list[int]] = defaultdict(list)
    if references is not None:
        chosen.check_references(list(references))
        found = found.with_references(encode(tokenizer, list(references), max_length=limit).to(device))
    for start in range(0, len(texts), batch_size):
        some: list[Any] = texts[start : start + batch_size]
        batch = found.encoded(some, limit) if isinstance(found, TextTask) else encode(tokenizer, some, max_length=limit)
        record = chosen(model, batch.to(device), found, layer=layer, which=which, output=output)
        for name, each in record.items() if isinstance(record, dict) else [("", record)]:
            rows[name] += each
            of[name] += [start + i for i in each.example.tolist()]
    records = {
        name: replace(Attribution.from_rows(each), example=torch.tensor(of[name])) for name, each in rows.items()
    }
    return records.get("", records)
