"""Leakage-adjusted simulatability, a batch at a time."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_interpret.functional.simulatability import (
    Simulatability,
    simulatability_counts,
    simulatability_of,
)
from lightning_interpret.metrics.mean_of_examples import NONE_GIVEN, say_why


class LeakageAdjustedSimulatability(Metric):
    """How much explanations help a simulator to foresee a model, apart from giving it away (Hase et al., 2020).

    The simulator is a classifier of its own, trained on inputs and explanations to predict what the model predicts:
    :class:`~lightning_interpret.modules.simulator.Simulator`.

    Args:
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    higher_is_better = True
    full_state_update = False
    counts: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("counts", torch.zeros(2, 3, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, target: Tensor, with_explanation: Tensor, without: Tensor, explanation_alone: Tensor) -> None:
        """Add examples: what the model predicts and what the simulator does in three ways, classes ``(N,)`` each.

        Raises:
            ValueError: If the shapes are not the same.
        """
        self.counts += simulatability_counts(target, with_explanation, without, explanation_alone).to(self.counts)

    def compute(self) -> Tensor:
        """Return the score, in [−1, 1]; NaN where all explanations leak, or none does."""
        say_why(self)
        return self.details().las.float()

    @property
    def reason(self) -> str | None:
        """Why the score is NaN, by what this process was given; None where it is a number."""
        opaque, leaking = self.counts[:, 0].tolist()
        if opaque and leaking:
            return None
        if not opaque and not leaking:
            return NONE_GIVEN
        return f"{'all' if leaking else 'none'} of the explanations give the prediction away: see `details().gain`"

    def details(self) -> Simulatability:
        """Return the score with its parts, of this process's examples while they are not reduced."""
        return simulatability_of(self.counts)
