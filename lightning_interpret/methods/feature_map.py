"""What the feature-map methods share: the layer they are made for, their published form, and the repaired one."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_interpret.explanations import Attribution
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.feature_maps import FeatureMap
from lightning_interpret.functional.features import features
from lightning_interpret.functional.trace import is_cut, trace
from lightning_interpret.methods.base import Method
from lightning_interpret.methods.case import Case, open_case
from lightning_interpret.methods.integrated_gradients import IntegratedGradients
from lightning_interpret.tasks import Task

_OF_THE_REPAIRED = ("baseline", "steps", "tolerance", "max_steps")


@dataclass(frozen=True)
class FeatureMapMethod(Method):
    """A map of a layer's features times the gradients there, as published or repaired.

    Published, a map has one gradient, a baseline that no input makes (h := 0), the target F(x) − F(x; h := 0), and an
    error of which ``absorbed`` gives the account, name by name: Σ scores + Σ absorbed = target. It is given before the
    min-max that pictures of it have. Repaired, it is (h(x) − h(x')) ⊙ ∫₀¹ ∇F along the path between them, summed to the
    same locations: signed, with a stated baseline x' and an error near zero, as :class:`IntegratedGradients` gives.

    Without a ``layer``, it is the last that is a cut of the graph and whose locations have a first order: the last
    feature map before pooling, or of a vision transformer a block before its last (:func:`last_feature_map`). To find
    it takes a gradient of one example, which is not counted.
    """

    implicit_baseline: ClassVar[str | None] = "zero features"
    repaired: bool = False
    baseline: str | Baseline = IntegratedGradients.baseline
    steps: int = IntegratedGradients.steps
    tolerance: float | None = IntegratedGradients.tolerance
    max_steps: int = IntegratedGradients.max_steps
    error_floor: float = 0.01
    internal_batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for option in fields(self):
            given = getattr(self, option.name)
            if not self.repaired and option.name in _OF_THE_REPAIRED and given != option.default:
                raise ValueError(
                    f"`{option.name}={given!r}` is an option of the repaired map; as published the baseline is zero "
                    "features, with one gradient: set `repaired=True` with it."
                )

    @property
    def baseline_used(self) -> Baseline | None:
        """The baseline that the repaired map needs; the published one has zero features."""
        return Baseline.ensure(self.baseline) if self.repaired else None

    @abstractmethod
    def draw(self, case: Case) -> tuple[FeatureMap, int]:
        """Return the map as published, and how many gradients a row it took."""

    def attribute(
        self, module: nn.Module, batch: Any, task: Task, layer: str | None, which: str, output: str
    ) -> Attribution:
        """Return the map of one layer."""
        found = last_feature_map(module, batch, task) if layer is None else layer
        if self.repaired:
            options = {name: getattr(self, name) for name in (*_OF_THE_REPAIRED, "error_floor", "internal_batch_size")}
            record = IntegratedGradients(**options).attribute(module, batch, task, found, which, output)
            return replace(record, method=f"{self.name}_repaired")
        with open_case(
            module,
            batch,
            task,
            layer=found,
            which=which,
            output=output,
            baseline=None,
            chunk=self.internal_batch_size,
        ) as case:
            drawn, gradients = self.draw(case)
            case.baseline_target = at_zero_features(case)
            target = case.target.double() - case.baseline_target.double()
            absorbed = {name: amount.tolist() for name, amount in drawn.account(target).items()}
            why = "a first-order map has no steps to refine"
            reasons = dict.fromkeys(("converged", "partial_error"), why)
            reasons["cut"] = "zero features are no h(x'): that there is such an x' cannot be said"
            counted = torch.full((len(target),), gradients)
            return case.record(
                self,
                drawn.scores,
                baseline=self.implicit_baseline,
                absorbed=tuple(dict(zip(absorbed, row, strict=True)) for row in zip(*absorbed.values(), strict=True)),
                steps=torch.ones_like(counted),
                gradients=counted,
                forwards=case.forwards + 1,
                reasons=reasons,
                **case.errors(drawn.scores, self.error_floor),
            )


def last_feature_map(module: nn.Module, batch: Any, task: Task) -> str:
    """Return the name of the last layer that is a cut of the graph and whose locations (or tokens) show in its map.

    The last block of a transformer whose head reads one token is none: nothing of what it returns at the patches is
    read. Nor is the block before it, where all that follows reads a patch through a LayerNorm, which does not see its
    scale: Σ_k h_k ∂F/∂h_k is 0 at each of them (Euler). Nor is one that is read at a single place. Where there is no
    other, it is the last that has a gradient, and where nothing has one, as with a head of zeros, the last cut. It is
    looked for with one example of the batch, by what is predicted for it.
    """
    words, units = task.layer(module), task.units(batch)
    batch = task.take(batch, (~(units.special | units.padding)).flatten(1).sum(dim=1).argmax()[None])

    def forward() -> Tensor:
        return task.logits(module, batch)

    with features(module, words, forward, units=(1, *(units.shape if units.kind == "token" else ()))) as opened:
        start = opened[2].detach().clone().requires_grad_()
        logits, outputs = trace(module, lambda: opened[0].put(start, forward))
        score = task.score(logits, task.resolve(opened[1], batch, "predicted"), "logit").sum()
    several = {name: out for name, out in outputs.items() if out.dim() > 2 and min(out.shape[1:3]) > 1}
    cuts = {name: out for name, out in several.items() if len(out) == 1 and is_cut(score, start, out)}
    slopes = torch.autograd.grad(score, list(cuts.values()), materialize_grads=True) if cuts else ()
    found, shows = words, -1
    for (name, out), slope in reversed(list(zip(cuts.items(), slopes, strict=True))):
        layout = task.layout(module, batch, out, name)
        places = ~(layout.units.special | layout.units.padding).to(slope.device)
        if layout.units.kind == "feature" or int(places.sum()) < 2:
            continue
        product = (slope * out).detach()
        size = layout.per_unit(product.abs()) * places
        first_order = layout.per_unit(product).abs() > 1e-4 * size
        # what is nowhere but at the place that is read (a generated token's, a tag's) says nothing of the others
        does = int(bool(size.any())) + int(int((first_order & (size > 0)).sum()) > 1)
        if does > shows:
            found, shows = name, does
        if shows == 2:
            break
    return found


def at_zero_features(case: Case) -> Tensor:
    """Return F(x; h := 0), ``(N,)``."""
    rows = torch.arange(len(case.inputs), device=case.inputs.device).split(case.chunk)
    with torch.no_grad():
        return torch.cat([case.score(torch.zeros_like(case.inputs[part]), part) for part in rows])
