"""The control of how much a gate selects: a cost of the rate, with a target that is annealed or a multiplier."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn

from lightning_interpret.names import check_positive, choose

KINDS = ("anneal", "lagrangian", "fixed")
_OWN = {  # options of one kind, with their defaults
    "anneal": {"anneal": 0.5},
    "lagrangian": {"multiplier": 0.1, "largest": 1.0, "speed": 0.05, "smoothing": 0.5},
    "fixed": {},
}


class SelectionControl(nn.Module):
    """A term of the loss that holds the expected rate of a gate at a target share of the tokens.

    - ``anneal``: weight · |rate − target_t|, the target coming down from 1 in a straight line, and so the gate starting
      dense: a predictor that has read everything is there when tokens are taken from it, which is what keeps it from
      settling on a bad early selection (interlocking).
    - ``fixed``: the same with the target there from the start.
    - ``lagrangian``: weight · λ · (rate − target), with λ growing by exp(speed · c) in each training step, where c is
      the moving average of rate − target (GECO, Rezende and Viola, 2018, as Bastings et al., 2019, have it).

    The rate is the mean over the batch, and over all processes: texts may differ in how much they need. Numbers move in
    training alone, once a step, and are Python floats in the extra state: no precision rounds them.

    Args:
        target: The share of the tokens to select.
        kind: ``anneal``, ``lagrangian`` or ``fixed``.
        coherence: Weight of the transitions.
        weight: Weight of the term.
        anneal: Share of the training over which the target of ``anneal`` comes down. A predictor that has been trained
            on other tokens before lets them go more surely with .8.
        multiplier: λ of ``lagrangian`` at the start. One of .001 with a largest of 5, as published, made transformers
            select nothing or everything.
        largest: The largest λ.
        speed: How fast λ grows.
        smoothing: Share of the past in the moving average.

    Raises:
        ValueError: If an option does not exist, has a value that makes no sense, or is not one of this kind.

    Attributes:
        target_now: The target at this point of the training.
        multiplier: λ in this step.
    """

    def __init__(
        self,
        target: float = 0.2,
        kind: str = "anneal",
        coherence: float = 0.0,
        weight: float = 1.0,
        *,
        anneal: float = 0.5,
        multiplier: float = 0.1,
        largest: float = 1.0,
        speed: float = 0.05,
        smoothing: float = 0.5,
    ) -> None:
        super().__init__()
        choose("kind", kind, KINDS)
        if isinstance(target, bool) or not isinstance(target, int | float) or not 0 < target < 1:
            raise ValueError(f"`target={target!r}` must lie between 0 and 1: it is the share of the tokens to select.")
        if not 0 <= coherence < math.inf:
            raise ValueError(f"`coherence={coherence!r}` must be 0 or more, and finite.")
        if not 0 <= smoothing < 1:
            raise ValueError(f"`smoothing={smoothing!r}` must be at least 0 and less than 1.")
        if not 0 < anneal <= 1:
            raise ValueError(f"`anneal={anneal!r}` must be above 0 and at most 1: it is a share of the training.")
        check_positive(weight=weight, multiplier=multiplier, largest=largest, speed=speed)
        given = {"anneal": anneal, "multiplier": multiplier, "largest": largest, "speed": speed, "smoothing": smoothing}
        for other, options in _OWN.items():
            for name, default in options.items():
                if other != kind and given[name] != default:
                    raise ValueError(f"`{name}={given[name]!r}` is an option of `kind={other!r}`, not of {kind!r}.")
        self.target, self.kind, self.coherence, self.weight = float(target), kind, float(coherence), float(weight)
        self.anneal, self.largest, self.speed, self.smoothing = float(anneal), float(largest), speed, float(smoothing)
        self.progress = 0.0
        self.multiplier = min(float(multiplier), self.largest)
        self._average: float | None = None
        self._met: float | None = None  # the constraint of this step, which moves the multiplier before the next

    @property
    def target_now(self) -> float:
        """The target share at this point of the training."""
        if self.kind != "anneal":
            return self.target
        return 1 + (self.target - 1) * min(self.progress / self.anneal, 1.0)

    def begin(self, progress: float) -> None:
        """Say how far training has come, in [0, 1], before each training step."""
        self.progress = min(max(float(progress), 0.0), 1.0)
        self._average, self.multiplier, self._met = *self._moved(), None

    @torch.compiler.disable
    def term(self, rate: Tensor, transitions: Tensor) -> Tensor:
        """Return the term of the loss, a scalar, from each text's rate and transitions, ``(B,)``."""
        over = self._shared(rate.float().mean()) - self.target_now
        if self.kind != "lagrangian":
            cost = over.abs()
        else:
            cost = self.multiplier * over
            if self.training and torch.is_grad_enabled() and self._met is None:  # no recomputed forward moves it twice
                self._met = float(over.detach())
        return self.weight * cost + self.coherence * transitions.float().mean()

    def get_extra_state(self) -> dict[str, Any]:
        """Return the numbers that have moved, as Python floats."""
        average, multiplier = self._moved()
        return {"progress": self.progress, "average": average, "multiplier": multiplier}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take what :meth:`get_extra_state` returned."""
        self.progress, self._average, self.multiplier = state["progress"], state["average"], state["multiplier"]
        self._met = None

    def extra_repr(self) -> str:
        """Return the options."""
        return f"target={self.target}, kind={self.kind!r}, coherence={self.coherence}, weight={self.weight}"

    def _moved(self) -> tuple[float | None, float]:
        """Return the moving average and the multiplier as they are after this step."""
        if self._met is None:
            return self._average, self.multiplier
        before = self._met if self._average is None else self._average
        average = self.smoothing * before + (1 - self.smoothing) * self._met
        return average, min(max(self.multiplier * math.exp(self.speed * average), 1e-12), self.largest)

    def _shared(self, rate: Tensor) -> Tensor:
        """Return the mean over processes with this one's gradient, which DDP averages."""
        if not (self.training and torch.is_grad_enabled()):
            return rate
        if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
            return rate
        total = rate.detach().clone()
        distributed.all_reduce(total)
        return rate + (total / distributed.get_world_size() - rate.detach())
