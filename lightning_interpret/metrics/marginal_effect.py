"""What metrics share that ask the model what it does without some units: the number, and that of random orders."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.metrics.curve import Control, MeanCurve
from lightning_interpret.metrics.mean_of_examples import keep_apart
from lightning_interpret.names import check_seed, check_whole


class MarginalEffect(MeanCurve):
    """The mean over examples of what the model does without units that scores rank, beside that of random orders.

    A value without its control says nothing: a model that is unsure of everything loses little without any tokens, and
    more of them as it trains. So each update asks the model for random orders of the same units too, and ``control`` is
    a metric of its own, to be logged beside this one, which it is updated and reset with::

        self.log("comprehensiveness", self.comprehensiveness)
        self.log("comprehensiveness_random", self.comprehensiveness.control)

    Args:
        parts: Numbers an example has.
        control_orders: Random orders of each example that the control is a mean of; 0 for no control.
        seed: Seed of those orders, which are the same after each reset.
        chunk: Questions in one call of the model: ``Perturbed`` parts them into passes itself, a function of your own
            may want fewer.
        kwargs: Passed on to :class:`torchmetrics.Metric`.

    Attributes:
        control: The metric of the random orders, of the examples that have a number; None without.
    """

    nothing = "a score or an answer of the model is not finite, or no unit counts"
    control: Control | None

    def __init__(
        self, parts: int = 1, *, control_orders: int = 5, seed: int = 0, chunk: int = 512, **kwargs: Any
    ) -> None:
        super().__init__(parts, **kwargs)
        check_whole(0, control_orders=control_orders)
        check_whole(chunk=chunk)
        check_seed(seed)
        self.control_orders, self.seed, self.chunk = control_orders, seed, chunk
        self.control = Control(parts, **kwargs) if control_orders else None
        self._drawn, self._in_forward = 0, False

    def update(self, scores: Tensor, counts: Tensor, model: Callable[..., Tensor]) -> None:
        """Add examples.

        Args:
            scores: ``(N, T)``.
            counts: Bool ``(N, T)``, the units that count, as opposed to padding and special tokens.
            model: What the model answers, as the metric asks it: see there.

        Raises:
            ValueError: If shapes differ.
        """
        self.add_ranked(scores, counts, model)

    def add_ranked(self, scores: Tensor, counts: Tensor, model: Callable[..., Tensor]) -> None:
        """Add examples by their scores, and random orders of them to the control."""
        if scores.shape != counts.shape or scores.dim() != 2:
            raise ValueError(f"`scores` {tuple(scores.shape)} and `counts` {tuple(counts.shape)} must both be (N, T).")
        rankings, counts = scores.detach().double()[None], counts.to(scores.device).bool()
        known = (scores.isfinite() | ~counts).all(dim=1) & counts.any(dim=1)
        if self.control is not None:
            draw = torch.Generator().manual_seed((self.seed + self._drawn) % 2**63)
            keys = torch.rand(self.control_orders, *scores.shape, generator=draw, dtype=torch.float64)
            rankings = torch.cat([rankings, self.random(rankings[0], counts, keys.to(scores.device))])
        self._drawn += 1
        values = self.values(rankings, counts, model)
        values = (values if values.dim() == 3 else values[:, :, None]).double()
        known = known & values[0].isfinite().any(dim=1)
        values = values.where(values.isfinite() & known[:, None], torch.nan)
        self.add_parts(values[0])
        if self.control is not None:
            self.control.update(values[1:].mean(dim=0))

    @abstractmethod
    def values(self, rankings: Tensor, counts: Tensor, model: Callable[..., Tensor]) -> Tensor:
        """Return the numbers of rankings ``(O, N, T)`` of the same examples: ``(O, N)`` or ``(O, N, parts)``."""

    def random(self, scores: Tensor, counts: Tensor, keys: Tensor) -> Tensor:
        """Return scores in random orders, from random numbers of the shape ``(O, N, T)``; by default those numbers."""
        return keys

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Add examples and return the number of these alone."""
        self._in_forward = True  # torchmetrics resets in between, and puts back what is this metric's own
        try:
            return super().forward(*args, **kwargs)
        finally:
            self._in_forward = False

    def reset(self) -> None:
        """Forget what was added, here and in the control."""
        super().reset()
        if not self._in_forward:
            self._drawn = 0
            if self.control is not None:
                self.control.reset()


def permuted(scores: Tensor, counts: Tensor, keys: Tensor) -> Tensor:
    """Return the scores of each example handed out anew to its units, in the orders of ``keys`` ``(O, N, T)``."""
    places = (~counts).int().argsort(dim=1, stable=True).expand(keys.shape)  # those that count first
    drawn = keys.masked_fill(~counts, torch.inf).argsort(dim=-1)
    found = torch.zeros_like(keys).scatter(-1, places, scores.expand(keys.shape).gather(-1, drawn))
    return found.masked_fill(~counts, 0)


def apart(metric: MarginalEffect, **options: Any) -> None:
    """Keep states and controls of a metric from being shared with those of one with other options."""
    options |= {"orders": metric.control_orders, "seed": metric.seed}
    keep_apart(metric, **{name: str(value) for name, value in options.items()})
