"""Backing off to the neighbours where the model is unsure, by a threshold chosen on held-out data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from lightning_interpret.functional.neighbors.labels import knn_probabilities

WEIGHTS = (1.0, 0.75, 0.5, 0.25)
TEMPERATURES = (0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True)
class BackOff:
    """The model where it is sure, λ p_kNN + (1 − λ) p where it is not.

    Rajani et al. (2020) with λ = 1; the mixture is Khandelwal et al.'s (2020, equation 3).

    Attributes:
        threshold: Confidence (largest probability) below which the neighbours are asked; 0 never asks them.
        weight: λ.
        temperature: T of p_kNN, in units of the distances.
        k: Neighbours that are asked.
    """

    threshold: float
    weight: float
    temperature: float
    k: int

    def unsure(self, probabilities: Tensor) -> Tensor:
        """Return where the neighbours are asked, bool ``(N,)``, given the model's probabilities ``(N, C)``."""
        return probabilities.max(dim=1).values < self.threshold

    def knn(self, distances: Tensor, labels: Tensor, classes: int) -> Tensor:
        """Return p_kNN ``(N, C)`` of the k nearest of the neighbours ``(N, >= k)``."""
        return knn_probabilities(distances[:, : self.k], labels[:, : self.k], classes, self.temperature)

    def mixture(self, probabilities: Tensor, knn: Tensor) -> Tensor:
        """Return the probabilities of the mixture, ``(N, C)``."""
        mixed = self.weight * knn.to(probabilities) + (1 - self.weight) * probabilities
        return torch.where(self.unsure(probabilities)[:, None], mixed, probabilities)


def choose_back_off(
    probabilities: Tensor,
    distances: Tensor,
    labels: Tensor,
    gold: Tensor,
    *,
    weights: Sequence[float] = WEIGHTS,
    temperatures: Sequence[float] = TEMPERATURES,
    ks: Sequence[int] = (),
) -> BackOff:
    """Return the back-off of the highest accuracy on held-out examples.

    Never asking the neighbours is among the choices, so that the accuracy there is at least the model's; of equally
    good choices the one that asks least, and of those the one that comes first.

    Args:
        probabilities: The model's, ``(M, C)``.
        distances: ``(M, k)`` of the neighbours, squared where they are Euclidean, the nearest first.
        labels: Long ``(M, k)``.
        gold: Long ``(M,)``, the true labels.
        weights: Values of λ to choose from.
        temperatures: Values of T to choose from.
        ks: Numbers of neighbours to choose from; by default all k.

    Raises:
        ValueError: If there is no example.
    """
    if not len(gold):
        raise ValueError("A back-off needs at least one held-out example, with its true label.")
    classes = probabilities.shape[1]
    confidence, order = probabilities.max(dim=1).values.sort(stable=True)
    # no threshold parts examples that are equally sure
    steps = torch.cat([torch.tensor([True]), confidence[1:] > confidence[:-1], torch.tensor([True])])
    right = (probabilities.argmax(dim=1) == gold).long()[order]
    best, chosen = -1, BackOff(0.0, weights[0], temperatures[0], (ks or [distances.shape[1]])[0])
    fewest = len(gold) + 1
    for k, temperature, weight in product(ks or [distances.shape[1]], temperatures, weights):
        knn = knn_probabilities(distances[:, :k], labels[:, :k], classes, temperature)
        mixed = weight * knn.to(probabilities) + (1 - weight) * probabilities
        gains = (mixed.argmax(dim=1) == gold).long()[order] - right
        total = torch.cat([torch.zeros(1, dtype=torch.long), gains.cumsum(dim=0)]).masked_fill(~steps, -len(gold) - 1)
        asked = int(total.argmax())  # the first of equal ones: the fewest
        if (gain := int(total[asked])) > best or (gain == best and asked < fewest):
            best, fewest = gain, asked
            chosen = BackOff(_below(confidence, asked), weight, temperature, k)
    return chosen


def _below(confidence: Tensor, asked: int) -> float:
    if asked == 0:
        return 0.0
    return float(confidence[asked]) if asked < len(confidence) else 1.0 + 1e-6  # what is quite sure is asked about too
