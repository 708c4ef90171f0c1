"""The mean change of explanations since they were last made."""

from typing import Any

import torch
from torch import Tensor

from lightning_interpret.functional.agreement import drift
from lightning_interpret.metrics.full_precision import FullPrecisionMetric


class ExplanationDrift(FullPrecisionMetric):
    """Mean of 1 − cos(scores, before) over examples: 0 unchanged, 2 where every sign has turned.

    Args:
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.tensor(0.0, dtype=torch.float32), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, scores: Tensor, before: Tensor) -> None:
        """Add examples: attributions now and before, both ``(N, T)``."""
        self.total += drift(scores, before).sum().to(self.total)
        self.count += len(scores)

    def compute(self) -> Tensor:
        """Return the mean, NaN without examples."""
        return self.total / self.count
