"""Accuracy on a slice of the data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class SliceAccuracy(Metric):
    """Share of the examples of a slice that a model has right; NaN where none is in it.

    Example::

        metric = SliceAccuracy()
        metric.update(predicted, gold, torch.tensor(["tuesday" in text for text in texts]))
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    right: Tensor
    size: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("right", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("size", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, gold: Tensor, member: Tensor) -> None:
        """Add some examples.

        Args:
            predicted: Classes ``(B,)``.
            gold: Classes ``(B,)``; below 0 for none, which is not counted.
            member: Which are in the slice, bool ``(B,)``.

        Raises:
            ValueError: If they are not of one shape.
        """
        if not predicted.shape == gold.shape == member.shape:
            raise ValueError(
                f"`predicted` {tuple(predicted.shape)}, `gold` {tuple(gold.shape)} and `member` {tuple(member.shape)} "
                "must have one shape (B,)."
            )
        counted = member.bool() & (gold >= 0)
        self.right += (counted & (predicted == gold)).sum().to(self.right.device)
        self.size += counted.sum().to(self.size.device)

    def compute(self) -> Tensor:
        """Return the accuracy, a scalar."""
        return self.right / self.size if self.size else torch.full((), torch.nan, device=self.size.device)
