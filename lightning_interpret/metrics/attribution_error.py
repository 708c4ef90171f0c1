"""The mean attribution error: how far attributions miss what they attribute."""

from typing import Any

import torch
from torch import Tensor

from lightning_interpret.functional.path import relative_error
from lightning_interpret.metrics.full_precision import FullPrecisionMetric


class AttributionError(FullPrecisionMetric):
    """Mean of |Σ scores − T| over examples, T mostly F(x) − F(x') (Sundararajan et al., 2017, proposition 1).

    Args:
        relative: Whether each error is divided by max(|T|, ``floor``).
        floor: Floor τ of that denominator, in units of F.
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    higher_is_better = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, relative: bool = False, floor: float = 0.01, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.relative, self.floor = relative, floor
        self.add_state("total", torch.tensor(0.0, dtype=torch.float32), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, scores: Tensor, target: Tensor, baseline_target: Tensor | None = None) -> None:
        """Add examples: ``scores`` ``(N, ...)``, F(x) and F(x') ``(N,)``; or, without the last, T itself."""
        wanted = target.double() if baseline_target is None else target.double() - baseline_target.double()
        error = scores.flatten(1).double().sum(dim=1) - wanted
        if self.relative:
            error = relative_error(error, wanted, self.floor)
        self.total += error.abs().sum().to(self.total)
        self.count += len(error)

    def compute(self) -> Tensor:
        """Return the mean, NaN without examples."""
        return self.total / self.count
