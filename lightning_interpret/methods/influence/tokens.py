"""Influence token by token: on each token of a query's output, and from each token of a training example's.

The loss of an example is the mean of those of its tokens, so its gradient is the mean of theirs, and so is every score
that is linear in gradients: a token is asked as an example that has its label alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_interpret.evidence import InfluenceRow, TokenInfluence, TrainingExample
from lightning_interpret.functional.influence.blocks import Gradient
from lightning_interpret.methods.examples import Examples
from lightning_interpret.methods.influence.queries import finite_queries, joined
from lightning_interpret.tasks import Task, batches
from lightning_interpret.tasks.base import Singles

if TYPE_CHECKING:
    from lightning_interpret.methods.influence.base import Fitted

_AT_ONCE = 16  # tokens that are run together, each in a copy of its example


@dataclass(frozen=True)
class Asked:
    """The tokens of queries as queries.

    Attributes:
        query: Long ``(T,)``, the query that each is of.
        text: What each says.
        loss: The loss of each.
        gradients: In each block.
    """

    query: Tensor
    text: tuple[str, ...]
    loss: tuple[float, ...]
    gradients: list[Gradient | None]

    def then(self, other: Asked) -> Asked:
        """Return these and, after them, those of the next batch."""
        return Asked(
            torch.cat([self.query, other.query]),
            self.text + other.text,
            self.loss + other.loss,
            joined(self.gradients, other.gradients, add=False),
        )


def asked(fitted: Fitted, batch: Any, first: int) -> Asked:
    """Return the tokens of a batch of queries, of which the first has the number ``first``.

    Raises:
        ValueError: If the task does not say what tokens an example's loss is of.
    """
    singles = taken_apart(fitted.task, fitted.module, batch)
    gradients, losses = list[Gradient | None](), list[float]()
    for part in _parts(fitted.task, singles):
        found = fitted.gradients(part)
        gradients = joined(gradients, found, add=False) if gradients else found
        with torch.no_grad():
            losses += fitted.task.losses(fitted.module, batches.to_full_precision(part)).tolist()
    if not losses:
        raise ValueError("`per_token=True`, but no query of this batch has a token with a label.")
    return Asked(singles.example + first, singles.text, tuple(losses), finite_queries(gradients)[0])


def taken_apart(task: Task, module: Any, batch: Any) -> Singles:
    """Return the tokens of a batch, each as an example.

    Raises:
        ValueError: If the task does not say what they are, or the batch has no labels.
    """
    found = task.singles(module, batch)
    if found is None:
        raise ValueError(
            f"`per_token=True` takes the loss of an example apart, and {type(task).__name__} has no loss of tokens "
            "(or the batch no labels): leave it out. TokenClassification, CausalGeneration and Seq2SeqGeneration do."
        )
    return found


def apart(
    fitted: Fitted, gradients: list[Gradient | None], source: Examples, ids: set[int]
) -> dict[int, tuple[tuple[str, ...], Tensor]]:
    """Return by id the tokens of training examples, and what of each score each of them carries, ``(M, S)``.

    Their sum is the example's score: each token has the weight that it has in its example's loss.
    """
    read: list[tuple[Tensor, Singles]] = []

    def parts() -> Iterator[tuple[Tensor, Any]]:
        for own, batch in source.take(sorted(ids)) if ids else ():
            singles = taken_apart(fitted.task, fitted.module, batches.clone(batch))
            read.append((own, singles))
            for part in _parts(fitted.task, singles):
                yield torch.zeros(batches.batch_size(part), dtype=torch.long), part

    scores = [values.cpu() for _, values in fitted.stream(gradients, parts())]  # one: what it solves, it solves once
    if not scores:
        return {}
    weights = torch.cat([singles.weights for _, singles in read])
    weighted = torch.cat(scores, dim=1) / fitted.total
    weighted = weighted * weights.to(weighted)
    found, begin = dict[int, tuple[tuple[str, ...], Tensor]](), 0
    for own, singles in read:
        for row, i in enumerate(own.tolist()):
            mine = (singles.example == row).nonzero().flatten()
            found[i] = tuple(singles.text[place] for place in mine.tolist()), weighted[:, begin + mine]
        begin += len(singles.example)
    return found


def put(
    rows: Sequence[InfluenceRow],
    asked: Asked,
    ends: Sequence[list[list[tuple[int, float]]]],
    known: dict[int, dict[str, Any]],
    pieces: dict[int, tuple[tuple[str, ...], Tensor]],
) -> list[InfluenceRow]:
    """Return the records of queries with those of their tokens.

    Args:
        rows: The records; of more than there are queries, the last is of their sum.
        asked: The tokens of all queries.
        ends: What helps each of them, and what harms.
        known: What is said of training examples, by id.
        pieces: What :func:`apart` returned of those found for the queries: its rows are theirs, then the tokens'.
    """
    of: list[list[TokenInfluence]] = [[] for _ in rows]
    for query, text, loss, helpful, harmful in zip(asked.query.tolist(), asked.text, asked.loss, *ends, strict=True):
        sides = (
            tuple(TrainingExample(i, score=score, **known.get(i, {})) for i, score in side)
            for side in (helpful, harmful)
        )
        of[query].append(TokenInfluence(text, loss, *sides))

    def one(example: TrainingExample, query: int) -> TrainingExample:
        if example.example_id not in pieces:
            return example
        text, scores = pieces[example.example_id]
        on = scores[len(rows) :][asked.query == query].sum(dim=1).tolist()
        return replace(example, tokens=text, by_token=tuple(scores[query].tolist()), on_tokens=tuple(on) or None)

    return [
        replace(
            row,
            helpful=tuple(one(each, query) for each in row.helpful),
            harmful=tuple(one(each, query) for each in row.harmful),
            by_token=tuple(of[query]),
        )
        for query, row in enumerate(rows)
    ]


def strongest(fitted: Fitted, source: Examples, ids: set[int]) -> dict[int, tuple[str, str | None, str | None]]:
    """Return by id the token of each training example that influences itself most, its label and the model's."""
    found: dict[int, tuple[str, str | None, str | None]] = {}
    for own, batch in source.take(sorted(ids)) if ids else ():
        singles = fitted.task.singles(fitted.module, batches.clone(batch))
        if singles is None:
            return {}
        parts = list(_parts(fitted.task, singles))
        scores = torch.cat([fitted.own(batches.clone(part)).cpu() for part in parts]) if parts else torch.zeros(0)
        for row, i in enumerate(own.tolist()):
            mine = (singles.example == row).nonzero().flatten()
            if len(mine) and bool(scores[mine].isfinite().all()):
                place = mine[scores[mine].argmax()]
                one = fitted.task.take(singles.batch, place[None])
                found[i] = singles.text[int(place)], *_said(fitted, one)
    return found


@torch.no_grad()
def _said(fitted: Fitted, one: Any) -> tuple[str | None, str | None]:
    task: Any = fitted.task
    logits = task.logits(fitted.module, one)
    targets = task.resolve(logits, one, task.each)
    predicted, gold = task.compared(logits, one, targets)
    return (None if gold is None else gold[0]), predicted[0]


def _parts(task: Task, singles: Singles) -> Iterator[Any]:
    for rows in torch.arange(len(singles.example)).split(_AT_ONCE):
        if len(rows):
            yield task.take(singles.batch, rows)
