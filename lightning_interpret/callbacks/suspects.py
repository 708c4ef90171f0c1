"""Training examples whose labels may be wrong: found by self-influence, told of, and kept for cleanlab."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_interpret.evidence import InfluenceRow, Suspect
from lightning_interpret.methods import describe
from lightning_interpret.methods.describe import labels_of
from lightning_interpret.methods.examples import Examples
from lightning_interpret.methods.neighbors import FittedNeighbors
from lightning_interpret.report.cleanlab import CleanlabFile
from lightning_interpret.tasks import Task, batches


def foremost(ids: Tensor, scores: Tensor, count: int) -> dict[int, float]:
    """Return the examples of largest self-influence, the largest first; none where all are alike, as of a cosine.

    Args:
        ids: Long ``(n,)``.
        scores: Self-influence ``(n,)``, finite.
        count: How many.
    """
    if not len(scores) or bool((scores - scores[0]).abs().max() <= 1e-6 * scores.abs().max()):
        return {}
    order = ids.argsort()
    best = order[scores[order].argsort(descending=True, stable=True)][:count]
    return dict(zip(ids[best].tolist(), scores[best].tolist(), strict=True))


def told(
    scores: dict[int, float], examples: Examples, beside: FittedNeighbors | None, module: nn.Module, task: Task
) -> list[Suspect]:
    """Return what is known of suspected examples, in the order of their scores; called inside the explaining scope."""
    found, shares = describe.told(module, examples, task, scores), disagreement(list(scores), beside)
    return [Suspect(i, self_influence=scores[i], disagreement=shares.get(i), **found[i]) for i in scores if i in found]


@torch.no_grad()
def losses(examples: Examples, module: nn.Module, task: Task) -> tuple[Tensor, Tensor]:
    """Return the ids ``(n,)`` and the losses ``(n,)`` of training examples; called inside the explaining scope."""
    found = [(ids, task.losses(module, batches.clone(batch))) for ids, batch in examples.batches()]
    return torch.cat([ids for ids, _ in found]), torch.cat([values for _, values in found])


def at_words(suspects: Sequence[Suspect], found: Mapping[int, tuple[str, str | None, str | None]]) -> list[Suspect]:
    """Return suspects with the word whose label it is: by id its text, its label and what the model says."""

    def one(each: Suspect) -> Suspect:
        if each.example_id not in found:
            return each
        word, gold, prediction = found[each.example_id]
        return replace(each, word=word, word_gold=gold, word_prediction=prediction)

    return list(map(one, suspects))


def together(parts: Sequence[Sequence[Suspect]], count: int, by: str = "self_influence") -> list[Suspect]:
    """Return the foremost suspects of all processes by a score of theirs, each once."""
    every = {each.example_id: each for part in parts for each in part}.values()
    return sorted(every, key=lambda each: (-(getattr(each, by) or 0.0), each.example_id))[:count]


def disagreeing(row: InfluenceRow, beside: FittedNeighbors) -> InfluenceRow:
    """Return the row with each example's share of neighbours that have another label."""
    shares = disagreement([each.example_id for each in (*row.helpful, *row.harmful)], beside)
    helpful, harmful = (
        tuple(replace(each, disagreement=shares.get(each.example_id)) for each in part)
        for part in (row.helpful, row.harmful)
    )
    return replace(row, helpful=helpful, harmful=harmful)


def disagreement(ids: Sequence[int], beside: FittedNeighbors | None) -> dict[int, float]:
    """Return the share by id, of those examples that are in the datastore and have a label."""
    if beside is None or not ids:
        return {}
    found, shares = beside.disagreement(ids)
    return {i: share for i, share in zip(found.tolist(), shares.tolist(), strict=True) if share == share}


def save_for_cleanlab(path: Path, examples: Examples, beside: FittedNeighbors, task: Task) -> None:
    """Write ids, labels, probabilities and features of training examples, in one pass over them.

    Raises:
        ValueError: If the model has no classes.
        OSError: If the file cannot be written.
    """
    classes = beside.classes
    if not classes:
        raise ValueError("the model says no probabilities of classes, which cleanlab goes by")
    with CleanlabFile(path, classes) as file:
        for ids, batch in examples.batches():
            logits, features = beside.reader.read(batches.clone(batch))
            known = task.log_probabilities(logits)
            assert known is not None
            file.add(ids, labels_of(task, batch, len(classes)).cpu(), known.exp().float().cpu(), features.cpu())


def finite(ids: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return what is finite, on the CPU in double precision."""
    ids, scores = ids.cpu(), scores.detach().cpu().double()
    good = torch.isfinite(scores)
    return ids[good], scores[good]
