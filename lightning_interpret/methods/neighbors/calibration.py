"""What held-out examples say of how far neighbours are to be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.functional.neighbors.back_off import TEMPERATURES, WEIGHTS, BackOff, choose_back_off
from lightning_interpret.functional.neighbors.labels import conformity


@dataclass(frozen=True)
class Answers:
    """What model and neighbours say of the B examples of a batch.

    Attributes:
        probabilities: The model's, ``(B, C)``; no columns where it has no classes.
        distances: Of the neighbours, ``(B, k)``; infinite where there is none.
        places: Their positions in the datastore, ``(B, k)``.
        labels: Their labels, ``(B, k)``; −1 where there is none.
        gold: The true labels ``(B,)``; −1 where there is none.
        usable: Bool ``(B,)``: whether the example's features are finite.
        numbers: Of tasks with numbers in the place of a class, double ``(B, 3, C)``: the model's, the mean of the
            neighbours', and the gold ones; NaN where there is none.
    """

    probabilities: Tensor
    distances: Tensor
    places: Tensor
    labels: Tensor
    gold: Tensor
    usable: Tensor
    numbers: Tensor | None = None

    @property
    def predicted(self) -> Tensor:
        """The model's class, ``(B,)``."""
        return self.probabilities.argmax(dim=1)

    def weighed(self, metric: str) -> Tensor:
        """Return d of p_kNN: squared where it is Euclidean."""
        return self.distances.square() if metric == "euclidean" else self.distances

    def at(self, rows: Tensor) -> Answers:
        """Return the answers of some examples, on the CPU."""
        parts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        known: dict[str, Any] = {name: part.cpu()[rows] for name, part in parts.items() if part is not None}
        return Answers(**known)

    @staticmethod
    def joined(answers: Sequence[Answers]) -> Answers:
        """Return the answers of several batches as those of one, on the CPU."""
        parts = {name: [getattr(a, name) for a in answers] for name in Answers.__dataclass_fields__}
        known: dict[str, Any] = {n: torch.cat([each.cpu() for each in p]) for n, p in parts.items() if p[0] is not None}
        return Answers(**known)


@dataclass(frozen=True)
class Calibration:
    """What held-out examples say of how far neighbours are to be trusted.

    Attributes:
        conformities: Conformity of each held-out example to its true label, ``(m,)``.
        back_off: The threshold below which the neighbours are asked, and how.
        k: Neighbours that were counted.
        accuracy_model: Accuracy on the held-out examples, of the model;
        accuracy_knn: of p_kNN;
        accuracy_mixture: of the back-off, which was chosen on them.
    """

    conformities: Tensor
    back_off: BackOff
    k: int
    accuracy_model: float
    accuracy_knn: float
    accuracy_mixture: float


def calibrate(
    answers: Answers,
    k: int,
    metric: str,
    *,
    temperature: float | None = None,
    weights: Sequence[float] = WEIGHTS,
    ks: Sequence[int] = (),
) -> Calibration:
    """Return the calibration by what was said of held-out examples; those without a label are left out.

    Args:
        answers: What they said.
        k: Neighbours whose conformity counts.
        metric: Of the distances.
        temperature: T of p_kNN; by default chosen among multiples of the mean distance.
        weights: Values of λ to choose from.
        ks: Numbers of neighbours to choose from; by default ``k``.

    Raises:
        ValueError: If no held-out example has a label.
    """
    kept = answers.at((answers.usable & (answers.gold >= 0)).cpu())
    if not len(kept.gold) or not kept.probabilities.shape[1]:
        raise ValueError("There is nothing to calibrate on: no held-out example has a class as its label.")
    distances = kept.weighed(metric)
    scale = mean_of(distances)
    temperatures = [scale * each for each in TEMPERATURES] if temperature is None else [temperature]
    back_off = choose_back_off(
        kept.probabilities,
        distances,
        kept.labels,
        kept.gold,
        weights=weights,
        temperatures=temperatures,
        ks=list(ks) or [k],
    )
    knn = back_off.knn(distances, kept.labels, kept.probabilities.shape[1])

    def accuracy(said: Tensor) -> float:
        return float((said.argmax(dim=1) == kept.gold).double().mean())

    return Calibration(
        conformities=conformity(kept.labels[:, :k], kept.gold),
        back_off=back_off,
        k=k,
        accuracy_model=accuracy(kept.probabilities),
        accuracy_knn=accuracy(knn),
        accuracy_mixture=accuracy(back_off.mixture(kept.probabilities, knn)),
    )


def mean_of(distances: Tensor) -> float:
    """Return the mean of the distances that are finite, never 0; 1 where there is none."""
    finite = distances[distances.isfinite()]
    return max(float(finite.mean()), 1e-12) if len(finite) else 1.0
