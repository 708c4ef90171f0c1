"""x' at the word embeddings: what the task makes, what is drawn from reference examples, or what is looked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional import baselines
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.features import features
from lightning_interpret.functional.uniform import ENOUGH, most_uniform
from lightning_interpret.tasks import Task, batches

#: Longest step towards the uniform baseline, as a share of the size of the content of x.
_REACH = 0.25
_SHOWN = 80  # characters of a reference's text in a note


@dataclass(frozen=True)
class Absent:
    """x' of each example.

    Attributes:
        features: ``(B, R, *shape)``; R is 1 unless the baseline is a distribution.
        notes: What the reader should know of each example's x'.
        gradients: Gradients that looking for it took, ``(B,)``.
    """

    features: Tensor
    notes: Sequence[tuple[str, ...]]
    gradients: Tensor


def absent(
    module: nn.Module,
    batch: Any,
    task: Task,
    baseline: Baseline,
    embeddings: Tensor,
    *,
    put: Callable[[Tensor, Callable[[], Tensor]], Tensor],
    predicted: Sequence[str],
    chunk: int,
) -> Absent:
    """Return x' at the task's own layer.

    Args:
        module: The module.
        batch: The batch at x.
        task: How both are read.
        baseline: Which x'.
        embeddings: The layer's output at x, ``(B, *shape)``.
        put: Runs a forward with other values in the layer's place.
        predicted: Name of what is predicted for each example.
        chunk: Examples in one pass.

    Raises:
        ValueError: If references are missing, or none of them will do.
    """
    count = len(embeddings)
    notes: Sequence[tuple[str, ...]] = [()] * count
    gradients = torch.zeros(count, dtype=torch.long)
    if baseline.kind not in baselines.FOUND:
        return Absent(task.baseline(module, batch, embeddings, baseline)[:, None], notes, gradients)
    content = task.content(batch, embeddings, baseline.keep_special)
    if baseline.kind == "uniform":
        found, notes, gradients = _uniform(module, batch, task, baseline, embeddings, content, put, chunk)
        return Absent(found[:, None], notes, gradients)
    references = _References.read(module, task, baseline, chunk)
    baselines.check_shapes(embeddings, content, references.features, references.content)
    if baseline.kind == "training_mean":
        mean = baselines.content_mean(references.features, references.content)
        return Absent(baselines.fill_features(embeddings, content, mean)[:, None], notes, gradients)
    if baseline.kind == "nearest":
        picked = references.nearest(baselines.pooled(embeddings, content), predicted)
        notes = [(references.said(i),) for i in picked.tolist()]
        found = baselines.lay(embeddings, content, references.features[picked], references.content[picked])
        return Absent(found[:, None], notes, gradients)
    row = torch.arange(count, device=embeddings.device).repeat_interleave(len(references.features))
    each = torch.arange(len(references.features), device=embeddings.device).repeat(count)
    laid = baselines.lay(embeddings[row], content[row], references.features[each], references.content[each])
    return Absent(laid.unflatten(0, (count, -1)), notes, gradients)


@dataclass(frozen=True)
class _References:
    """Reference examples that have content: their features, what of them is content, their classes and names."""

    features: Tensor
    content: Tensor
    classes: tuple[str, ...]
    texts: tuple[str, ...]

    @classmethod
    def read(cls, module: nn.Module, task: Task, baseline: Baseline, chunk: int) -> _References:
        batch = task.prepared(module, task.need_references(baseline))
        units, layer = task.units(batch), task.layer(module)
        places = units.shape if units.kind == "token" else ()
        read: list[Tensor] = []
        names: list[str] = []
        for rows in torch.arange(batches.batch_size(batch)).split(chunk):
            forward = partial(task.logits, module, task.take(batch, rows))
            with features(module, layer, forward, units=(len(rows), *places)) as (_, logits, value):
                names += task.names(logits)
                read.append(value)
        at = torch.cat(read)
        content = task.content(batch, at, baseline.keep_special)
        kept = content.reshape(len(at), -1).any(dim=1).nonzero().flatten()
        if not len(kept):
            raise ValueError(f"`baseline={baseline.name!r}`: no reference has a token of its own; give other texts.")
        gold, ids = task.gold_names(batch), task.example_ids(batch)
        classes = [mine if gold is None or gold[i] is None else str(gold[i]) for i, mine in enumerate(names)]
        texts = [
            " ".join([f"example {ids[i]}" if ids is not None else f"number {i}", *map(repr, filter(None, [text]))])
            for i, text in enumerate(_clipped(" ".join(words)) for words in units.words)
        ]
        some = kept.tolist()
        return cls(at[kept], content[kept], tuple(classes[i] for i in some), tuple(texts[i] for i in some))

    def nearest(self, pooled: Tensor, predicted: Sequence[str]) -> Tensor:
        """Return for each example the nearest reference that is of another class than what is predicted."""
        allowed = torch.tensor([[name != mine for name in self.classes] for mine in predicted])
        for mine, some in zip(predicted, allowed.any(dim=1).tolist(), strict=True):
            if not some:
                raise ValueError(f"`baseline='nearest'`: every reference is of the class {mine!r}; give others too.")
        others = baselines.pooled(self.features.to(pooled), self.content)
        return baselines.nearest(pooled, others, allowed.to(pooled.device))

    def said(self, i: int) -> str:
        return f"the baseline is the nearest reference of another class, {self.classes[i]!r}: {self.texts[i]}"


def _uniform(
    module: nn.Module,
    batch: Any,
    task: Task,
    baseline: Baseline,
    embeddings: Tensor,
    content: Tensor,
    put: Callable[[Tensor, Callable[[], Tensor]], Tensor],
    chunk: int,
) -> tuple[Tensor, Sequence[tuple[str, ...]], Tensor]:
    def log_probabilities(points: Tensor, rows: Tensor) -> Tensor:
        some = task.take(batch, rows)
        found = task.log_probabilities(put(points, partial(task.logits, module, some)))
        if found is None:
            raise ValueError("`baseline='uniform'` needs probabilities of two classes or more: use another baseline.")
        return found

    free = content.reshape(*content.shape, *[1] * (embeddings.dim() - content.dim()))
    begin = replace(task.baseline_for(Baseline("default")), keep_special=baseline.keep_special)
    start = task.baseline(module, batch, embeddings, begin)
    reach = _REACH * torch.where(free, embeddings, 0).flatten(1).norm(dim=1)
    found, reached, gradients = most_uniform(log_probabilities, start, free, reach, chunk=chunk)
    missed = "the uniform baseline was not reached: the entropy at x' is {:.1%} of the largest"
    notes = [() if share >= ENOUGH else (missed.format(share),) for share in reached.tolist()]
    return found, notes, gradients.cpu()


def _clipped(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
