"""What a prediction owes to each concept of a bottleneck."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.functional.features import Features
from lightning_interpret.layers.concept_bottleneck import ConceptBottleneck
from lightning_interpret.methods.describe import described
from lightning_interpret.metrics import InterventionCurve
from lightning_interpret.rationales import Concept, Concepts, ConceptsRow
from lightning_interpret.tasks import Task

_LINEAR = 1e-4  # the error, as a share of the parts, that a linear head may have by rounding
_NO_NUMBER = "the model's score is no number: it has diverged"
_NOT_LINEAR = "what follows the bottleneck is not linear in the concepts (the parts miss the target by {:.2g})"


@dataclass(frozen=True)
class _Parts:
    """What targets ``(N,)`` owe to what a bottleneck hands on, in double precision.

    Attributes:
        rows: The example of each target.
        names: What each target is called.
        values: Of the concepts, ``(N, C)``.
        probabilities: The same before any was set by hand.
        set_by_hand: What was set, NaN where nothing was.
        concepts: Contributions, ``(N, C)``.
        residual: That of all else that is handed on.
        size: The sum of the absolute contributions, of each number that is handed on.
        bias: The target where nothing is handed on.
        target: The target.
    """

    rows: Tensor
    names: Sequence[str]
    values: Tensor
    probabilities: Tensor
    set_by_hand: Tensor
    concepts: Tensor
    residual: Tensor
    size: Tensor
    bias: Tensor
    target: Tensor

    @property
    def error(self) -> Tensor:
        """By how much their sum misses the target."""
        return self.concepts.sum(dim=1) + self.residual + self.bias - self.target

    @property
    def linear(self) -> Tensor:
        """Whether they add up."""
        return self.error.abs() <= _LINEAR * (self.size + self.bias.abs() + self.target.abs())


def explained(module: Any, name: str, batch: Any, task: Task, which: str, labels: Tensor | None) -> Concepts:
    """Return a row for each target of a batch; called inside the explaining scope.

    Contributions are value times gradient, and the bias is what the target is where nothing is handed on: in a linear
    head they add up to the target.

    Args:
        module: The module.
        name: Name of the bottleneck in it.
        batch: The batch.
        task: How it is read.
        which: What is explained.
        labels: Labels of the named concepts, or None.
    """
    layer: ConceptBottleneck = module.get_submodule(name)
    facts, parts = described(module, batch, task), _parts(module, name, batch, task, which)
    linear, error = parts.linear.tolist(), parts.error.tolist()
    found = []
    for i, row in enumerate(parts.rows.tolist()):
        each = [
            Concept(
                name=concept,
                value=float(parts.values[i, k]),
                probability=float(parts.probabilities[i, k]),
                contribution=float(parts.concepts[i, k]) if linear[i] else None,
                gold=_gold(labels, row, k),
                intervened=not bool(parts.set_by_hand[i, k].isnan()),
            )
            for k, concept in enumerate(layer.names)
        ]
        reason = _NO_NUMBER if math.isnan(error[i]) else _NOT_LINEAR.format(error[i])
        found.append(
            ConceptsRow(
                **facts[row],
                concepts=tuple(sorted(each, key=lambda concept: -abs(concept.contribution or 0.0))),
                target_name=parts.names[i],
                target=float(parts.target[i]),
                bias=float(parts.bias[i]) if linear[i] else None,
                residual=float(parts.residual[i]) if layer.residual and linear[i] else None,
                error=error[i] if linear[i] else None,
                mode=layer.mode,
                reasons={} if linear[i] else {"contribution": reason},
            )
        )
    return Concepts(tuple(found))


def _parts(module: Any, name: str, batch: Any, task: Task, which: str) -> _Parts:
    layer: ConceptBottleneck = module.get_submodule(name)
    hears = _Hears()
    handle = layer.register_forward_hook(hears, with_kwargs=True)
    with Features(module, name) as opened:
        try:
            logits, given = opened.read(lambda: task.logits(module, batch))
        finally:
            handle.remove()
        targets = task.resolve(logits, batch, which)
        rows = targets.example
        batch, targets = task.take(batch, rows), targets.at(rows)
        value = given[rows].detach().requires_grad_()
        target = task.score(opened.put(value, lambda: task.logits(module, batch)), targets, "logit")
        gradient = torch.autograd.grad(target.sum(), value)[0]
        with torch.no_grad():
            nothing = torch.zeros_like(value)
            bias = task.score(opened.put(nothing, lambda: task.logits(module, batch)), targets, "logit")
    count, shares = len(layer.names), (value * gradient).detach().double().cpu()
    return _Parts(
        rows=rows.cpu(),
        names=targets.name,
        values=value.detach()[:, :count].double().cpu(),
        probabilities=hears.scores.sigmoid()[rows].double().cpu(),
        set_by_hand=layer.set_by_hand(len(given))[rows].cpu(),
        concepts=shares[:, :count],
        residual=shares[:, count:].sum(dim=1),
        size=shares.abs().sum(dim=1),
        bias=bias.double().cpu(),
        target=target.detach().double().cpu(),
    )


def add_to_curve(
    curve: InterventionCurve, module: Any, name: str, batch: Any, task: Task, truth: Tensor | None, classes: Tensor
) -> None:
    """Add a batch to a curve of interventions, by a forward pass of the module a point; called inside the scope.

    Args:
        curve: The metric.
        module: The module.
        name: Name of the bottleneck in it.
        batch: The batch.
        task: How it is read.
        truth: Labels of the named concepts, NaN or −1 where there is none; None where no concept is named.
        classes: Class of each example, ``(B,)``.
    """
    layer: ConceptBottleneck = module.get_submodule(name)
    count = len(layer.names)
    with Features(module, name) as opened:
        _, given = opened.read(lambda: task.logits(module, batch))
        known = torch.full((len(given), count), torch.nan, device=given.device)
        if truth is not None:
            known[:, : layer.named] = truth.to(known).masked_fill(truth.to(known) == -1, torch.nan)

        def predict(values: Tensor) -> Tensor:
            rows = [torch.cat([each.to(given), given[:, count:]], dim=1) for each in values]
            return torch.stack([opened.put(row, lambda: task.logits(module, batch)) for row in rows])

        curve.update(given[:, :count], layer.of_probabilities(known), classes, predict)


def _gold(labels: Tensor | None, row: int, concept: int) -> float | None:
    if labels is None or concept >= labels.shape[1]:
        return None
    found = float(labels[row, concept])
    return None if found != found or found == -1 else found


class _Hears:
    """Keeps the logits of the concepts, which are not what is handed on where one was set by hand."""

    scores: Tensor

    def __call__(self, layer: ConceptBottleneck, args: tuple, kwargs: dict, output: Tensor) -> None:
        self.scores = layer.scores(args[0] if args else next(iter(kwargs.values()))).detach()
