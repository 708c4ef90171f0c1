"""How far groups agree with kinds that are known: adjusted mutual information, purity, and both by chance."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

SHUFFLES = 200
LEAST = 5  # cases of a kind that its purity is told of


def mutual_information(a: Sequence[Hashable], b: Sequence[Hashable]) -> float:
    """Return the mutual information of two partitions, in nats."""
    n, both, left, right = len(a), Counter(zip(a, b, strict=True)), Counter(a), Counter(b)
    return sum(count / n * math.log(count * n / (left[x] * right[y])) for (x, y), count in both.items())


def adjusted_mutual_information(a: Sequence[Hashable], b: Sequence[Hashable], seed: int) -> tuple[float, float]:
    """Return mutual information less its mean over shuffles, over the most it can be less that; and a shuffle's most.

    0 is chance and 1 the same partition (Vinh, Epps and Bailey, JMLR 2010, with the mean of the two entropies; the
    expectation is taken over shuffles here).
    """
    draw, shuffled = random.Random(seed), list(b)
    chance = []
    for _ in range(SHUFFLES):
        draw.shuffle(shuffled)
        chance.append(mutual_information(a, shuffled))
    expected, most = sum(chance) / SHUFFLES, (mutual_information(a, a) + mutual_information(b, b)) / 2
    if most - expected <= 0:
        return 0.0, 0.0
    return (mutual_information(a, b) - expected) / (most - expected), (max(chance) - expected) / (most - expected)


def purities(kinds: Sequence[str], groups: Sequence[int], seed: int) -> list[dict[str, Any]]:
    """Return for each kind the largest share of its cases that one group has, beside that of shuffled groups.

    ``times`` says how often that share is the group's own share of all cases.
    """
    draw, sizes, shuffled = random.Random(seed), Counter(groups), list(groups)
    chance: dict[str, list[float]] = {}
    for _ in range(SHUFFLES):
        draw.shuffle(shuffled)
        for kind, (_, share) in _largest(kinds, shuffled).items():
            chance.setdefault(kind, []).append(share)
    counts = Counter(kinds)
    rows = [
        {
            "name": kind,
            "cases": counts[kind],
            "group": group,
            "purity": share,
            "shuffled": sum(chance[kind]) / SHUFFLES,
            "times": share / (sizes[group] / len(groups)),
        }
        for kind, (group, share) in _largest(kinds, groups).items()
        if counts[kind] >= LEAST
    ]
    return sorted(rows, key=lambda row: -(row["purity"] - row["shuffled"]))


def _largest(kinds: Sequence[str], groups: Sequence[int]) -> dict[str, tuple[int, float]]:
    found: dict[str, Counter[int]] = {}
    for kind, group in zip(kinds, groups, strict=True):
        found.setdefault(kind, Counter())[group] += 1
    largest = {kind: counter.most_common(1)[0] for kind, counter in found.items()}
    return {kind: (group, count / found[kind].total()) for kind, (group, count) in largest.items()}
