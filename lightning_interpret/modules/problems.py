"""What the labels of a text are, one of several, some of several or numbers: their loss, their figures, their rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MultilabelAccuracy,
    MultilabelF1Score,
)
from torchmetrics.regression import ExplainedVariance, MeanAbsoluteError

from lightning_interpret.tasks import MultiLabelClassification, Regression, SequenceClassification, TextTask


class Problem(ABC):
    """What a classifier's scores mean.

    Attributes:
        config: What `transformers` calls it (``problem_type``), or ``None`` where it finds that out itself.
        figures: The names of its metrics; a progress bar shows the first.
    """

    config: str | None = None
    figures: tuple[str, ...] = ("accuracy", "f1")

    @abstractmethod
    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of scores ``(B, C)``."""

    @abstractmethod
    def metrics(self, labels: Sequence[str]) -> dict[str, Metric]:
        """Return the metric of each figure."""

    def judged(self, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the metrics are given."""
        return scores, labels

    @abstractmethod
    def row(self, scores: Tensor, labels: Sequence[str]) -> dict[str, Any]:
        """Return what is predicted of one text, from its scores ``(C,)``."""

    @abstractmethod
    def task(self, tokenizer: Any, labels: Sequence[str] | None) -> TextTask:
        """Return how Monitors read a module."""


class SingleLabel(Problem):
    """One of several classes."""

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy."""
        return F.cross_entropy(scores, labels)

    def metrics(self, labels: Sequence[str]) -> dict[str, Metric]:
        """Return accuracy, and F1 as a mean over the classes."""
        return {
            "accuracy": MulticlassAccuracy(num_classes=len(labels), average="micro"),
            "f1": MulticlassF1Score(num_classes=len(labels), average="macro"),
        }

    def row(self, scores: Tensor, labels: Sequence[str]) -> dict[str, Any]:
        """Return the predicted ``label`` and the ``probability`` of each class."""
        shares = scores.float().softmax(dim=0).tolist()
        best = labels[max(range(len(shares)), key=shares.__getitem__)]
        return {"label": best, "probability": dict(zip(labels, shares, strict=True))}

    def task(self, tokenizer: Any, labels: Sequence[str] | None) -> TextTask:
        """Return the task of one label a text."""
        return SequenceClassification(tokenizer, labels)


class MultiLabel(Problem):
    """Each class holds, or does not; labels are 1.0 or 0.0, ``(B, C)``."""

    config = "multi_label_classification"

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the mean binary cross-entropy of all classes."""
        return F.binary_cross_entropy_with_logits(scores, labels.to(scores))

    def metrics(self, labels: Sequence[str]) -> dict[str, Metric]:
        """Return the accuracy of all classes together, and F1 as a mean over the classes."""
        return {
            "accuracy": MultilabelAccuracy(num_labels=len(labels), average="micro"),
            "f1": MultilabelF1Score(num_labels=len(labels), average="macro"),
        }

    def judged(self, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities and whole numbers."""
        return scores.float().sigmoid(), labels.long()

    def row(self, scores: Tensor, labels: Sequence[str]) -> dict[str, Any]:
        """Return the ``labels`` with a probability above a half, and the ``probability`` of each."""
        shares = dict(zip(labels, scores.float().sigmoid().tolist(), strict=True))
        return {"labels": [label for label, share in shares.items() if share > 0.5], "probability": shares}

    def task(self, tokenizer: Any, labels: Sequence[str] | None) -> TextTask:
        """Return the task of several labels a text."""
        return MultiLabelClassification(tokenizer, labels)


class Numbers(Problem):
    """A number for each class; labels are floats, ``(B,)`` of one class or ``(B, C)``."""

    config = "regression"
    figures = ("mae", "explained_variance")

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the mean squared error."""
        return F.mse_loss(*self.judged(scores, labels.to(scores)))

    def metrics(self, labels: Sequence[str]) -> dict[str, Metric]:
        """Return the mean absolute error, and the share of the variance that is explained."""
        return {"mae": MeanAbsoluteError(), "explained_variance": ExplainedVariance()}

    def judged(self, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return both as ``(B, C)``.

        Raises:
            ValueError: If there are not as many labels as scores.
        """
        wanted = labels[:, None] if labels.dim() == 1 else labels
        if wanted.shape != scores.shape:
            raise ValueError(
                f"Labels {tuple(labels.shape)} do not fit scores {tuple(scores.shape)}: a number for each output. Give "
                "the module as many `labels`, the names of the outputs, as the data has columns of numbers."
            )
        return scores.float(), wanted.float()

    def row(self, scores: Tensor, labels: Sequence[str]) -> dict[str, Any]:
        """Return the ``value`` of each output."""
        return {"value": dict(zip(labels, scores.float().tolist(), strict=True))}

    def task(self, tokenizer: Any, labels: Sequence[str] | None) -> TextTask:
        """Return the task of numbers."""
        return Regression(tokenizer, labels)


PROBLEMS: dict[str, Problem] = {
    "single_label": SingleLabel(),
    "multi_label": MultiLabel(),
    "regression": Numbers(),
}


def problem_named(config_type: str | None) -> str:
    """Return our name of a configuration's ``problem_type``; one of several where it says nothing."""
    return next((name for name, each in PROBLEMS.items() if config_type and each.config == config_type), "single_label")
