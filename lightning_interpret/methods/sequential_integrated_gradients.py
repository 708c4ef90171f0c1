"""Integrated gradients of each token on a path of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.explanations import Attribution
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.occlusion import differences, share
from lightning_interpret.functional.path import relative_error
from lightning_interpret.functional.sequential import PASSES_HELD, SequentialIntegral, integrate_sets
from lightning_interpret.methods.case import Case, open_case
from lightning_interpret.methods.integrated_gradients import IntegratedGradients
from lightning_interpret.methods.unit_sets import UnitSets, unit_sets
from lightning_interpret.names import choose
from lightning_interpret.tasks import Task


@dataclass(frozen=True)
class SequentialIntegratedGradients(IntegratedGradients):
    """Integrated gradients of each unit from x with that unit alone at x' to x (Enguehard, 2023).

    The scores of a unit sum to F(x) − F(x; unit := x'), what leaving it out takes away: each unit has a target of its
    own. ``unit_errors`` says by how much each misses it, ``attribution_target`` is the sum of those targets, ``error``
    what Σ scores misses of that; errors of several units may make up for one another there, so ``converged`` asks for
    every unit. F(x) − F(x') is another number wherever units interact (of x₁x₂ at (2, 3) it is 6, and each unit's
    target is 6): tools that report the distance to it report that interaction, and not an error.

    Only units whose features differ from those of x' are run, each at ten forward passes and ``steps`` gradients or
    more: a text of n tokens takes some n times what it takes :class:`IntegratedGradients`. At a deeper layer a unit's
    features are put to those that h(x') has there.

    Args:
        baseline: Name of the baseline x', or a :class:`Baseline`; by default the mask token, as the source has it: a
            model trained with it has learnt it as the absence of one token among others that are there.
        unit: ``token`` (each unit of the layer), or ``word``: tokens of a word leave together, the word's score is the
            sum of theirs, and of its error each has an equal part.
        steps, tolerance, max_steps, rule, internal_batch_size: Of each unit's path, as for
            :class:`IntegratedGradients`. ``steps`` and ``partial_error`` of a record are the largest of its units'.
        error_floor: Floor τ of the relative error's denominator, in units of the output. That of a unit's errors is
            Σ|unit targets| / √n where this is more, n the row's units: units with next to no target need no more
            digits than the others, and errors that are independent sum to no more than ``tolerance`` of Σ|targets|.

    Raises:
        ValueError: If an option is out of its range, or ``unit="word"`` is asked for of what has no words.
    """

    name: ClassVar[str] = "sequential_integrated_gradients"
    baseline: str | Baseline = "mask"
    steps: int = 4
    unit: Literal["token", "word"] = "token"

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("unit", self.unit, ("token", "word"))

    def attribute(
        self, module: nn.Module, batch: Any, task: Task, layer: str | None, which: str, output: str
    ) -> Attribution:
        """Return the sequential integrated gradients of one layer."""
        baseline, chunk = Baseline.ensure(self.baseline), self.internal_batch_size
        with open_case(
            module, batch, task, layer=layer, which=which, output=output, baseline=baseline, chunk=chunk
        ) as case:
            assert case.baselines is not None
            moved = case.moved()
            sets = unit_sets(case.units, moved, self.unit, order=case.order)
            held = PASSES_HELD * case.chunk
            lost = differences(case.without, case.target, sets.split(case.chunk))
            floor = self._floors(case, sets, lost)
            integral = integrate_sets(
                case.score,
                case.inputs,
                case.baselines,
                ((row, case.to_features(members)) for row, members in sets.split(held)),
                target=case.target,
                lost=lost,
                error_floor=floor,
                per_unit=case.per_unit,
                chunk=case.chunk,
                steps=self.steps,
                rule=self.rule,
                tolerance=self.tolerance,
                max_steps=self.max_steps,
            )
            scores = integral.contributions.masked_fill(~moved.to(integral.contributions.device), 0.0)
            return case.record(self, scores, **self._fields(case, sets, scores, lost, floor, integral))

    def _floors(self, case: Case, sets: UnitSets, lost: Tensor) -> Tensor:
        """Return the floor of each set's errors, by the targets of all sets of its row."""
        row = sets.row.to(lost.device)
        total = lost.new_zeros(len(case.target)).index_add_(0, row, lost.abs())
        many = row.bincount(minlength=len(total)).clamp(min=1)
        return (total / many.sqrt()).clamp(min=self.error_floor)[row]

    def _fields(
        self, case: Case, sets: UnitSets, scores: Tensor, lost: Tensor, floor: Tensor, integral: SequentialIntegral
    ) -> dict[str, Any]:
        """Return what the record says beside its scores: each row from its sets."""
        row, count = sets.row.to(lost.device), len(case.target)

        def total(values: Tensor) -> Tensor:
            return values.new_zeros(count).index_add_(0, row, values)

        def largest(values: Tensor) -> Tensor:
            return values.new_zeros(count).scatter_reduce(0, row, values, "amax")

        missed = integral.found - lost
        fields = case.errors(scores, self.error_floor, total(lost))
        reasons = self.reasons()
        if "partial_error" not in reasons:
            fields["partial_error"] = largest(integral.partial_error)
        if self.tolerance is not None:
            worst = torch.maximum(relative_error(missed, lost, floor), integral.partial_error)
            fields["converged"] = tuple((total((~(worst <= self.tolerance)).long()) == 0).tolist())
        return fields | {
            "unit_errors": share(missed.cpu(), sets.split(case.chunk), case.units.special.shape),
            "steps": largest(integral.steps),
            "gradients": total(integral.gradients),
            "forwards": total(integral.forwards + 1).cpu() + case.forwards,
            "reasons": reasons,
        }
