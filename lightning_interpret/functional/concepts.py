"""Concepts of a bottleneck: their loss, what is right of them, what setting them does, and what goes past them.

Labels are ``(B, K)``, 1 where a concept is there and 0 where it is not; NaN or −1 where nobody has said.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Predict = Callable[[Tensor], Tensor]

_LEAST_VARIANCE = 1e-4  # of a probability over a batch: what hardly varies has no correlation


def known_labels(labels: Tensor) -> Tensor:
    """Return which labels are there, bool: all but NaN and −1."""
    return ~(labels.isnan() | (labels == -1))


def wrong_labels(labels: Tensor) -> Tensor:
    """Return which labels are there and lie outside of [0, 1], bool."""
    return known_labels(labels) & ~((labels >= 0) & (labels <= 1))


def concept_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the mean binary cross-entropy over the labels that are there (Koh et al., 2020, §3).

    It is 0, with a gradient that is 0, where there are none, and NaN where one lies outside of [0, 1].

    Args:
        scores: Logits ``(B, K)``.
        labels: ``(B, K)``, also shares between 0 and 1; NaN or −1 where there is none.
    """
    labels = labels.to(scores)
    there = known_labels(labels)
    losses = F.binary_cross_entropy_with_logits(scores, labels.where(there, 0.0), reduction="none").where(there, 0.0)
    losses = losses.masked_fill(wrong_labels(labels), torch.nan)
    return losses.sum() / there.sum().clamp(min=1)


def decorrelation(probabilities: Tensor, free: int) -> Tensor:
    """Return the mean squared correlation, over a batch, of each free concept with every other one, in [0, 1].

    The other concepts are not moved by it. It is 0 of a single row, and of a single concept.

    Args:
        probabilities: ``(B, K)``; the free concepts are the last ones.
        free: How many they are, 1 at least.
    """
    rows, count = probabilities.shape
    if rows < 2 or count < 2:
        return probabilities.sum() * 0.0
    centred = probabilities - probabilities.mean(dim=0)
    scaled = centred / (centred.square().mean(dim=0) + _LEAST_VARIANCE).sqrt()
    named, own = scaled[:, :-free].detach(), scaled[:, -free:]
    with_named, with_own = own.T @ named / rows, own.T @ own / rows
    total = with_named.square().sum() + with_own.square().sum() - with_own.diagonal().square().sum()
    return total / (free * (count - 1))


def concept_counts(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return of each concept how many labels are met and how many are there, long ``(K,)``.

    A concept is there, in a label or a probability, above 0.5; a probability that is NaN meets no label.

    Raises:
        ValueError: If the shapes differ.
    """
    if probabilities.shape != labels.shape or labels.dim() != 2:
        raise ValueError(
            "Expected probabilities and labels of concepts, both (B, K), but got "
            f"{tuple(probabilities.shape)} and {tuple(labels.shape)}."
        )
    there = known_labels(labels)
    met = ((probabilities > 0.5) == (labels > 0.5)) & there & ~probabilities.isnan()
    return met.sum(dim=0), there.sum(dim=0)


def concept_accuracy(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the accuracy of each concept over the labels that are there, ``(K,)``; NaN of one without any."""
    met, there = concept_counts(probabilities, labels)
    return met / there


def with_concepts(values: Tensor, truth: Tensor) -> Tensor:
    """Return the values ``(..., K)`` as the head reads them with the truth, in the same units, where it is not NaN."""
    return truth.to(values).where(~truth.to(values).isnan(), values)


def curve_counts(values: Tensor, truth: Tensor, counts: Tensor, seed: int = 0) -> Tensor:
    """Return the values with the truth of some concepts in their place, as many as ``counts`` says, ``(P, B, K)``.

    Which are the first, is drawn for each row anew; of a concept without a label the value stays.

    Args:
        values: What the head reads of the concepts, ``(B, K)``.
        truth: The same of true concepts; NaN where nobody has said.
        counts: How many are set, long ``(P,)``.
        seed: Seed of the order.
    """
    generator = torch.Generator().manual_seed(seed)
    rank = torch.rand(values.shape, generator=generator).argsort(dim=1).argsort(dim=1).to(values.device)
    chosen = rank < counts.to(values.device)[:, None, None]
    return with_concepts(values, truth).where(chosen, values)


def intervention_curve(
    values: Tensor, truth: Tensor, labels: Tensor, predict: Predict, counts: Tensor | None = None, seed: int = 0
) -> Tensor:
    """Return the accuracy of a task after 0, 1, ... true concepts were set, in random order, ``(P,)``.

    Args:
        values: What the head reads of the concepts, ``(B, K)``.
        truth: The same of true concepts; NaN where nobody has said.
        labels: Classes, long ``(B,)``.
        predict: Returns the class scores ``(P, B, C)`` of values ``(P, B, K)``.
        counts: How many are set, long ``(P,)``; by default 0 to K.
        seed: Seed of the order.
    """
    counts = torch.arange(values.shape[1] + 1) if counts is None else counts
    return right(predict(curve_counts(values, truth, counts, seed)), labels).float().mean(dim=1)


def right(logits: Tensor, labels: Tensor) -> Tensor:
    """Return whether the highest class is the label, bool ``(..., B)``.

    Raises:
        ValueError: If there is one score, of which none is the highest.
    """
    if logits.shape[-1] == 1:
        raise ValueError("The accuracy is of classes, and the head gives one score: give it a score for each class.")
    return logits.argmax(dim=-1) == labels.to(logits.device)


def residual_share(concepts: Tensor, residual: Tensor) -> Tensor:
    """Return how much of what moves the class scores from example to example comes past the concepts, in [0, 1].

    With both parts centred over the classes (a softmax sees no more) and over the examples, it is V(residual) /
    (V(concepts) + V(residual)); NaN where neither varies.

    Args:
        concepts: What the concepts add to the class scores, ``(N, C)``.
        residual: What the residual adds.
    """
    variances = [centred(part).var(dim=0, correction=0).sum() for part in (concepts.double(), residual.double())]
    return variances[1] / (variances[0] + variances[1])


def centred(scores: Tensor) -> Tensor:
    """Return class scores ``(N, C)`` without their mean over the classes; one score stays as it is."""
    return scores - scores.mean(dim=1, keepdim=True) if scores.shape[1] > 1 else scores
