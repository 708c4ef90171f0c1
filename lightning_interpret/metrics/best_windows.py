"""The mean over long texts of what the best of the windows they were cut in says."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class BestWindows(Metric):
    """Mean over rows of a value of the answer found, where a row was cut in windows that were answered one by one.

    A row's answer is that of its window with the highest score; there is none where the score of no answer, the lowest
    of its windows, is higher (Devlin et al., 2019; as SQuAD 2.0 is evaluated). Windows may come in several batches, and
    twice.

    Args:
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    full_state_update = False
    higher_is_better = True
    rows: list[Tensor]
    numbers: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("rows", [], dist_reduce_fx="cat")
        self.add_state("numbers", [], dist_reduce_fx="cat")

    def update(self, rows: Tensor, scores: Tensor, values: Tensor, null_scores: Tensor, null_values: Tensor) -> None:
        """Add windows, each argument ``(B,)``: whose they are, and score and value of their answer and of none.

        Raises:
            ValueError: If shapes differ.
        """
        parts = (scores, values, null_scores, null_values)
        if any(part.shape != rows.shape or part.dim() != 1 for part in parts):
            shapes = ", ".join(str(tuple(part.shape)) for part in (rows, *parts))
            raise ValueError(f"Rows, scores and values must all be (B,), but are {shapes}.")
        self.rows.append(rows)
        self.numbers.append(torch.stack([part.double() for part in parts], dim=1).to(rows.device))

    def compute(self) -> Tensor:
        """Return the mean, ``()``; 0 where there is no row."""
        if not self.rows:
            return torch.zeros((), device=self.device)
        rows, numbers = dim_zero_cat(self.rows), dim_zero_cat(self.numbers)
        every, row = rows.unique(return_inverse=True)
        scores, values, null_scores, null_values = numbers.unbind(dim=1)
        order = scores.argsort(descending=True, stable=True)
        rank = torch.arange(len(rows), device=rows.device)
        best = order[_least(rank, row[order], len(every))]  # the first window of each row, highest score first
        none = _least(null_scores, row, len(every)) > scores[best]
        return torch.where(none, null_values[best], values[best]).mean().float()


def _least(values: Tensor, row: Tensor, count: int) -> Tensor:
    """Return the lowest of the values of each row."""
    return values.new_zeros(count).scatter_reduce(0, row, values, "amin", include_self=False)
