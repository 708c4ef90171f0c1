"""The figures of a method, and what one probe says of it."""

from __future__ import annotations

from collections.abc import Mapping
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
