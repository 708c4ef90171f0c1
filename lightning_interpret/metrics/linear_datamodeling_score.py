"""The linear datamodeling score: how well influence orders what comes of training on parts of the data."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_interpret.functional.ranks import spearman
from lightning_interpret.metrics.mean_of_examples import say_why


class LinearDatamodelingScore(Metric):
    """Mean over queries of the rank correlation of predicted and actual outcomes of subsets (Park et al., 2023, §2).

    It is gathered a subset at a time, so that processes can each train some of them. Queries whose actual outcomes are
    all the same have no rank correlation and are left out. The same of whole tensors, for each query, is
    :func:`~lightning_interpret.functional.influence.datamodels.linear_datamodeling_score`.

    Args:
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    higher_is_better = True
    full_state_update = False
    predicted: list[Tensor] | Tensor
    actual: list[Tensor] | Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("predicted", [], dist_reduce_fx="cat")
        self.add_state("actual", [], dist_reduce_fx="cat")

    def update(self, predicted: Tensor, actual: Tensor) -> None:
        """Add one subset, or several.

        Args:
            predicted: Sum of the scores of the subset's examples at each query, ``(M,)`` or ``(S, M)``.
            actual: Outcome at each query, more is better, of the same shape; over several seeds their mean.

        Raises:
            ValueError: If the shapes are not the same.
        """
        if predicted.shape != actual.shape or predicted.dim() not in (1, 2):
            raise ValueError(
                f"Expected predicted and actual outcomes of one shape, (M,) or (S, M), but got "
                f"{tuple(predicted.shape)} and {tuple(actual.shape)}."
            )
        assert isinstance(self.predicted, list)
        assert isinstance(self.actual, list)
        self.predicted.append(torch.atleast_2d(predicted.detach()))
        self.actual.append(torch.atleast_2d(actual.detach()))

    def compute(self) -> Tensor:
        """Return the mean; NaN where no query has a rank correlation."""
        each = self._correlations()
        found = torch.tensor(torch.nan) if each is None else each.nanmean()
        if found.isnan():
            say_why(self)
        return found

    @property
    def reason(self) -> str | None:
        """Why the mean is NaN, by what this process was given; None where it is a number."""
        each = self._correlations()
        if each is None:
            return "no subset was given"
        return "of every query all outcomes are the same" if bool(each.isnan().all()) else None

    def _correlations(self) -> Tensor | None:
        """Return the rank correlation of each query, or None before the first subset."""
        parts = [torch.cat(each) if isinstance(each, list) and each else each for each in (self.predicted, self.actual)]
        if not isinstance(parts[0], Tensor) or not isinstance(parts[1], Tensor):
            return None
        return spearman(parts[0], parts[1])
