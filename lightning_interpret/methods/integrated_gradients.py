"""Integrated gradients with a baseline determined by the input, refined until the attribution error is small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from lightning_interpret.explanations import Attribution
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.path import integrate, quadrature
from lightning_interpret.methods.base import Method, open_case
from lightning_interpret.tasks import Task


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """(h(x) − h(x')) ⊙ ∫₀¹ ∇F along the straight path between them (Sundararajan et al., 2017, equation 1).

    One baseline input x' fixes the baseline h(x') of whichever layer is attributed to. Every example starts with
    ``steps`` Gauss-Legendre nodes; those whose relative attribution error is above ``tolerance`` have the worst
    segments of their path split where F moves, up to ``max_steps`` nodes. A row that is still above it says
    ``converged=False``.

    Args:
        baseline: Name of the baseline x' (``pad``, ``mask``, ``unk``, ``zero``, ``mean``, ``"text: ..."``), or a
            :class:`Baseline`.
        steps: Nodes of the rule, on the path and on each segment of it.
        tolerance: Relative attribution error to reach; ``None`` for fixed steps.
        max_steps: Cap on the nodes that one example's result stands on.
        rule: ``gauss_legendre``, ``midpoint``, ``left`` or ``right``; the last two are there to reproduce other tools.
        error_floor: Floor τ of the relative error's denominator, in units of the output.
        internal_batch_size: Points of the path in one pass; by default as many as make 4,096 tokens.

    Raises:
        ValueError: If an option is out of its range; the message names it.
    """

    name: ClassVar[str] = "integrated_gradients"
    baseline: str | Baseline = "pad"
    steps: int = 16
    tolerance: float | None = 0.01
    max_steps: int = 256
    rule: Literal["gauss_legendre", "midpoint", "left", "right"] = "gauss_legendre"
    error_floor: float = 0.01
    internal_batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        quadrature(self.rule, self.steps)

    def attribute(
        self, module: nn.Module, batch: Any, task: Task, layer: str | None, which: str, output: str
    ) -> Attribution:
        """Return the integrated gradients of one layer."""
        baseline, chunk = Baseline.ensure(self.baseline), self.internal_batch_size
        with open_case(
            module, batch, task, layer=layer, which=which, output=output, baseline=baseline, chunk=chunk
        ) as case:
            assert case.baselines is not None
            assert case.baseline_target is not None
            integral = integrate(
                case.score,
                case.inputs,
                case.baselines,
                target=case.target,
                baseline_target=case.baseline_target,
                steps=self.steps,
                rule=self.rule,
                tolerance=self.tolerance,
                max_steps=self.max_steps,
                error_floor=self.error_floor,
                chunk=case.chunk,
            )
            scores = case.to_units(integral.contributions)
            errors = case.errors(scores, self.error_floor)
            reasons, converged = {"converged": "fixed steps: no tolerance was set"}, None
            if self.tolerance is not None:
                reasons, converged = {}, tuple((errors["relative_error"] <= self.tolerance).tolist())
            return case.record(
                self,
                scores,
                steps=integral.steps,
                gradients=integral.gradients,
                forwards=integral.forwards.cpu() + case.forwards,
                converged=converged,
                reasons=reasons,
                **errors,
            )
