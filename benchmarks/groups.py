"""How far groups agree with kinds that are known: adjusted mutual information, and what is over-represented."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

from lightning_interpret.functional.count_tests import fisher_p_value

SHUFFLES = 200
LEAST = 5  # cases of a kind that is told of


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


def over_represented(kinds: Sequence[str], groups: Sequence[int]) -> list[dict[str, Any]]:
    """Return for each kind the group that it is most over-represented in, by Fisher's exact test.

    ``purity`` is the share of the kind's cases that are in the group, ``base`` that of all others, ``p`` the p-value of
    the one being so much larger, times the pairs that were tried (Bonferroni).
    """
    counts, sizes, both = Counter(kinds), Counter(groups), Counter(zip(kinds, groups, strict=True))
    tried = [kind for kind, count in counts.items() if count >= LEAST]
    rows = []
    for kind in tried:
        others = len(kinds) - counts[kind]
        found = {
            group: fisher_p_value(both[kind, group], counts[kind], size - both[kind, group], others)
            for group, size in sizes.items()
        }
        group = min(found, key=lambda g: (found[g], g))
        rows.append(
            {
                "name": kind,
                "cases": counts[kind],
                "group": group,
                "purity": both[kind, group] / counts[kind],
                "base": (sizes[group] - both[kind, group]) / max(1, others),
                "p": min(1.0, found[group] * len(tried) * len(sizes)),
            }
        )
    return sorted(rows, key=lambda row: row["p"])
