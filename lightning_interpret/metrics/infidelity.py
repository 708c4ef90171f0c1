"""Whether scores say what happens without some units, and how far noise at the input moves them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.functional.erasure import Kept
from lightning_interpret.functional.infidelity import max_sensitivity, set_infidelity, uniform_noise
from lightning_interpret.metrics.marginal_effect import MarginalEffect, apart, permuted
from lightning_interpret.metrics.mean_of_examples import MeanOfExamples, keep_apart
from lightning_interpret.names import check_positive, check_seed, check_whole


class Infidelity(MarginalEffect):
    """Mean of (Σ of the scores in S − (F(x) − F(x without S)))² over random sets S of units (Yeh et al., 2019).

    The perturbation law: each unit that counts is put at the baseline with probability ``absent``, drawn by ``seed``,
    in every example alike. The scores are amounts (gradient × input, integrated gradients), and ``kept`` has to return
    what they explain, as ``Perturbed(..., output="logit")`` does. The control has the same scores at other units.

    Args:
        normalized: Whether scores are first scaled by the factor that makes the result least, so that it is of their
            proportions alone: for methods that only rank.
        samples: Sets of each example.
        absent: Probability that a unit is in a set.
        kwargs: ``control_orders``, ``seed`` and ``chunk`` of :class:`~.marginal_effect.MarginalEffect`; the rest is
            passed on to :class:`torchmetrics.Metric`.
    """

    higher_is_better = False

    def __init__(self, normalized: bool = False, samples: int = 16, absent: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_whole(samples=samples)
        if not 0 < absent <= 1:
            raise ValueError(f"`absent={absent!r}` must lie in (0, 1].")
        self.normalized, self.samples, self.absent = normalized, samples, absent
        apart(self, normalized=normalized, samples=samples, absent=absent)

    def values(self, rankings: Tensor, counts: Tensor, model: Kept) -> Tensor:
        """Return the infidelity of each ranking, over the same sets."""
        drawn = _draws(self.seed, self.samples, counts.shape[1:]).to(counts.device) < self.absent
        sets = drawn[:, None].expand(-1, *counts.shape)
        return set_infidelity(rankings, counts, model, sets, normalized=self.normalized, chunk=self.chunk)

    def random(self, scores: Tensor, counts: Tensor, keys: Tensor) -> Tensor:
        """Return the scores handed out anew."""
        return permuted(scores, counts, keys)


class MaxSensitivity(MeanOfExamples):
    """Mean of the largest ‖Φ(x + δ) − Φ(x)‖ / ‖Φ(x)‖ over noise δ (Yeh et al., 2019, equation 6): low is good.

    The law of the noise: uniform, each element within ± ``radius`` times the root mean square of the example's inputs.
    The scores are those of Φ, explained anew at each point: as many explanations as there are samples, and one.

    Args:
        radius: Largest change of an element, as a share of that size.
        samples: Noise of each example.
        seed: Seed of the noise, which is the same for every example.
        chunk: Points in one call of ``explain``.
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    higher_is_better = False
    nothing = "an explanation is not finite, or no unit counts"

    def __init__(self, radius: float = 0.02, samples: int = 10, seed: int = 0, chunk: int = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_positive(radius=radius)
        check_whole(samples=samples, chunk=chunk)
        check_seed(seed)
        self.radius, self.samples, self.seed, self.chunk = radius, samples, seed, chunk
        keep_apart(self, radius=radius, samples=samples, seed=seed)

    def update(self, explain: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, counts: Tensor | None = None) -> None:
        """Add examples.

        Args:
            explain: Φ at points ``(M, *shape)`` of rows ``(M,)``: ``Perturbed.explainer(method)``.
            inputs: x, ``(N, *shape)``: ``Perturbed.inputs``.
            counts: Of texts, whose inputs are ``(N, T, D)``, the units that count, bool ``(N, T)``:
                ``Perturbed.counts``. The size is theirs; without, padding is among it.

        Raises:
            ValueError: If shapes differ.
        """
        if counts is not None and counts.shape != inputs.shape[:2]:
            raise ValueError(f"`counts` {tuple(counts.shape)} is not of `inputs` {tuple(inputs.shape)}: it is (N, T).")
        noise = uniform_noise(inputs, self.radius, self.samples, self.seed, counts)
        found = max_sensitivity(explain, inputs, noise, chunk=self.chunk)
        known = found.isfinite() if counts is None else found.isfinite() & counts.any(dim=1).to(found.device)
        self.add(found.where(known, torch.nan))


def _draws(seed: int, samples: int, shape: torch.Size) -> Tensor:
    """Return random numbers ``(samples, *shape)``; those of the first units are the same whatever the padding."""
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(shape[0], samples, *shape[1:], generator=draw).movedim(1, 0)
