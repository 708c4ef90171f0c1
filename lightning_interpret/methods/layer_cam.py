"""LayerCAM, as published and repaired."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lightning_interpret.functional.feature_maps import FeatureMap, layer_cam
from lightning_interpret.functional.gradient import gradient
from lightning_interpret.methods.case import Case
from lightning_interpret.methods.feature_map import FeatureMapMethod


@dataclass(frozen=True)
class LayerCam(FeatureMapMethod):
    """ReLU(Σ_k ReLU(∂F/∂h_k) ⊙ h_k) at each location of a layer (Jiang et al., *LayerCAM*, 2021).

    Its implicit baseline is zero features, h := 0, its target F(x) − F(x; h := 0). Its sum misses it by the channels
    whose gradient is negative (``negative gradients``), by locations below zero (``negative locations``, where features
    may be negative), and by all but the first order of F in h (``higher orders``).

    Args:
        repaired: Whether to give the integrated gradients at the same layer instead: signed, with a stated baseline.
        baseline: Of the repaired map: name of the baseline x', or a :class:`Baseline`.
        steps: Of the repaired map: nodes on the path.
        tolerance: Of the repaired map: error to reach; ``None`` for fixed steps.
        max_steps: Of the repaired map: cap on the nodes of one example.
        error_floor: Floor τ of the relative error's denominator, in units of the output.
        internal_batch_size: Points in one pass; by default by the size of an example.

    Raises:
        ValueError: If an option is out of its range, or is one of the repaired map without ``repaired``.
    """

    name: ClassVar[str] = "layer_cam"

    def draw(self, case: Case) -> tuple[FeatureMap, int]:
        """Return the map as published."""
        slopes = gradient(case.score, case.inputs, chunk=case.chunk)
        return layer_cam(case.inputs, slopes, per_unit=case.to_units), 1
