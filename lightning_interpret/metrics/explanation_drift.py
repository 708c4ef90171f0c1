"""The mean change of explanations since they were last made."""

from typing import Any

import torch
from torch import Tensor

from lightning_interpret.functional.agreement import drift
from lightning_interpret.metrics.mean_of_examples import MeanOfExamples


class ExplanationDrift(MeanOfExamples):
    """Mean of 1 − cos(scores, before) over examples: 0 unchanged, 2 where every sign has turned.

    Examples with a score that is not finite are left out.

    Args:
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    nothing = "a score is not finite"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(dtype=torch.float32, **kwargs)

    def update(self, scores: Tensor, before: Tensor) -> None:
        """Add examples: attributions now and before, both ``(N, T)``.

        Raises:
            ValueError: If shapes differ.
        """
        if scores.shape != before.shape or scores.dim() != 2:
            raise ValueError(f"`scores` {tuple(scores.shape)} and `before` {tuple(before.shape)} must both be (N, T).")
        known = (scores.isfinite() & before.isfinite()).all(dim=-1)
        self.add(drift(scores, before).where(known, torch.nan))
