"""The gradient as a ranking, and gradient × input as the first-order attribution it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from lightning_interpret.explanations import Attribution
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.gradient import gradient
from lightning_interpret.methods.base import Method
from lightning_interpret.methods.case import open_case
from lightning_interpret.methods.taylor import Taylor
from lightning_interpret.names import choose
from lightning_interpret.tasks import Task

NORMS = ("l2", "mean_abs")

#: The fields of a record that what only ranks leaves out.
RANKS = (
    "baseline",
    "baseline_target",
    "baseline_entropy",
    "attribution_target",
    "error",
    "relative_error",
    "partial_error",
    "converged",
)

_NOTHING = Baseline("zero", keep_special=False)  # x' = 0, as gradient × input is defined


@dataclass(frozen=True)
class Gradient(Method):
    """Size of the gradient at each unit (Simonyan et al., 2014; Li et al., 2016): a ranking, not an attribution.

    A gradient is a rate of change: it has no baseline, so it has no target that its sum could miss.

    Args:
        norm: ``l2`` or ``mean_abs`` over the dimensions of each unit.
        internal_batch_size: Examples in one pass; by default as many as make 2,048 tokens (4,096 on a GPU),
            or 131,072 pixels (2,097,152).

    Raises:
        ValueError: If ``norm`` does not exist.
    """

    name: ClassVar[str] = "gradient"
    norm: Literal["l2", "mean_abs"] = "l2"
    internal_batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("norm", self.norm, NORMS)

    def attribute(
        self, module: nn.Module, batch: Any, task: Task, layer: str | None, which: str, output: str
    ) -> Attribution:
        """Return the size of the gradient at each unit of one layer."""
        chunk = self.internal_batch_size
        with open_case(
            module, batch, task, layer=layer, which=which, output=output, baseline=None, chunk=chunk
        ) as case:
            slopes = gradient(case.score, case.inputs, chunk=case.chunk)
            scores = case.norm(slopes, self.norm)
            why = "a gradient is a rate of change: it ranks, and has no baseline and no target to miss"
            reasons = dict.fromkeys(RANKS, why)
            steps = torch.ones(len(scores), dtype=torch.long)
            return case.record(self, scores, steps=steps, gradients=steps, reasons=reasons)


@dataclass(frozen=True)
class GradientTimesInput(Method):
    """(x − x') ⊙ ∇F(x): :class:`Taylor` at the input, by the name it has where x' is zero.

    With the default, the zero embedding at every token, it is the usual gradient × input (Shrikumar et al., 2016).

    Args:
        baseline: Name of the baseline x', or a :class:`Baseline`.
        error_floor: Floor τ of the relative error's denominator, in units of the output.
        internal_batch_size: Examples in one pass; by default as many as make 2,048 tokens (4,096 on a GPU),
            or 131,072 pixels (2,097,152).

    Raises:
        ValueError: If the baseline does not exist.
    """

    name: ClassVar[str] = "gradient_times_input"
    baseline: str | Baseline = _NOTHING
    error_floor: float = 0.01
    internal_batch_size: int | None = None

    def attribute(
        self, module: nn.Module, batch: Any, task: Task, layer: str | None, which: str, output: str
    ) -> Attribution:
        """Return the first-order attribution to one layer."""
        expansion = Taylor("input", self.baseline, self.error_floor, self.internal_batch_size)
        return replace(expansion.attribute(module, batch, task, layer, which, output), method=self.name)
