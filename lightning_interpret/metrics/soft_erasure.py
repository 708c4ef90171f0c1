"""Soft comprehensiveness and sufficiency: elements of the embeddings are kept by chance, as much for every method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_interpret.functional import soft_erasure
from lightning_interpret.functional.soft_erasure import Softly
from lightning_interpret.metrics.marginal_effect import MarginalEffect, apart, permuted
from lightning_interpret.names import check_whole


class _Soft(MarginalEffect):
    """What is lost in the mean over draws; its control has the same scores at other units, and so the same shares."""

    measure: ClassVar[Callable[..., Tensor]]

    def __init__(self, mass: float | None = 0.5, samples: int = 8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_whole(samples=samples)
        one = torch.ones(1, 1)
        soft_erasure.retained(one, one.bool(), mass)  # refuses a mass that there is not
        self.mass, self.samples = mass, samples
        apart(self, mass=mass, samples=samples)

    def values(self, rankings: Tensor, counts: Tensor, model: Softly) -> Tensor:
        """Return what each ranking loses."""
        options = {"mass": self.mass, "samples": self.samples, "seed": self.seed, "chunk": self.chunk}
        return type(self).measure(rankings, counts, model, **options)

    def random(self, scores: Tensor, counts: Tensor, keys: Tensor) -> Tensor:
        """Return the scores handed out anew."""
        return permuted(scores, counts, keys)


class SoftSufficiency(_Soft):
    """Mean of p(x) − p(x with unit t's elements kept by q(t)), q set by the scores (Zhao and Aletras, 2023).

    Every method keeps the share ``mass`` of the elements; see :func:`~.functional.soft_erasure.retained`. Low is good.
    The model is asked by ``softly(shares, rows, seeds)``: ``Perturbed.softly``.

    Args:
        mass: Mean share of the elements kept, in (0, 1); None for scores scaled to [0, 1], whose mean depends on them.
        samples: Draws that a probability is a mean of; they follow ``seed``.
        kwargs: ``control_orders``, ``seed`` and ``chunk`` of :class:`~.marginal_effect.MarginalEffect`; the rest is
            passed on to :class:`torchmetrics.Metric`.
    """

    higher_is_better = False
    measure = soft_erasure.soft_sufficiency


class SoftComprehensiveness(_Soft):
    """Mean of p(x) − p(x with unit t's elements kept by 1 − q(t)): high is good; all else as :class:`SoftSufficiency`.

    ``mass`` is the mean share removed.
    """

    higher_is_better = True
    measure = soft_erasure.soft_comprehensiveness
