"""The first-order Taylor expansion between x and x', around either of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from lightning_interpret.explanations import Attribution
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.gradient import ENDS, taylor
from lightning_interpret.methods.base import Method
from lightning_interpret.methods.case import open_case
from lightning_interpret.names import choose
from lightning_interpret.tasks import Task


@dataclass(frozen=True)
class Taylor(Method):
    """(x − x') ⊙ ∇F at x or at x': the first-order part of F(x) − F(x'), with all higher orders as its error.

    Gradient, gradient × input, Taylor and integrated gradients are one thing, (x − x') ⊙ a gradient, told apart by the
    baseline x' and by where the gradient is taken, and so by what their sum leaves of T = F(x) − F(x') (after Cui and
    Fan, *The Neglected Baseline in Model Interpretation*, arXiv 2605.22417):

    * at x or at x': this method. With R the orders from the second on of that expansion, Σ scores − T is R at x and −R
      at x'; of a quadratic function the two errors cancel;
    * at x with x' = 0: :class:`GradientTimesInput`;
    * the mean over the path: :class:`IntegratedGradients`, with no error but its quadrature's. Its rules ``right`` and
      ``left`` with one node are this method at x and at x';
    * a :class:`Gradient` alone is the rate of change as x' → x: it has no baseline, and no target to miss.

    Args:
        at: The point around which F is expanded: ``input`` or ``baseline``.
        baseline: Name of the baseline x', or a :class:`Baseline`; by default the task's (``pad`` of a text, ``blur`` of
            an image).
        error_floor: Floor τ of the relative error's denominator, in units of the output.
        internal_batch_size: Examples in one pass; by default as many as make 2,048 tokens (4,096 on a GPU).

    Raises:
        ValueError: If ``at`` or the baseline does not exist.
    """

    name: ClassVar[str] = "taylor"
    at: Literal["input", "baseline"] = "input"
    baseline: str | Baseline = "default"
    error_floor: float = 0.01
    internal_batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("at", self.at, ENDS)

    def attribute(
        self, module: nn.Module, batch: Any, task: Task, layer: str | None, which: str, output: str
    ) -> Attribution:
        """Return the first-order attribution to one layer."""
        baseline, chunk = Baseline.ensure(self.baseline), self.internal_batch_size
        with open_case(
            module, batch, task, layer=layer, which=which, output=output, baseline=baseline, chunk=chunk
        ) as case:
            assert case.baselines is not None
            scores = case.to_units(taylor(case.score, case.inputs, case.baselines, at=self.at, chunk=case.chunk))
            why = "a first-order expansion has no steps to refine"
            reasons = dict.fromkeys(("converged", "partial_error"), why)
            steps = torch.ones(len(scores), dtype=torch.long)
            errors = case.errors(scores, self.error_floor)
            return case.record(self, scores, steps=steps, gradients=steps, reasons=reasons, **errors)
