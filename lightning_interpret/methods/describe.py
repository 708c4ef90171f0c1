"""What a reader is told of an example: its id, text, label, prediction, and how sure and how wrong the model is."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.explanations import Units
from lightning_interpret.methods.examples import Examples
from lightning_interpret.tasks import Classification, Task, batches
from lightning_interpret.tasks.model import ModelTask

_SHOWN = ("text", "gold", "prediction", "loss")  # of a training example


def described(module: nn.Module, batch: Any, task: Task, *, unjudged: bool = False) -> list[dict[str, Any]]:
    """Return for each example of a batch ``example_id``, ``text``, ``prediction``, ``gold``, ``loss``, ``confidence``.

    Called inside the explaining scope; costs a forward pass, and one more where the losses are not made of the task's
    logits. What does not apply is ``None``, as the prediction of a model of one score, which says no class, and the
    gold number of a task whose predictions are not right or wrong: with ``unjudged`` it is told.
    """
    batch = batches.to_full_precision(batch)
    with torch.no_grad():
        logits = task.logits(module, batch)
        known = task.log_probabilities(logits)
        losses = _losses(logits, module, batch, task)
    size = batches.batch_size(batch)
    nothing: list[Any] = [None] * size
    one_score = type(task).names is Classification.names and logits.shape[-1] == 1
    columns = {
        "example_id": task.example_ids(batch) or nothing,
        "text": task.texts(batch) or nothing,
        "prediction": nothing if one_score else task.said(logits, batch),
        "gold": (task.gold_names(batch) if task.judged or unjudged else None) or nothing,
        "loss": losses or nothing,
        "confidence": nothing if known is None else known.max(dim=1).values.exp().tolist(),
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def text_fields(units: Units, row: int) -> dict[str, Any]:
    """Return the fields of a :class:`TokensRow` of one text, its padding stripped."""
    kept = (~units.padding[row]).nonzero().flatten().tolist()

    def per_token(values: Any) -> tuple:
        return tuple(values[place] for place in kept)

    word_ids = per_token(units.word_ids[row])
    return {
        "tokens": per_token(units.texts[row]),
        "word_ids": word_ids,
        "words": units.words[row][: 1 + max((word for word in word_ids if word is not None), default=-1)],
        "special": per_token(units.special[row].tolist()),
        "offsets": None if units.offsets is None else per_token(units.offsets[row]),
        "segment": None if units.segment is None else per_token(units.segment[row].tolist()),
    }


def losses_of(logits: Tensor, module: nn.Module, batch: Any, task: Task) -> Tensor:
    """Return the losses of examples whose logits are known, ``(B,)``: a forward less where they are made of these."""
    again = copy(task)
    again.logits = lambda module, batch: logits  # type: ignore[method-assign]
    return again.losses(module, batch)


def _losses(logits: Tensor, module: nn.Module, batch: Any, task: Task) -> list[float | None] | None:
    """Return the loss of each example, as far as there are labels that it can be of."""
    labels = task.labels(batch)
    if labels is None:
        return None
    if type(task).losses is not Classification.losses:
        return losses_of(logits, module, batch, task).tolist()
    if labels.dim() != 1 or logits.shape[1] == 1:  # several classes, or a number, of which it does not know the loss
        return None
    known, again = (labels >= 0) & (labels < logits.shape[1]), copy(task)
    again.labels = lambda batch: labels.masked_fill(~known, -1)  # type: ignore[method-assign]
    found = losses_of(logits, module, batch, again)
    return [loss if there else None for loss, there in zip(found.tolist(), known.tolist(), strict=True)]


def told(module: nn.Module, examples: Examples, task: Task, ids: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Return by id what is shown of training examples: their text, label, prediction and loss.

    Called inside the explaining scope. What cannot be read any more is not among them.
    """
    wanted, found = sorted(set(ids)), dict[int, dict[str, Any]]()
    for some, batch in examples.take(wanted) if wanted else ():
        for i, facts in zip(some.tolist(), described(module, batches.clone(batch), task, unjudged=True), strict=True):
            found[i] = {name: facts[name] for name in _SHOWN}
    return found


def labels_of(task: Task, batch: Any, classes: int) -> Tensor:
    """Return the class of each example, long ``(B,)``; −1 for one without a label, or with one that is no class."""
    labels, size = task.labels(batch), batches.batch_size(batch)
    if labels is None or labels.is_floating_point() or labels.shape != (size,):
        return torch.full((size,), -1)
    return labels.long().masked_fill((labels < 0) | (labels >= classes), -1)


def numbers_of(task: Task, batch: Any) -> Tensor | None:
    """Return the gold numbers of each example, double ``(B, C)``, NaN where there are none; None of other tasks."""
    if task.numbers is None:
        return None
    labels = task.labels(batch)
    return None if labels is None else labels.cpu().double()


def number_names(task: Task, logits: Tensor) -> tuple[str, ...]:
    """Return the names of the numbers of :func:`numbers_of`, in their order."""
    count = logits.shape[1]
    return task.label_names(count) if isinstance(task, ModelTask) else tuple(str(i) for i in range(count))


def class_names(task: Task, logits: Tensor) -> tuple[str, ...]:
    """Return the name of each class, in the order of the logits; none where there are no classes."""
    known = task.log_probabilities(logits)
    return () if known is None or known.dim() != 2 else tuple(task.names(torch.eye(known.shape[1])))
