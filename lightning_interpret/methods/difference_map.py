"""The difference of two feature maps, as drawn and repaired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from lightning_interpret.explanations import Attribution
from lightning_interpret.functional.feature_maps import FeatureMap, difference_map, odam
from lightning_interpret.functional.gradient import gradient
from lightning_interpret.methods.case import Case
from lightning_interpret.methods.feature_map import FeatureMapMethod
from lightning_interpret.tasks import Targets, Task
from lightning_interpret.tasks.classification import Classification


@dataclass(frozen=True)
class DifferenceMap(FeatureMapMethod):
    """Why A and not B, as the difference of two maps: each ReLU(Σ_k ∂s/∂h_k ⊙ h_k), min-maxed by itself.

    A contrast ``A-B`` is explained; of anything else that with what ``margin`` subtracts: the runner-up at x, or,
    of a detector's box, no object. That the map is made so is our reading of what is called a difference map: no one
    source is established. Each of its two maps has a baseline of zero features and a scale of its own, so that its sum
    means nothing; it misses s_a − s_b, from where both have their features at zero, by the ``negative locations`` of
    both, by their ``scale``, by ``special tokens``, which no picture shows, and by the ``higher orders``. Repaired, it
    is the signed attribution of s_a − s_b with one baseline x', which is that of s_a less that of s_b.

    Args:
        repaired: Whether to give the integrated gradients of the contrast instead: signed, with a stated baseline.
        baseline: Of the repaired map: name of the baseline x', or a :class:`Baseline`.
        steps: Of the repaired map: nodes on the path.
        tolerance: Of the repaired map: error to reach; ``None`` for fixed steps.
        max_steps: Of the repaired map: cap on the nodes of one target.
        error_floor: Floor τ of the relative error's denominator, in units of the output.
        internal_batch_size: Points in one pass; by default by the size of an example.

    Raises:
        ValueError: If an option is out of its range, or is one of the repaired map without ``repaired``; for the output
            ``margin``, which is a contrast already, and for a model of one score.
    """

    name: ClassVar[str] = "difference_map"

    def check(self, module: nn.Module, task: Task, layers: Sequence[str], output: str) -> None:
        """Raise for ``margin``."""
        if output == "margin":
            raise ValueError("`output='margin'` is a contrast already: with DifferenceMap use 'logit'.")

    def attribute(
        self, module: nn.Module, batch: Any, task: Task, layer: str | None, which: str, output: str
    ) -> Attribution:
        """Return the difference map of one layer."""
        return super().attribute(module, batch, cast(Task, _Contrasted(task)), layer, which, output)

    def draw(self, case: Case) -> tuple[FeatureMap, int]:
        """Return the difference of the maps of both sides of the contrast."""
        first = replace(case.targets, contrast=False)
        second = replace(first, index=first.against)
        one, other = (
            odam(
                case.inputs,
                gradient(case.score_of(side), case.inputs, chunk=case.chunk),
                per_unit=case.to_units,
            )
            for side in (first, second)
        )
        return difference_map(one, other, shown=~(case.units.special | case.units.padding)), 2


class _Contrasted:
    """A task whose every target is a contrast: if it is none, with what ``margin`` subtracts."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def resolve(self, logits: Tensor, batch: Any, which: str) -> Targets:
        targets = self._task.resolve(logits, batch, which)
        if bool((targets.index == targets.against).any()):
            raise ValueError(
                "DifferenceMap needs two classes that one is chosen of, but here each score is by itself: use another "
                "method, or name a contrast 'A-B'."
            )
        if targets.contrast:
            return targets
        names = tuple(f"{name} (margin)" for name in targets.name)
        if isinstance(self._task, Classification) and logits.dim() == 2:
            labels = self._task.label_names(logits.shape[1])
            names = tuple(f"{a}-{labels[b]}" for a, b in zip(targets.name, targets.against.tolist(), strict=True))
        return replace(targets, contrast=True, name=names)
