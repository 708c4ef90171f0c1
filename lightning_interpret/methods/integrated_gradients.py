"""Integrated gradients with a baseline determined by the input, refined until its errors are small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from lightning_interpret.explanations import Attribution
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.path import integrate, quadrature
from lightning_interpret.methods.base import Method
from lightning_interpret.methods.case import Case, open_case
from lightning_interpret.tasks import Task


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """(h(x) − h(x')) ⊙ ∫₀¹ ∇F along the straight path between them (Sundararajan et al., 2017, equation 1).

    One baseline input x' fixes the baseline h(x') of whichever layer is attributed to. Each example has its nodes where
    a few forward passes saw F move, ``steps`` at first. Those with an error above ``tolerance`` have their nodes
    doubled, then the segments of their path with the largest errors halved. A row that still has such an error says
    ``converged=False``; there are two:

    * the attribution error, of the sum of all scores: |Σ scores − (F(x) − F(x'))| / max(|F(x) − F(x')|, τ);
    * the partial error, of the sums of the integrand up to a point of the path, where F is known too (root mean square
      over the nodes, as a share of Σ|scores|): it tells scores that are wrong from a sum that is right by chance.

    Args:
        baseline: Name of the baseline x' (``pad``, ``mask``, ``unk``, ``zero``, ``mean``, ``"text: ..."``; of images
            ``blur``, ``black``, ``zero``), or a :class:`Baseline`; by default the task's.
        steps: Nodes on the path, n; after it 2n + 1, which keep them.
        tolerance: Error to reach; ``None`` for fixed steps.
        max_steps: Cap on the nodes that one example's result stands on.
        rule: ``fejer`` (Fejér's second rule) is the one that is refined. ``gauss_legendre``, ``midpoint``, ``left`` and
            ``right`` reproduce other tools: nodes of α itself, with ``tolerance=None``.
        error_floor: Floor τ of the relative error's denominator, in units of the output.
        internal_batch_size: Points of the path in one pass; by default as many as make 2,048 tokens (4,096 on a GPU),
            or 131,072 pixels (2,097,152).

    Raises:
        ValueError: If an option is out of its range; the message names it.
    """

    name: ClassVar[str] = "integrated_gradients"
    baseline: str | Baseline = "default"
    steps: int = 16
    tolerance: float | None = 0.01
    max_steps: int = 256
    rule: Literal["fejer", "gauss_legendre", "midpoint", "left", "right"] = "fejer"
    error_floor: float = 0.01
    internal_batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        quadrature(self.rule, self.steps)
        if self.rule != "fejer" and self.tolerance is not None:
            raise ValueError(
                f"`rule={self.rule!r}` has fixed steps: set `tolerance=None` with it, or use rule='fejer', the default."
            )

    def attribute(
        self, module: nn.Module, batch: Any, task: Task, layer: str | None, which: str, output: str
    ) -> Attribution:
        """Return the integrated gradients of one layer."""
        baseline, chunk = Baseline.ensure(self.baseline), self.internal_batch_size
        with open_case(
            module, batch, task, layer=layer, which=which, output=output, baseline=baseline, chunk=chunk
        ) as case:
            return self.integrated(case)

    def integrated(self, case: Case, **described: Any) -> Attribution:
        """Return the integrated gradients of a case from its baselines; ``described`` are fields of the record."""
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
            per_unit=case.per_unit,
            order=case.order,
            example=case.shared,
        )
        scores = case.masked(integral.contributions)
        errors = case.errors(scores, self.error_floor)
        reasons = self.reasons()
        if "partial_error" not in reasons:
            errors["partial_error"] = integral.partial_error
        if self.tolerance is not None:
            met = torch.maximum(errors["relative_error"], integral.partial_error) <= self.tolerance
            errors["converged"] = tuple(met.tolist())
        return case.record(
            self,
            scores,
            steps=integral.steps,
            gradients=integral.gradients,
            forwards=integral.forwards.cpu() + case.forwards,
            reasons=reasons,
            **(errors | described),
        )

    def reasons(self) -> dict[str, str]:
        """Return why the fields that these options leave out are not given."""
        reasons = {}
        if self.rule != "fejer":
            reasons["partial_error"] = f"`rule={self.rule!r}` has nodes of α itself: no sums up to them"
        if self.tolerance is None:
            reasons["converged"] = "fixed steps: no tolerance was set"
        return reasons
