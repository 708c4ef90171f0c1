"""The mean attribution error: how far attributions miss what they attribute."""

from typing import Any

import torch
from torch import Tensor

from lightning_interpret.functional.path import relative_error
from lightning_interpret.metrics.mean_of_examples import MeanOfExamples, keep_apart


class AttributionError(MeanOfExamples):
    """Mean of |Σ scores − T| over examples, T mostly F(x) − F(x') (Sundararajan et al., 2017, proposition 1).

    Examples with a score or a T that is not finite are left out.

    Args:
        relative: Whether each error is divided by max(|T|, ``floor``).
        floor: Floor τ of that denominator, in units of F.
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    higher_is_better = False
    nothing = "a score or the target is not finite"

    def __init__(self, relative: bool = False, floor: float = 0.01, **kwargs: Any) -> None:
        super().__init__(dtype=torch.float32, **kwargs)
        self.relative, self.floor = relative, floor
        keep_apart(self, relative=relative, floor=floor)

    def update(self, scores: Tensor, target: Tensor, baseline_target: Tensor | None = None) -> None:
        """Add examples: ``scores`` ``(N, ...)``, F(x) and F(x') ``(N,)``; or, without the last, T itself.

        Raises:
            ValueError: If shapes differ.
        """
        for name, given in (("target", target), ("baseline_target", baseline_target)):
            if given is not None and given.shape != scores.shape[:1]:
                raise ValueError(f"`{name}` must be ({len(scores)},), as `scores`, but is {tuple(given.shape)}.")
        wanted = target.double() if baseline_target is None else target.double() - baseline_target.double()
        error = scores.flatten(1).double().sum(dim=1) - wanted
        if self.relative:
            error = relative_error(error, wanted, self.floor)
        self.add(error.abs().where(error.isfinite(), torch.nan))
