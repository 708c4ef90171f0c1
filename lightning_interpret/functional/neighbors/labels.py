"""What the labels of the neighbours say: shares, p_kNN, conformity, credibility and disagreement."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_interpret.functional.neighbors.search import CHUNK, nearest


def shares(labels: Tensor, classes: int) -> Tensor:
    """Return the share of each class among the neighbours, ``(N, C)``.

    Args:
        labels: Long ``(N, k)``, the labels of the neighbours; a negative one stands for none, and counts for no class.
        classes: Number of classes C.
    """
    return _one_hot(labels, classes).mean(dim=1) if labels.shape[1] else torch.zeros(len(labels), classes)


def knn_probabilities(distances: Tensor, labels: Tensor, classes: int, temperature: float | Tensor) -> Tensor:
    """Return p_kNN, ``(N, C)``: softmax of −d / T over the neighbours, summed by label.

    Khandelwal et al. (2020), equation 2. Without a neighbour that has a label, every class has 1 / C.

    Args:
        distances: ``(N, k)``, d: the squared Euclidean distances, or 1 − cosine.
        labels: Long ``(N, k)``; a negative one stands for none, and has no weight.
        classes: Number of classes C.
        temperature: T, in units of d.
    """
    scores = (-distances / temperature).masked_fill(labels < 0, -torch.inf)
    weights = scores.softmax(dim=1).nan_to_num(0.0) if labels.shape[1] else scores
    found = (weights[:, :, None] * _one_hot(labels, classes).to(weights)).sum(dim=1)
    return torch.where(found.sum(dim=1, keepdim=True) > 0, found, 1 / classes)


def conformity(labels: Tensor, label: Tensor) -> Tensor:
    """Return the share of each query's neighbours that have a label, ``(N,)``.

    1 less Papernot and McDaniel's (2018, equation 1) nonconformity, here as a share.

    Args:
        labels: Long ``(N, k)``, the labels of the neighbours.
        label: Long ``(N,)``, the label asked about.
    """
    return (labels == label[:, None]).double().mean(dim=1) if labels.shape[1] else torch.zeros(len(labels)).double()


def credibility(conformities: Tensor, calibration: Tensor) -> Tensor:
    """Return the share of calibration examples that conform no more than each query, ``(N,)``.

    The empirical p-value of Papernot and McDaniel (2018, equation 2): the share of calibration examples whose
    nonconformity is at least the query's. High: the query conforms as well as data of known label do. Low: nothing the
    model was calibrated on is as strange.

    Args:
        conformities: ``(N,)``, the conformity of each query to the label asked about.
        calibration: ``(m,)``, the conformity of held-out examples to their true labels.

    Raises:
        ValueError: If there is no calibration example.
    """
    if not len(calibration):
        raise ValueError("Credibility needs at least one calibration example, with its true label.")
    ordered = calibration.to(conformities).sort().values
    return torch.searchsorted(ordered, conformities.contiguous(), right=True).double() / len(ordered)


def disagreement(
    features: Tensor,
    ids: Tensor,
    labels: Tensor,
    k: int,
    *,
    metric: str = "euclidean",
    rows: Tensor | None = None,
    chunk: int = CHUNK,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ids and, of each example, the share of its k nearest other examples that have another label.

    A baseline for wrong labels. NaN for an example without a label, or without others.

    Args:
        features: ``(n, d)``.
        ids: Long ``(n,)``.
        labels: Long ``(n,)``; a negative one stands for none, and agrees with no other.
        k: Neighbours of each example.
        metric: ``euclidean`` or ``cosine``.
        rows: Long, positions of the examples asked about; by default all.
        chunk: Numbers held at once.
    """
    rows = torch.arange(len(features)) if rows is None else rows
    for part in rows.split(256):
        _, found = nearest(features[part], features, ids, k, metric=metric, exclude=ids[part], chunk=chunk)
        same = conformity(labels[found], labels[part])
        known = (labels[part] >= 0) & (found.shape[1] > 0)
        yield ids[part], (1 - same).masked_fill(~known, torch.nan)


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    outside = (labels < 0) | (labels >= classes)
    return F.one_hot(labels.masked_fill(outside, classes), classes + 1)[..., :classes].double()
