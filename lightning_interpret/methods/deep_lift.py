"""DeepLIFT: differences from a reference, propagated through the model as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from lightning_interpret.explanations import Attribution
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.rescale import deep_lift
from lightning_interpret.methods.base import Method
from lightning_interpret.methods.case import open_case
from lightning_interpret.tasks import Task


@dataclass(frozen=True)
class DeepLift(Method):
    """(h(x) − h(x')) ⊙ m, with multipliers m = Δy/Δx of every operation, chained (Shrikumar et al., 2017; rescale).

    Operations are met as the model calls them, so it needs no modules of any kind. Products take the mean of their
    factors at x and x', quotients and softmax likewise, and all but rounding of F(x) − F(x') is in the scores, in one
    pass at x', one at x and a backward. Its implicit assumption: each operation goes straight from x' to x.

    Args:
        baseline: Name of the baseline x', or a :class:`Baseline`; by default the task's.
        error_floor: Floor τ of the relative error's denominator, in units of the output.
        internal_batch_size: Examples in one pass; by default as many as make 2,048 tokens (4,096 on a GPU),
            or 131,072 pixels (2,097,152).

    Raises:
        ValueError: If the baseline does not exist, and when called, if an operation has no rule: its name is given.
    """

    name: ClassVar[str] = "deep_lift"
    baseline: str | Baseline = "default"
    error_floor: float = 0.01
    internal_batch_size: int | None = None

    def attribute(
        self, module: nn.Module, batch: Any, task: Task, layer: str | None, which: str, output: str
    ) -> Attribution:
        """Return the multipliers of one layer times its change."""
        baseline, chunk = Baseline.ensure(self.baseline), self.internal_batch_size
        with open_case(
            module, batch, task, layer=layer, which=which, output=output, baseline=baseline, chunk=chunk
        ) as case:
            assert case.baselines is not None
            scores = case.to_units(
                deep_lift(case.score, case.inputs, case.baselines, chunk=case.chunk, order=case.order)
            )
            why = "every operation is taken from x' to x in one step: there are no steps to refine"
            ones = torch.ones(len(scores), dtype=torch.long)
            return case.record(
                self,
                scores,
                steps=ones,
                gradients=ones,
                forwards=case.forwards + 1,
                reasons=dict.fromkeys(("converged", "partial_error"), why),
                **case.errors(scores, self.error_floor),
            )
