"""Maps of a layer's features times the gradients there, as published, and what each of them leaves out.

All of them are first-order expansions at h(x), evaluated at h = 0: their baseline is a map of zeros, which no input
makes, and their target F(x) − F(x; h := 0). The signed sum Σ h ⊙ ∂F/∂h misses it by the second and higher orders; what
a ReLU or a min-max takes away comes on top. A :class:`FeatureMap` keeps an account of it that adds up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

#: Sums values ``(N, *shape)`` of a layer's features to one a unit, ``(N, *units)``.
PerUnit = Callable[[Tensor], Tensor]

HIGHER_ORDERS = "higher orders"


@dataclass(frozen=True)
class FeatureMap:
    """A map and what it left out of the signed sum Σ h ⊙ ∂F/∂h.

    Attributes:
        scores: ``(N, *units)``, the map.
        first_order: ``(N,)``, Σ h ⊙ ∂F/∂h over everything.
        dropped: Name -> ``(N,)``: Σ scores + Σ dropped = first_order.
    """

    scores: Tensor
    first_order: Tensor
    dropped: dict[str, Tensor]

    def account(self, target: Tensor) -> dict[str, Tensor]:
        """Return all that the map leaves out of a target ``(N,)``, by name: Σ scores + Σ account = target."""
        return self.dropped | {HIGHER_ORDERS: target.double() - self.first_order}


def sum_channels(values: Tensor) -> Tensor:
    """Return values ``(N, C, h, w)`` summed to ``(N, h, w)``, and ``(N, T, D)`` to ``(N, T)``."""
    return values.sum(dim=1 if values.dim() == 4 else -1)


def layer_cam(features: Tensor, gradients: Tensor, *, per_unit: PerUnit = sum_channels) -> FeatureMap:
    """Return ReLU(Σ_k ReLU(∂F/∂h_k) ⊙ h_k), LayerCAM (Jiang et al., 2021).

    Left out are the channels whose gradient is negative, and the locations that are negative without them (where
    features may be negative, as after a GELU).

    Args:
        features: h(x), ``(N, *shape)``.
        gradients: ∂F/∂h at h(x), same shape.
        per_unit: Sums them to units, by default over the channels of ``(N, C, h, w)`` or ``(N, T, D)``.
    """
    rising = per_unit(gradients.clamp(min=0) * features)
    falling = per_unit(gradients.clamp(max=0) * features)
    return FeatureMap(
        scores=rising.clamp(min=0),
        first_order=_total(per_unit(gradients * features)),
        dropped={"negative gradients": _total(falling), "negative locations": _total(rising.clamp(max=0))},
    )


def odam(features: Tensor, gradients: Tensor, *, per_unit: PerUnit = sum_channels) -> FeatureMap:
    """Return ReLU(Σ_k ∂F/∂h_k ⊙ h_k), ODAM (Zhao and Chan, 2023) without smoothing; F is one box's score.

    Left out are the locations that speak against the box.

    Args:
        features: h(x), ``(N, *shape)``.
        gradients: ∂F/∂h at h(x), same shape.
        per_unit: Sums them to units, by default over the channels of ``(N, C, h, w)`` or ``(N, T, D)``.
    """
    signed = per_unit(gradients * features)
    return FeatureMap(signed.clamp(min=0), _total(signed), {"negative locations": _total(signed.clamp(max=0))})


def min_max(scores: Tensor, shown: Tensor | None = None) -> Tensor:
    """Return scores ``(N, *units)`` moved and scaled so that the least of a row is 0 and the largest 1.

    Args:
        scores: ``(N, *units)``. A row that is constant becomes 0.
        shown: Bool, same shape: the units that a picture shows, by default all; the others become 0.
    """
    flat = scores.flatten(1)
    kept = torch.ones_like(flat, dtype=torch.bool) if shown is None else shown.flatten(1).to(flat.device)
    least = flat.masked_fill(~kept, float("inf")).amin(dim=1, keepdim=True)
    spread = flat.masked_fill(~kept, float("-inf")).amax(dim=1, keepdim=True) - least
    scaled = torch.where(kept & (spread > 0), (flat - least) / spread.where(spread > 0, 1), 0)
    return scaled.reshape(scores.shape)


def difference_map(one: FeatureMap, other: FeatureMap, *, shown: Tensor | None = None) -> FeatureMap:
    """Return the difference of two maps, each min-maxed by itself: two pictures laid over one another.

    It is no attribution of s_a − s_b: that is the difference of two signed maps of one baseline, and here each map has
    lost its negative locations, and its scale to a least and a largest value of its own.

    Args:
        one: The map of s_a.
        other: The map of s_b, of the same features.
        shown: Bool ``(N, *units)``, the units that a picture shows, by default all; the others (``special tokens``) are
            dropped.
    """
    scores, difference = min_max(one.scores, shown) - min_max(other.scores, shown), one.scores - other.scores
    dropped = {name: one.dropped[name] - other.dropped[name] for name in one.dropped}
    if shown is not None and not bool(shown.all()):
        difference, whole = difference.where(shown.to(difference.device), 0), difference
        dropped["special tokens"] = _total(whole) - _total(difference)
    dropped["scale"] = _total(difference) - _total(scores)
    return FeatureMap(scores, one.first_order - other.first_order, dropped)


def _total(scores: Tensor) -> Tensor:
    return scores.double().flatten(1).sum(dim=1)
