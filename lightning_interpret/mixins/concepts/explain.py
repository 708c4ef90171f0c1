"""What a prediction owes to each concept of a bottleneck."""

from __future__ import annotations

import math
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
    facts = described(module, batch, task)
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
    count, parts = len(layer.names), (value * gradient).detach().double().cpu()
    concepts, residual = parts[:, :count], parts[:, count:].sum(dim=1)
    target, bias = target.detach().double().cpu(), bias.double().cpu()
    error = concepts.sum(dim=1) + residual + bias - target
    linear = error.abs() <= _LINEAR * (parts.abs().sum(dim=1) + bias.abs() + target.abs())
    values = value.detach().tolist()
    probabilities, set_by_hand = hears.scores.sigmoid()[rows].tolist(), layer.set_by_hand(len(given))[rows].tolist()
    found = []
    for i, row in enumerate(rows.tolist()):
        each = [
            Concept(
                name=concept,
                value=values[i][k],
                probability=probabilities[i][k],
                contribution=float(concepts[i, k]) if linear[i] else None,
                gold=_gold(labels, row, k),
                intervened=set_by_hand[i][k] == set_by_hand[i][k],  # NaN is not
            )
            for k, concept in enumerate(layer.names)
        ]
        missed = float(error[i])
        reason = _NO_NUMBER if math.isnan(missed) else _NOT_LINEAR.format(missed)
        reasons = {} if linear[i] else {"contribution": reason}
        found.append(
            ConceptsRow(
                **facts[row],
                concepts=tuple(sorted(each, key=lambda concept: -abs(concept.contribution or 0.0))),
                target_name=targets.name[i],
                target=float(target[i]),
                bias=float(bias[i]) if linear[i] else None,
                residual=float(residual[i]) if layer.residual and linear[i] else None,
                error=float(error[i]) if linear[i] else None,
                mode=layer.mode,
                reasons=reasons,
            )
        )
    return Concepts(tuple(found))


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
