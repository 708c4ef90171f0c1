"""What is measured of a concept bottleneck in validation, as batches go by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_interpret.functional.concepts import Predict, right, with_concepts
from lightning_interpret.functional.features import find_layer
from lightning_interpret.functional.layers import last_linear
from lightning_interpret.functional.scope import explaining
from lightning_interpret.layers.before_head import BeforeHead
from lightning_interpret.layers.concept_bottleneck import ConceptBottleneck
from lightning_interpret.metrics import ConceptAccuracy, ConceptLeakage, ResidualShare
from lightning_interpret.metrics.mean_of_examples import Mean
from lightning_interpret.mixins.task import known_task
from lightning_interpret.tasks import batches


@dataclass(frozen=True)
class Passed:
    """What came through the bottleneck in one pass.

    Attributes:
        scores: The concepts' logits, ``(B, K)``.
        given: What was handed on, ``(B, size)``.
        labels: Labels of the named concepts, or None.
    """

    scores: Tensor
    given: Tensor
    labels: Tensor | None


class ConceptMeasures(nn.Module):
    """The metrics of a bottleneck; memory is bounded: counts, and at most 2000 examples of a process for the leakage.

    Args:
        layer: The bottleneck.
        place: Where it is put before a head; None where the module calls it itself.
    """

    def __init__(self, layer: ConceptBottleneck, place: BeforeHead | None) -> None:
        super().__init__()
        classes = 0 if place is None else place.head.out_features
        self.metrics = nn.ModuleDict({"leakage": ConceptLeakage(threshold=0.0 if layer.mode == "logit" else 0.5)})
        if layer.named:
            self.metrics["accuracy"] = ConceptAccuracy(layer.named)
        if classes > 1:
            self.metrics.update({f"{what}_accuracy": Mean() for what in ("task", "ablated", "intervened")})
        if classes and layer.residual:
            self.metrics["residual_share"] = ResidualShare(classes)

    def reset(self) -> None:
        """Begin anew."""
        for metric in self._each.values():
            metric.reset()

    def update(
        self, layer: ConceptBottleneck, place: BeforeHead | None, passed: Passed, classes: Tensor | None
    ) -> None:
        """Add a batch, with the class of each example, ``(B,)``, where that is known."""
        metrics, count = self._each, len(layer.names)
        probabilities, values = passed.scores.sigmoid(), passed.given[:, :count]
        truth = torch.full_like(probabilities, torch.nan)
        if passed.labels is not None:
            metrics["accuracy"].update(probabilities[:, : layer.named], passed.labels)
            truth[:, : layer.named] = passed.labels.masked_fill(passed.labels == -1, torch.nan)
        if place is not None and "residual_share" in metrics:
            nothing = torch.zeros_like(passed.given)
            bare = place.scores(nothing)
            parts = (
                torch.cat([values, nothing[:, count:]], 1),
                torch.cat([nothing[:, :count], passed.given[:, count:]], 1),
            )
            metrics["residual_share"].update(*(place.scores(part) - bare for part in parts))
        if classes is None or len(classes) != len(values):
            return
        known = classes >= 0
        if place is not None and "task_accuracy" in metrics:
            known &= classes < place.head.out_features
            predict, own = predicting(place, passed.given[known], count), values[known]
            tried = {"task": own, "ablated": layer.of_probabilities(torch.full_like(own, 0.5))}
            if passed.labels is not None:
                tried["intervened"] = with_concepts(own, layer.of_probabilities(truth[known]))
            for name, met in zip(tried, right(predict(torch.stack([*tried.values()])), classes[known]), strict=True):
                metrics[f"{name}_accuracy"].update(met.float())
        kept = slice(0, layer.named or None)
        metrics["leakage"].update(values[known, kept], truth[known, kept], classes[known])

    def compute(self) -> dict[str, Tensor]:
        """Return what was found, over all processes; what could not be measured is not there."""
        found = {name: metric.compute() for name, metric in self._each.items() if metric.update_called}
        return {name: value for name, value in found.items() if not bool(value.isnan())}

    @property
    def _each(self) -> dict[str, Metric]:
        return dict(self.metrics.items())  # type: ignore[arg-type]


def predicting(place: BeforeHead, given: Tensor, count: int) -> Predict:
    """Return what gives the class scores ``(P, B, C)`` of concepts ``(P, B, K)``, the residual staying as it is.

    Args:
        place: Where the bottleneck stands.
        given: What it handed on, ``(B, size)``.
        count: How many concepts, K.
    """

    def predict(values: Tensor) -> Tensor:
        rest = given[:, count:].expand(len(values), -1, -1)
        rows = torch.cat([values.to(given), rest], dim=2)
        return place.scores(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])

    return predict


def scores_classes(module: nn.Module, place: BeforeHead, batch: Any) -> bool:
    """Return whether what a head returns are the class scores of the module, and nothing that other layers read.

    The linear layer that is defined last is taken at its word; what another one returns is compared, in a forward pass.
    """
    if place.name == last_linear(module):
        return True
    returned: list[Tensor] = []
    handle = find_layer(module, place.name).register_forward_hook(lambda layer, args, output: returned.append(output))
    try:
        with explaining(module), torch.no_grad():
            scores = known_task(module).logits(module, batches.clone(batch))
    except ValueError:  # the module cannot be read, so nobody knows
        return False
    finally:
        handle.remove()
    same = bool(returned) and returned[-1].shape == scores.shape
    return same and torch.equal(returned[-1].argmax(dim=-1), scores.argmax(dim=-1))
