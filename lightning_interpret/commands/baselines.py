"""What becomes of the baseline in each method: target, sum, error and what was dropped, on one model and batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from lightning_interpret.explanations import Attribution, AttributionRow
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.scope import explaining
from lightning_interpret.methods import (
    DifferenceMap,
    GradientTimesInput,
    IntegratedGradients,
    LayerCam,
    Method,
    Odam,
)
from lightning_interpret.methods.case import open_case
from lightning_interpret.methods.feature_map import at_zero_features, last_feature_map
from lightning_interpret.tasks import Task, batches

_ZERO = Baseline("zero", keep_special=False)


def compare_baselines(
    module: nn.Module,
    batch: Any,
    task: Task,
    *,
    layer: str | None = None,
    which: str = "predicted",
    output: str = "logit",
    baseline: str | Baseline = IntegratedGradients.baseline,
) -> list[dict[str, Any]]:
    """Return one row a method and target: what its scores are to sum to, their sum, the error, and what was dropped.

    ``record`` holds the scores. Σ scores + Σ ``dropped`` is the method's own ``target``. ``shared_target`` is
    F(x) − F(x') of the input-determined baseline x', the same for every layer that is a cut (of the difference map it
    is that of its contrast), and ``shared_error`` by how much the sum misses it.

    Args:
        module: The module to explain.
        batch: A batch as the task reads it.
        task: How they are read.
        layer: Layer of the feature maps; by default the last whose locations reach the score.
        which: ``predicted``, ``gold``, a label, or a contrast ``A-B``.
        output: ``logit``, ``log_prob`` or ``prob``.
        baseline: The input-determined baseline x'; by default the task's.

    Raises:
        ValueError: If a name does not exist, or the model has one score.
    """
    with explaining(module):
        batch = batches.clone(batch)
        layer = layer or last_feature_map(module, batch, task)
        from_zero = _from_zero_features(module, batch, task, layer, which, output)
    ours = IntegratedGradients(baseline=baseline)

    def explain(method: Method, at: str | None = layer) -> Attribution:
        return method(module, batch, task, layer=at, which=which, output=output)

    shared, contrast = explain(ours), explain(DifferenceMap(repaired=True, baseline=baseline))
    compared = [
        (
            "gradient × input",
            "one gradient at x: what F does on the way from the zero input is not seen",
            explain(GradientTimesInput(baseline=_ZERO), None),
        ),
        (
            "IG, zero features",
            "complete, but no input makes a map of zeros: F there is the absence of nothing that can be absent",
            from_zero,
        ),
        (
            "IG, zero input",
            "complete, for a baseline that was not chosen for what F says of it",
            explain(replace(ours, baseline=_ZERO)),
        ),
        (
            "LayerCAM",
            "zero features, one gradient, and the channels that speak against the target cut away",
            explain(LayerCam()),
        ),
        (
            "ODAM",
            "zero features, one gradient, and the locations that speak against the target cut away",
            explain(Odam()),
        ),
        (
            "difference map",
            "two maps of zero features, cut and scaled one by one: what they share of s_a − s_b is lost with the scale",
            explain(DifferenceMap()),
        ),
        ("IG, input-determined", "complete: the error is the quadrature's", shared),
        ("difference map, repaired", "complete: the signed attribution of s_a − s_b with one baseline", contrast),
    ]
    return [
        _row(one, reference) | {"name": name, "why": why, "record": one}
        for name, why, found in compared
        for one, reference in zip(found, contrast if found.method.startswith("difference") else shared, strict=True)
    ]


def _row(row: AttributionRow, reference: AttributionRow) -> dict[str, Any]:
    total, target, shared = sum(row.scores), row.attribution_target, reference.attribution_target
    assert target is not None
    assert shared is not None
    rest = "quadrature" if row.method.startswith("integrated") or row.method.endswith("repaired") else "higher orders"
    return {
        "method": row.method,
        "layer": row.layer,
        "explains": row.target_name,
        "explained": f"the {row.output}",
        "example_id": row.example_id,
        "baseline": row.baseline,
        "at_x": row.target,
        "at_baseline": row.baseline_target,
        "target": target,
        "sum": total,
        "error": row.error,
        "relative_error": row.relative_error,
        "dropped": dict(row.absorbed or {rest: target - total}),
        "shared_target": shared,
        "shared_error": total - shared,
    }


def _from_zero_features(module: nn.Module, batch: Any, task: Task, layer: str, which: str, output: str) -> Attribution:
    """Return the integrated gradients of a layer from a map of zeros, as they are often computed."""
    with open_case(module, batch, task, layer=layer, which=which, output=output, baseline=None, chunk=None) as case:
        case.baselines, case.baseline_target = torch.zeros_like(case.inputs), at_zero_features(case)
        return IntegratedGradients().integrated(case, baseline="zero features")
