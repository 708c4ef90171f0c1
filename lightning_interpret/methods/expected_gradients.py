"""Expected gradients: integrated gradients over a distribution of baselines, by samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from lightning_interpret.explanations import Attribution
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.expected import expected_gradients
from lightning_interpret.methods.base import Method
from lightning_interpret.methods.case import open_case
from lightning_interpret.tasks import Task


@dataclass(frozen=True)
class ExpectedGradients(Method):
    """Mean over x' of (h(x) − h(x')) ⊙ ∇F between them, x' and the place drawn (Erion et al., 2021, equation 3).

    Also called GradientSHAP. x' is one of the task's reference examples, each as likely, its content laid on that of x.
    The target is F(x) − E F(x'): ``baseline_target`` is the mean of F(x') over all references and ``baseline_spread``
    its standard deviation, ``baseline_entropy`` the mean entropy there. What samples leave uncertain is
    ``sampling_error``. The samples are those of the seed, the same for each example, and never of a global generator.

    Args:
        baseline: ``distribution``, or such a :class:`Baseline` with its special tokens absent too.
        samples: Gradients of each example, an even number: as many at each reference as there is room for.
        seed: Of the samples.
        error_floor: Floor τ of the relative error's denominator, in units of the output.
        internal_batch_size: Points in one pass; by default as many as make 2,048 tokens (4,096 on a GPU).

    Raises:
        ValueError: If an option is out of its range; on use, if the task has no references.
    """

    name: ClassVar[str] = "expected_gradients"
    distribution: ClassVar[bool] = True
    baseline: str | Baseline = "distribution"
    samples: int = 128
    seed: int = 0
    error_floor: float = 0.01
    internal_batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.samples, int) or self.samples < 2 or self.samples % 2:
            raise ValueError(f"`samples={self.samples!r}` must be an even whole number of at least 2.")

    def attribute(
        self, module: nn.Module, batch: Any, task: Task, layer: str | None, which: str, output: str
    ) -> Attribution:
        """Return the expected gradients of one layer."""
        baseline, chunk = Baseline.ensure(self.baseline), self.internal_batch_size
        with open_case(
            module, batch, task, layer=layer, which=which, output=output, baseline=baseline, chunk=chunk
        ) as case:
            assert case.references is not None
            contributions, deviations = expected_gradients(
                case.score,
                case.inputs,
                case.references,
                samples=self.samples,
                seed=self.seed,
                chunk=case.chunk,
                per_unit=case.per_unit,
                order=case.order,
            )
            blank = case.units.padding.to(contributions.device)
            scores, deviations = contributions.masked_fill(blank, 0.0), deviations.masked_fill(blank, 0.0)
            size = scores.double().flatten(1).abs().sum(dim=1).clamp(min=1e-300)
            steps = torch.full((len(scores),), self.samples)
            return case.record(
                self,
                scores,
                steps=steps,
                gradients=steps,
                sampling_error=deviations.double().flatten(1).sum(dim=1) / size,
                reasons=dict.fromkeys(
                    ("converged", "partial_error"), "samples have no tolerance: see `sampling_error`"
                ),
                **case.errors(scores, self.error_floor),
            )
