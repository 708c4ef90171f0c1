"""The figures of a method, and what one probe says of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

#: The control: orders drawn at random, which every figure of erasure stands beside.
RANDOM = "random order"

#: Figures in the order of a table, the attribution error first.
FIGURES = (
    *("relative_error", "comprehensiveness", "sufficiency", "log_odds", "leave_one_out", "randomisation"),
    "max_sensitivity",
    *("token_f1", "iou_f1", "auprc", "gini", "seconds", "passes"),
)

#: What a probe has in their place where the whole is no mean of them: |Σ scores − T| and max(|T|, τ), of which the
#: relative error is the ratio; precision and recall of spans, of whose means F1 is taken (ERASER).
PARTS = ("error", "target", "iou_precision", "iou_recall")

_OF_COST = ("seconds", "passes")


@dataclass(frozen=True)
class Probed:
    """What one probe says of each method, in plain Python, so that processes can send it to each other.

    Attributes:
        figures: By method and figure; one that is not known is missing. The control is a method too.
        agreement: By a pair of methods, their Kendall's τ and the share of the largest tokens that they have in common.
        failed: By method, why it could not explain the probe.
        reasons: By method and figure, why it is missing.
    """

    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    agreement: Mapping[tuple[str, str], tuple[float | None, float]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def of_examples(rows: Sequence[Probed], example: Sequence[int], size: int) -> list[Probed]:
    """Return what each of ``size`` examples says, of what its targets do: one a target, each of one ``example``.

    A figure is the mean over the targets that have it, seconds and passes are their sum. A method that fails at a
    target fails at the example. An example without a target says nothing.
    """
    if list(example) == list(range(size)):
        return list(rows)
    return [_together([row for row, i in zip(rows, example, strict=True) if i == number]) for number in range(size)]


def _together(rows: Sequence[Probed]) -> Probed:
    failed = {name: why for row in rows for name, why in row.failed.items()}
    names = dict.fromkeys(name for row in rows for name in row.figures if name not in failed)
    figures = {name: _joined([row.figures[name] for row in rows if name in row.figures]) for name in names}
    pairs = dict.fromkeys(pair for row in rows for pair in row.agreement if not failed.keys() & set(pair))
    agreement = {pair: _agreed([row.agreement[pair] for row in rows if pair in row.agreement]) for pair in pairs}
    reasons = {
        name: {
            figure: why
            for row in rows
            for figure, why in row.reasons.get(name, {}).items()
            if figure not in figures[name]
        }
        for name in names
    }
    return Probed(figures, agreement, failed, reasons)


def _joined(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for row in rows for name in row)
    values = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: math.fsum(each) / (1 if name in _OF_COST else len(each)) for name, each in values.items()}


def _agreed(pairs: Sequence[tuple[float | None, float]]) -> tuple[float | None, float]:
    taus = [tau for tau, _ in pairs if tau is not None]
    return _mean(taus) if taus else None, _mean([share for _, share in pairs])


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return math.fsum(known) / len(known)
