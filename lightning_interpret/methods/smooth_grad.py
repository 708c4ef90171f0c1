"""Gradients averaged over noisy copies of the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.explanations import Attribution
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.smooth import MODES, smoothed
from lightning_interpret.methods.base import Method
from lightning_interpret.methods.case import Case, open_case
from lightning_interpret.methods.gradient import NORMS, RANKS
from lightning_interpret.names import check_whole, choose
from lightning_interpret.tasks import Task


@dataclass(frozen=True)
class SmoothGrad(Method):
    """Gradients averaged over noisy copies of the input (Smilkov et al., 2017): a ranking, unless given a baseline.

    The noise is normal, its standard deviation ``sigma`` times the range (largest − smallest) of the features that each
    row's content has; special tokens get it too, padding does not. A row's noise depends on ``seed`` and on how many
    features it has: not on its batch, nor on its padding.

    Like a :class:`Gradient` it is a rate of change: it ranks and has no target. With a ``baseline`` it is (x − x') ⊙
    the mean gradient, which has the target of :class:`Taylor`, F(x) − F(x'); its error is what the first order misses,
    at points around x in the place of x.

    ``sampling_error`` is by how much more samples may still change it: Σ standard errors / Σ|scores|. Of scores that
    are norms the standard error is the norm of those of the dimensions, which bounds it.

    Args:
        samples: Noisy copies of each row.
        sigma: Standard deviation of the noise, as a share of the features' range.
        mode: Over the copies, the ``mean`` of the gradient, of its square (``squared``, SmoothGrad-Squared; Hooker et
            al., 2019) or its ``variance`` (VarGrad; Adebayo et al., 2018).
        norm: ``l2`` or ``mean_abs`` over the dimensions of each unit; by default ``l2``. None with a baseline.
        baseline: Name of the baseline x', or a :class:`Baseline`; ``None`` for a ranking.
        seed: Seed of the noise: the same seed gives the same scores to the last bit.
        error_floor: Floor τ of the relative error's denominator, in units of the output, where there is a baseline.
        internal_batch_size: Points in one pass; by default as many as make 2,048 tokens (4,096 on a GPU).

    Raises:
        ValueError: If an option is out of its range, or a baseline is given with a norm or with another mode than
            ``mean``.
    """

    name: ClassVar[str] = "smooth_grad"
    samples: int = 32
    sigma: float = 0.15
    mode: Literal["mean", "squared", "variance"] = "mean"
    norm: str | None = None
    baseline: str | Baseline | None = None
    seed: int = 0
    error_floor: float = 0.01
    internal_batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("mode", self.mode, MODES)
        check_whole(2 if self.mode == "variance" else 1, samples=self.samples)
        if not 0 <= self.sigma < float("inf"):
            raise ValueError(f"`sigma={self.sigma!r}` must be a finite share of the features' range, 0 or more.")
        if self.norm is not None:
            choose("norm", self.norm, NORMS)
        if self.baseline is not None and (self.mode != "mean" or self.norm is not None):
            raise ValueError(
                f"`baseline={self.baseline!r}` with mode={self.mode!r}, norm={self.norm!r}: (x − x') times a gradient "
                "is signed, so it is taken of the mean and of no norm. Leave `mode` and `norm` out, or the baseline."
            )

    def attribute(
        self, module: nn.Module, batch: Any, task: Task, layer: str | None, which: str, output: str
    ) -> Attribution:
        """Return the smoothed gradient of one layer."""
        baseline, chunk = self.baseline_used, self.internal_batch_size
        with open_case(
            module, batch, task, layer=layer, which=which, output=output, baseline=baseline, chunk=chunk
        ) as case:
            real = case.to_features(~case.units.padding)
            moments = smoothed(
                case.score,
                case.inputs,
                self.sigma * _range(case),
                real,
                samples=self.samples,
                seed=self.seed,
                chunk=case.chunk,
                order=case.order,
                **({} if baseline is None else {"of": _contributions(case)}),
            )
            found, error = moments.estimate(self.mode)
            steps = torch.full((len(found),), self.samples)
            fields: dict[str, Any] = {"steps": steps, "gradients": steps}
            if baseline is None:
                norm = self.norm or "l2"
                scores, error = case.norm(found, norm), case.norm(error, norm)
                reasons = dict.fromkeys(
                    RANKS, "a rate of change, if a smoothed one: it ranks, and has no target to miss"
                )
            else:
                scores = found.masked_fill(case.units.padding.to(found.device), 0.0)
                fields |= case.errors(scores, self.error_floor)
                reasons = dict.fromkeys(("converged", "partial_error"), "samples are drawn: there is no path to refine")
            if self.samples == 1:
                reasons["sampling_error"] = "one sample has no spread"
            else:
                error = error.masked_fill(case.units.padding.to(error.device), 0.0).sum(dim=1)
                fields["sampling_error"] = error / scores.abs().sum(dim=1).clamp(min=torch.finfo(torch.float64).tiny)
            return case.record(self, scores, reasons=reasons, **fields)


def _range(case: Case) -> Tensor:
    """Return the largest − the smallest feature of each row's content, ``(N,)``; of no content 0."""
    content = case.to_features(~(case.units.special | case.units.padding)).flatten(1)
    values, infinite = case.inputs.flatten(1), float("inf")
    highest = values.masked_fill(~content, -infinite).amax(dim=1)
    lowest = values.masked_fill(~content, infinite).amin(dim=1)
    return torch.where(content.any(dim=1), highest - lowest, 0)


def _contributions(case: Case) -> Any:
    """Return what is taken of gradients: (x − x') ⊙ each, summed to units."""
    assert case.baselines is not None
    difference = case.inputs - case.baselines
    return lambda gradient, rows: case.per_unit(difference[rows] * gradient)
