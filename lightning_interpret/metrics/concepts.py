"""How well concepts are told, what setting them does, how much leaks through them, and how much goes past them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_interpret.functional.concepts import Predict, centred, concept_counts, curve_counts, right
from lightning_interpret.functional.probe import LEAST, leakage
from lightning_interpret.metrics.full_precision import FullPrecisionMetric
from lightning_interpret.metrics.mean_of_examples import NONE_GIVEN, keep_apart, say_why
from lightning_interpret.names import check_whole


class ConceptAccuracy(Metric):
    """Mean over concepts of the share of labels that are met; missing labels are left out.

    Args:
        concepts: How many concepts, K.
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    higher_is_better = True
    full_state_update = False
    met: Tensor
    there: Tensor

    def __init__(self, concepts: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_whole(concepts=concepts)
        self.add_state("met", torch.zeros(concepts, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("there", torch.zeros(concepts, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Add examples: probabilities ``(B, K)`` and labels ``(B, K)``, NaN or −1 where there is none."""
        met, there = concept_counts(probabilities, labels)
        self.met += met.to(self.met)
        self.there += there.to(self.there)

    def compute(self) -> Tensor:
        """Return the mean over the concepts that have labels, NaN without any."""
        say_why(self)
        return (self.met / self.there).nanmean()

    @property
    def reason(self) -> str | None:
        """Why the mean is NaN, by what this process was given; None where it is a number."""
        if bool(self.there.any()):
            return None
        return "no example has a label of a concept" if self.update_called else NONE_GIVEN


class InterventionCurve(Metric):
    """Accuracy of a task after some of the true concepts were set, in random order (Koh et al., 2020, §4.2).

    Args:
        concepts: How many concepts, K.
        points: At how many numbers of concepts, from 0 to all, it is measured; at each by default.
        seed: Seed of the order.
        kwargs: Passed on to :class:`torchmetrics.Metric`.

    Attributes:
        counts: How many concepts are set at each point, long ``(P,)``.
    """

    higher_is_better = True
    full_state_update = False
    correct: Tensor
    total: Tensor

    def __init__(self, concepts: int, points: int | None = None, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_whole(concepts=concepts)
        check_whole(2, points=2 if points is None else points)
        points = concepts + 1 if points is None else min(points, concepts + 1)
        self.counts = torch.linspace(0, concepts, points).round().long()
        self.seed = seed
        self.add_state("correct", torch.zeros(points, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")
        keep_apart(self, seed=seed)

    def update(self, values: Tensor, truth: Tensor, labels: Tensor, predict: Predict) -> None:
        """Add examples.

        Args:
            values: What the head reads of the concepts, ``(B, K)``.
            truth: The same of true concepts; NaN where nobody has said, so that the value stays.
            labels: Classes, long ``(B,)``; negative where there is none, which is left out.
            predict: Returns the class scores ``(P, B, C)`` of values ``(P, B, K)``.
        """
        found = predict(curve_counts(values, truth, self.counts, self.seed))
        self.correct += right(found, labels).sum(dim=1).to(self.correct)
        self.total += (labels >= 0).sum().to(self.total)

    def compute(self) -> Tensor:
        """Return the accuracies ``(P,)``, NaN without examples."""
        say_why(self)
        return self.correct / self.total

    @property
    def reason(self) -> str | None:
        """Why the accuracies are NaN, by what this process was given; None where they are numbers."""
        if self.total:
            return None
        return "no example has a class" if self.update_called else NONE_GIVEN


class ConceptLeakage(Metric):
    """By how much true concepts predict a label better with the model's values beside them: 0 where nothing leaks.

    See :func:`~lightning_interpret.functional.probe.leakage`.

    Args:
        limit: How many examples each process keeps; those that come later are not looked at.
        threshold: Above it a concept is there: 0.5 of probabilities, 0 of logits.
        seed: Seed of the halves.
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    higher_is_better = False
    full_state_update = False
    values: list[Tensor] | Tensor
    truth: list[Tensor] | Tensor
    labels: list[Tensor] | Tensor

    def __init__(self, limit: int = 2000, threshold: float = 0.5, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_whole(limit=limit)
        self.limit, self.threshold, self.seed = limit, threshold, seed
        for name in ("values", "truth", "labels"):
            self.add_state(name, [], dist_reduce_fx="cat")
        keep_apart(self, limit=limit)

    def update(self, values: Tensor, truth: Tensor, labels: Tensor) -> None:
        """Add examples: values ``(B, K)``, true concepts ``(B, K)`` or NaN, classes ``(B,)``, below 0 where none is."""
        assert isinstance(self.labels, list)
        room, known = self.limit - sum(map(len, self.labels)), labels >= 0
        if room > 0:
            for name, part in (("values", values.float()), ("truth", truth.float()), ("labels", labels.long())):
                getattr(self, name).append(part[known][:room].detach())

    def compute(self) -> Tensor:
        """Return the difference of the two probes' accuracies, NaN of fewer than 4 examples."""
        say_why(self)
        if isinstance(self.labels, list) and not self.labels:
            return torch.tensor(torch.nan)
        kept = (self.values, self.truth, self.labels)  # lists in one process, tensors where several were gathered
        values, truth, labels = (torch.cat(each) if isinstance(each, list) else each for each in kept)
        return torch.tensor(leakage(values, truth, labels, self.threshold, self.seed).gain)

    @property
    def reason(self) -> str | None:
        """Why the difference is NaN, by what this process was given; None where it is a number."""
        kept = len(self.labels) if isinstance(self.labels, Tensor) else sum(map(len, self.labels))
        if kept >= LEAST:
            return None
        return f"{kept} examples have a class, and a probe needs {LEAST}" if self.update_called else NONE_GIVEN


class ResidualShare(FullPrecisionMetric):
    """How much of what moves the class scores comes past the concepts, in [0, 1]: 0 without a residual path.

    See :func:`~lightning_interpret.functional.concepts.residual_share`.

    Args:
        classes: How many class scores, C.
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    higher_is_better = False
    full_state_update = False
    sums: Tensor
    squares: Tensor
    total: Tensor

    def __init__(self, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_whole(classes=classes)
        self.add_state("sums", torch.zeros(2, classes, dtype=torch.double), dist_reduce_fx="sum")
        self.add_state("squares", torch.zeros(2, dtype=torch.double), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, concepts: Tensor, residual: Tensor) -> None:
        """Add examples: what concepts and residual add to the class scores, both ``(B, C)``."""
        parts = torch.stack([centred(concepts.double()), centred(residual.double())])
        self.sums += parts.sum(dim=1).to(self.sums)
        self.squares += parts.square().sum(dim=(1, 2)).to(self.squares)
        self.total += len(concepts)

    def compute(self) -> Tensor:
        """Return the share, NaN where nothing varies."""
        say_why(self)
        variances = self._variances()
        return (variances[1] / variances.sum()).float()

    @property
    def reason(self) -> str | None:
        """Why the share is NaN, by what this process was given; None where it is a number."""
        if not self.total:
            return NONE_GIVEN
        return None if bool(self._variances().any()) else "no class score varies from one example to another"

    def _variances(self) -> Tensor:
        return (self.squares / self.total - (self.sums / self.total).square().sum(dim=1)).clamp(min=0)
