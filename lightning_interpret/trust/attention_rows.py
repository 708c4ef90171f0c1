"""What the debate about attention measured of each text, and its summaries by class."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Self

SCHEMA = 1
SIGNIFICANT = 0.05
#: Where the largest weight of a text is put, as in Jain and Wallace's figures.
BINS = (0.0, 0.25, 0.5, 0.75, 1.0)
#: The pairs of orders that are compared; of the random order one number is drawn for each token.
PAIRS = (
    ("attention", "gradient"),
    ("attention", "leave-one-out"),
    ("gradient", "leave-one-out"),
    ("random", "gradient"),
    ("random", "leave-one-out"),
)
#: The orders by which weights are erased.
ORDERS = ("attention", "gradient", "gradient x attention", "random")
ALL = "all"


@dataclass(frozen=True)
class AttentionRow:
    """One text. What was not asked for, or has no value, is ``None`` or missing, and ``reasons`` says why.

    Attributes:
        label: Its gold class, or the predicted one where the batch has no labels.
        prediction: The class predicted.
        tokens: How many of its tokens are neither special nor padding.
        largest: Its largest weight.
        tau: Kendall's τ-b of each pair of orders, by ``"first ~ second"``.
        p: The p-value of each.
        permuted: Median change of the answer (total variation) over permutations of its attention.
        divergence: Jensen-Shannon divergence of its adversarial attention from its own, nats.
        change: Change of the answer under that attention.
        top_flips: Whether the decision flips without the largest weight.
        random_flips: Whether it does without a random other one.
        top_more: How much more the answer moves without the largest than without the random one (difference of two
            divergences, nats).
        erased: Weights erased until the decision flips, by order; 0 where it never does.
        example_id: Its id in the data set.
        reasons: Why something is missing.
    """

    label: str
    prediction: str
    tokens: int
    largest: float
    tau: Mapping[str, float] = field(default_factory=dict)
    p: Mapping[str, float] = field(default_factory=dict)
    permuted: float | None = None
    divergence: float | None = None
    change: float | None = None
    top_flips: bool | None = None
    random_flips: bool | None = None
    top_more: float | None = None
    erased: Mapping[str, int] = field(default_factory=dict)
    example_id: int | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_dict` wrote."""
        return cls(**written)


def pair_name(first: str, second: str) -> str:
    """Return the name of a pair of orders."""
    return f"{first} ~ {second}"


def by_class(rows: Sequence[AttentionRow]) -> dict[str, list[AttentionRow]]:
    """Return the rows of each class, in the order of the names, and all of them."""
    labels = sorted({row.label for row in rows})
    return {label: [row for row in rows if row.label == label] for label in labels} | {ALL: list(rows)}


def summary(rows: Sequence[AttentionRow]) -> dict[str, Any]:
    """Return the figures of each class and of all, as JSON holds them; a figure of no text is ``None``."""
    parts: dict[str, Callable[[list[AttentionRow]], dict[str, Any]]] = {
        "agreement": agreement,
        "permuted": permuted,
        "adversarial": adversarial,
        "erasure": erasure,
    }
    classes = by_class(rows)
    found: dict[str, Any] = {
        name: {label: part(some) for label, some in classes.items()} for name, part in parts.items()
    }
    return found | {"left_out": left_out(rows)}


def agreement(rows: Sequence[AttentionRow]) -> dict[str, Any]:
    """Return mean, standard deviation, share with p ≤ .05 and number of texts of each τ."""
    found = {}
    for name in (pair_name(*pair) for pair in PAIRS):
        taus, ps = ([getattr(row, what)[name] for row in rows if name in row.tau] for what in ("tau", "p"))
        spread = statistics.pstdev(taus) if taus else None
        significant = share(p <= SIGNIFICANT for p in ps)
        found[name] = {"mean": mean(taus), "std": spread, "significant": significant, "texts": len(taus)}
    return found


def permuted(rows: Sequence[AttentionRow]) -> dict[str, Any]:
    """Return the mean of the median changes, also by where the largest weight lies."""
    there = [row for row in rows if row.permuted is not None]
    bins = {}
    for low, high in pairwise(BINS):
        inside = [row.permuted for row in there if low <= row.largest < high or (high == 1 and row.largest >= 1)]
        bins[f"{low:g}-{high:g}"] = {"mean": mean(inside), "texts": len(inside)}
    return {"mean": mean([row.permuted for row in there]), "texts": len(there), "by_largest_weight": bins}


def adversarial(rows: Sequence[AttentionRow]) -> dict[str, Any]:
    """Return mean and quantiles of the divergences, and the mean change of the answer."""
    there = [row for row in rows if row.divergence is not None]
    values = sorted(float(row.divergence or 0) for row in there)
    return {
        "mean": mean(values),
        "median": statistics.median(values) if values else None,
        "p95": _quantile(values, 0.95),
        "change": mean([row.change for row in there]),
        "texts": len(there),
    }


def erasure(rows: Sequence[AttentionRow]) -> dict[str, Any]:
    """Return what one weight does, and how much of a text's attention is erased until the decision flips, by order.

    ``erased`` is the mean share of the weights; a decision that never flips counts as 1.
    """
    one = [row for row in rows if row.top_flips is not None]
    kinds = Counter((row.top_flips, row.random_flips) for row in one)
    of = len(one) or None
    flips = {
        "both": (True, True),
        "only the largest": (True, False),
        "only the random one": (False, True),
        "neither": (False, False),
    }
    there = [row for row in rows if row.erased]
    orders = {}
    for order in ORDERS:
        counts = [(row.erased[order], row.tokens) for row in there]
        flipped = [count for count, _ in counts if count]
        orders[order] = {
            "flipped": share(count > 0 for count, _ in counts),
            "erased": mean([count / tokens if count else 1.0 for count, tokens in counts]),
            "weights": mean(flipped),
            "texts": len(counts),
        }
    return {
        "one": {name: None if of is None else kinds[kind] / of for name, kind in flips.items()},
        "largest moves more": share(row.top_more > 0 for row in one if row.top_more is not None),
        "texts": len(one),
        "orders": orders,
    }


def left_out(rows: Sequence[AttentionRow]) -> dict[str, dict[str, int]]:
    """Return of how many texts what is missing, and why."""
    counted: dict[str, Counter[str]] = {}
    for row in rows:
        for what, why in row.reasons.items():
            counted.setdefault(what, Counter())[why] += 1
    return {what: dict(reasons) for what, reasons in counted.items()}


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """Return the value below which a share of the others lies, between two of them if need be; None of none."""
    if not ordered:
        return None
    below, part = divmod(share * (len(ordered) - 1), 1)
    low, high = ordered[int(below)], ordered[min(int(below) + 1, len(ordered) - 1)]
    return low + part * (high - low)


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of those that are there; None of none."""
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there else None


def share(values: Iterable[bool]) -> float | None:
    """Return which part is true; None of none."""
    return mean([float(value) for value in values])
