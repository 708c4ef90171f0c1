"""A mean over examples that each have several numbers: one a bin, a stage, or a class of examples."""

from typing import Any

import torch
from torch import Tensor

from lightning_interpret.metrics.mean_of_examples import MeanOfExamples


class MeanCurve(MeanOfExamples):
    """A mean over examples of the mean of their parts, and the mean of each part.

    Args:
        parts: How many there are.
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    sums: Tensor
    numbers: Tensor

    def __init__(self, parts: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("sums", torch.zeros(parts, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("numbers", torch.zeros(parts, dtype=torch.long), dist_reduce_fx="sum")

    def add_parts(self, values: Tensor) -> None:
        """Add the parts of each example, ``(N, parts)``, NaN where it has none."""
        known = ~values.isnan()
        self.sums += values.nansum(dim=0).to(self.sums)
        self.numbers += known.sum(dim=0).to(self.numbers)
        self.add(values.double().nanmean(dim=1))

    def curve(self) -> Tensor:
        """Return the mean of each part ``(parts,)``, over all processes, each of which has to call it; NaN for none."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync):
            return self.sums / self.numbers


class Control(MeanCurve):
    """The same numbers of random orders, which the metric that they stand beside adds."""

    nothing = "the metric that this is the control of has no number either"

    def update(self, values: Tensor) -> None:
        """Add the parts of each example, ``(N, parts)``."""
        self.add_parts(values)
