"""What a probe reads from concepts: how much of a label leaks through their values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_interpret.functional.concepts import known_labels

#: Examples that a probe needs: two in each half.
LEAST = 4


@dataclass(frozen=True)
class Leakage:
    """How well a label is predicted by logistic regression.

    Attributes:
        soft: Accuracy of one that reads the concepts' values.
        true: Accuracy of one that reads the true concepts.
        both: Accuracy of one that reads both.
    """

    soft: float
    true: float
    both: float

    @property
    def gain(self) -> float:
        """What the values tell of the label beside the true concepts: 0 where nothing leaks."""
        return self.both - self.true


def leakage(values: Tensor, truth: Tensor, labels: Tensor, threshold: float = 0.5, seed: int = 0) -> Leakage:
    """Return how well a label is predicted by the values of concepts, by true concepts, and by both.

    Each probe is fitted on one half of the examples and scored on the other, both ways. One that reads values and
    concepts reads their products too: so it sees what hides behind a concept, also where a linear head could not; that
    of the values alone takes what they decide for the concepts. Without leakage the values tell of the label what the
    concepts tell, and nothing beside (cf. Havasi et al., 2022, who ask for their mutual information given the
    concepts). Where true concepts tell all of a label, nothing can: whether the values of badly learnt concepts are
    used to tell it, is seen by setting them to the truth, which then makes the prediction worse.

    Args:
        values: What the head reads of the concepts, ``(N, K)``, one row an example of any model.
        truth: True concepts ``(N, K)``; where one is not known (NaN, −1), whether its value is above the threshold
            stands for it.
        labels: Classes, long ``(N,)``.
        threshold: Above it a concept is there: 0.5 of probabilities, 0 of logits.
        seed: Seed of the halves.

    Raises:
        ValueError: If the shapes do not fit.
    """
    if values.dim() != 2 or truth.shape != values.shape or labels.shape != values.shape[:1]:
        raise ValueError(
            "Expected values and true concepts (N, K) and labels (N,), but got "
            f"{tuple(values.shape)}, {tuple(truth.shape)} and {tuple(labels.shape)}."
        )
    decided = (values > threshold).to(values)
    concepts = truth.to(values).where(known_labels(truth), decided)
    soft, both = (torch.cat([each, values, (values - threshold) * each], dim=1) for each in (decided, concepts))
    return Leakage(*(probe_accuracy(features, labels, seed) for features in (soft, concepts, both)))


@torch.inference_mode(False)
@torch.enable_grad()
def probe_accuracy(features: Tensor, labels: Tensor, seed: int = 0) -> float:
    """Return the accuracy of logistic regression, fitted on one half and scored on the other, both ways.

    The features are scaled by the half that is fitted on; the loss is Σ cross-entropy + ½ ‖W‖². NaN of fewer than 4
    examples.

    Args:
        features: ``(N, d)``.
        labels: Classes, long ``(N,)``.
        seed: Seed of the halves.
    """
    count = len(features)
    if count < LEAST:
        return float("nan")
    x, y = features.detach().double().clone(), labels.detach().clone()
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).to(x.device)
    halves = order[: count // 2], order[count // 2 :]
    classes = int(y.max()) + 1
    right = 0
    for fitted, held in (halves, halves[::-1]):
        mean, scale = x[fitted].mean(dim=0), x[fitted].std(dim=0, correction=0)
        scaled = (x - mean) / scale.where(scale > 1e-12, 1.0)
        weight, bias = _logistic_regression(scaled[fitted], y[fitted], classes)
        right += int(((scaled[held] @ weight + bias).argmax(dim=1) == y[held]).sum())
    return right / count


def _logistic_regression(x: Tensor, y: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    weight = torch.zeros(x.shape[1], classes, dtype=x.dtype, device=x.device, requires_grad=True)
    bias = torch.zeros(classes, dtype=x.dtype, device=x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=100, tolerance_grad=1e-5, tolerance_change=1e-8, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weight + bias, y) + 0.5 * weight.square().sum() / len(x)
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()
