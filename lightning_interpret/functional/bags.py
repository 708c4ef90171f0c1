"""Bags of features, a set of whole numbers an example: near-duplicates, and what the features alone say of a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

_PRIME = 2**31 - 1
_BANDS, _ROWS = (
    16,
    5,
)  # of min-hashes: pairs that share 0.6 of their features meet in 0.73, of 0.8 in 0.998 of the cases
_AT_ONCE = 16
_TEMPERATURES = torch.logspace(0, 2.5, 26, dtype=torch.double)


@dataclass(frozen=True)
class Bags:
    """Sets of features, one an example.

    Attributes:
        values: Long ``(m,)``, the features of all examples one after another, none twice in an example.
        offsets: Long ``(n + 1,)``, where each example begins.
        width: Features there can be; each is at least 0 and below it.
    """

    values: Tensor
    offsets: Tensor
    width: int

    @classmethod
    def of(cls, sets: Sequence[Sequence[int]], width: int) -> Self:
        """Return the bags of some examples."""
        offsets = torch.tensor([0, *map(len, sets)]).cumsum(dim=0)
        return cls(torch.tensor([value for each in sets for value in each], dtype=torch.long), offsets, width)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> Tensor:
        """How many features each example has, ``(n,)``."""
        return self.offsets.diff()

    @property
    def rows(self) -> Tensor:
        """The example that each of ``values`` is of, ``(m,)``."""
        return torch.repeat_interleave(torch.arange(len(self)), self.sizes)

    def summed(self, weight: Tensor) -> Tensor:
        """Return the sum of the weights ``(width, C)`` of each example's features, ``(n, C)``."""
        return F.embedding_bag(self.values, weight, self.offsets, mode="sum", include_last_offset=True)


def jaccard(queries: Bags, bags: Bags) -> Tensor:
    """Return the share of common features, |A ∩ B| / |A ∪ B|, of each query with each bag, ``(q, n)``."""
    found = torch.zeros(len(queries), len(bags))
    rows = queries.rows
    for start in range(0, len(queries), _AT_ONCE):
        part = (rows >= start) & (rows < start + _AT_ONCE)
        dense = torch.zeros(bags.width, min(_AT_ONCE, len(queries) - start))
        dense[queries.values[part], rows[part] - start] = 1.0
        common = bags.summed(dense).T
        union = queries.sizes[start : start + _AT_ONCE, None] + bags.sizes[None] - common
        found[start : start + _AT_ONCE] = common / union.clamp(min=1)
    return found


def near_duplicates(bags: Bags, least: float, seed: int = 0) -> Tensor:
    """Return a number for each example that it shares with its near-duplicates, ``(n,)``: the least row among them.

    Candidates are pairs that meet in a band of min-hashes (Broder, 1997); a pair counts if its Jaccard similarity,
    computed exactly, is at least ``least``. Near-duplicates of near-duplicates are such too.

    Args:
        bags: The examples.
        least: Least Jaccard similarity of a pair.
        seed: Seed of the hashes.
    """
    size = len(bags)
    cluster = torch.arange(size)
    full = (bags.sizes > 0).nonzero().flatten()
    if len(full) < 2:
        return cluster
    generator = torch.Generator().manual_seed(seed)
    pairs = set[tuple[int, int]]()
    for _ in range(_BANDS):
        scale, shift = (torch.randint(1, _PRIME, (_ROWS, 1), generator=generator) for _ in range(2))
        hashes = (scale * bags.values[None] + shift) % _PRIME
        least_hash = torch.full((_ROWS, size), _PRIME).scatter_reduce(
            1, bags.rows.expand(_ROWS, -1), hashes, "amin", include_self=True
        )
        key = torch.zeros(size, dtype=torch.long)
        for one in least_hash:
            key = (key * 1_000_003 + one) % _PRIME**2
        order = full[key[full].argsort(stable=True)]
        same = (key[order[1:]] == key[order[:-1]]).nonzero().flatten()
        pairs |= set(zip(order[same].tolist(), order[same + 1].tolist(), strict=True))
    edges = [(a, b) for a, b in pairs if _similar(bags, a, b) >= least]
    if not edges:
        return cluster
    first, second = (torch.tensor(side) for side in zip(*edges, strict=True))
    while True:
        lower = torch.minimum(cluster[first], cluster[second])
        after = cluster.scatter_reduce(0, first, lower, "amin").scatter_reduce(0, second, lower, "amin")
        after = after[after]
        if bool((after == cluster).all()):
            return cluster
        cluster = after


@dataclass(frozen=True)
class LabelModel:
    """Naive Bayes over features, and what it says of each training example when its own fold is left out.

    Attributes:
        weight: Log-probability of each feature in each class, ``(width, C)``.
        prior: Log-share of each class, ``(C,)``.
        temperature: What scores are divided by, chosen on the folds: Naive Bayes is far too sure.
        held_out: Probability of each class for each training example, by the other folds, ``(n, C)``.
    """

    weight: Tensor
    prior: Tensor
    temperature: float
    held_out: Tensor

    @classmethod
    def fit(cls, bags: Bags, labels: Tensor, classes: int, groups: Tensor, folds: int = 5) -> LabelModel:
        """Return the model of labelled bags, with near-duplicates always in the same fold.

        Multinomial Naive Bayes on features that are there or not, with one added to each count (Wang and Manning, 2012,
        section 2.1), its scores tempered to the least log-loss of the held-out examples.

        Args:
            bags: The examples.
            labels: Class of each, ``(n,)``; below 0 for none.
            classes: How many there are.
            groups: A number for each example, ``(n,)``: those of one number are in one fold.
            folds: How many parts are held out in turn.
        """
        fold = (groups * 40_503 + 17) % _PRIME % folds
        labelled = labels >= 0
        per_fold = torch.stack([_counts(bags, labels, classes, labelled & (fold == f)) for f in range(folds)])
        sizes = torch.stack([_sizes(labels, classes, labelled & (fold == f)) for f in range(folds)])
        scores = torch.zeros(len(bags), classes, dtype=torch.double)
        for f in range(folds):
            weight, prior = _weights(per_fold.sum(dim=0) - per_fold[f], sizes.sum(dim=0) - sizes[f])
            held = fold == f
            scores[held] = (bags.summed(weight) + prior)[held]
        temperature = _temperature(scores[labelled], labels[labelled])
        weight, prior = _weights(per_fold.sum(dim=0), sizes.sum(dim=0))
        return cls(weight, prior, temperature, (scores / temperature).softmax(dim=1))

    def probabilities(self, bags: Bags) -> Tensor:
        """Return the probability of each class for other examples, ``(q, C)``."""
        return ((bags.summed(self.weight) + self.prior) / self.temperature).softmax(dim=1)


def _similar(bags: Bags, a: int, b: int) -> float:
    first, second = (set(bags.values[int(bags.offsets[i]) : int(bags.offsets[i + 1])].tolist()) for i in (a, b))
    return len(first & second) / max(1, len(first | second))


def _counts(bags: Bags, labels: Tensor, classes: int, kept: Tensor) -> Tensor:
    """Return how many kept examples of each class have each feature, ``(width, C)``."""
    rows = bags.rows
    there = kept[rows]
    flat = bags.values[there] * classes + labels[rows[there]]
    return flat.bincount(minlength=bags.width * classes).reshape(bags.width, classes).double()


def _sizes(labels: Tensor, classes: int, kept: Tensor) -> Tensor:
    return labels[kept].bincount(minlength=classes).double()


def _weights(counts: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    smoothed = counts + 1.0
    # a feature that no example has says nothing, whatever the sizes of the classes
    weight = (smoothed / smoothed.sum(dim=0)).log().masked_fill((counts.sum(dim=1) == 0)[:, None], 0.0)
    return weight, ((sizes + 1) / (sizes + 1).sum()).log()


def _temperature(scores: Tensor, labels: Tensor) -> float:
    if not len(labels):
        return 1.0
    losses = torch.stack([F.cross_entropy(scores / t, labels) for t in _TEMPERATURES])
    return float(_TEMPERATURES[losses.argmin()])
