"""Explanations beside one another: of two methods, of a model without its training, and over how many units they go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.functional.agreement import CORRELATIONS, TOP, correlation, method_agreement
from lightning_interpret.functional.complexity import entropy, gini
from lightning_interpret.metrics.curve import MeanCurve
from lightning_interpret.metrics.mean_of_examples import MeanOfExamples, keep_apart
from lightning_interpret.names import check_whole, choose

_COMPLEXITY = {"gini": gini, "entropy": entropy}


class MethodAgreement(MeanCurve):
    """Mean agreement of two methods on the same examples; also by how sure the model is, with ``edges``.

    Args:
        measure: ``feature``, ``rank``, ``sign`` or ``signed_rank`` of the k largest (Krishna et al., 2022), or
            ``pearson``, ``kendall``, ``spearman`` or ``cosine`` of signed scores.
        k: Units on each side, for the first four.
        edges: Probabilities between which examples are told apart: with ``(0.6, 0.9)`` ``curve()`` has three values, of
            those below .6, from .6 to below .9, and from .9.
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    higher_is_better = True
    nothing = "no unit counts, a score is not finite, or one side is all the same"

    def __init__(self, measure: str = "kendall", k: int = 5, edges: Sequence[float] = (), **kwargs: Any) -> None:
        super().__init__(len(edges) + 1, **kwargs)
        self.measure, self.k = choose("measure", measure, (*TOP, *CORRELATIONS)), k
        check_whole(k=k)
        if list(edges) != sorted(set(edges)) or any(not 0 < edge < 1 for edge in edges):
            raise ValueError(f"`edges={tuple(edges)!r}` must rise, within (0, 1).")
        self.edges = tuple(edges)
        keep_apart(self, measure=measure, k=k, edges=str(edges))

    def update(self, first: Tensor, second: Tensor, counts: Tensor, confidence: Tensor | None = None) -> None:
        """Add examples.

        Args:
            first: Scores ``(N, T)``.
            second: The other method's.
            counts: Bool ``(N, T)``, the units that count.
            confidence: Probability of the class predicted, ``(N,)``; needed with ``edges``. An example of which it is
                NaN is left out.

        Raises:
            ValueError: If shapes differ, or there are edges and no confidence.
        """
        if self.edges and confidence is None:
            raise ValueError(f"`edges={self.edges}` tell examples apart by `confidence`: give it.")
        if confidence is not None and confidence.shape != first.shape[:1]:
            raise ValueError(f"`confidence` must be ({len(first)},), but is {tuple(confidence.shape)}.")
        values = method_agreement(first, second, counts.bool(), self.measure, k=self.k)
        found = values.new_full((len(values), len(self.edges) + 1), torch.nan)
        place = torch.zeros(len(values), dtype=torch.long, device=values.device)
        if confidence is not None and self.edges:
            sure = confidence.detach().to(values.device)
            place = torch.bucketize(sure, torch.tensor(self.edges).to(sure), right=True)
            values = values.where(~sure.isnan(), torch.nan)
        self.add_parts(found.scatter(1, place[:, None], values[:, None]))


class Randomisation(MeanCurve):
    """Mean rank correlation of explanations of the trained model with those of one that is not: low is good.

    What the other model is, the caller says: weights of step 0, blocks replaced from the head down, or a model trained
    on random labels (Adebayo et al., 2018); :func:`~lightning_interpret.functional.randomisation.randomised` explains
    with such weights in place. Near 1, the method says nothing of what was learned.

    Args:
        kind: ``spearman``, as the paper, ``kendall``, ``pearson`` or ``cosine``.
        absolute: Whether of sizes, without signs; the paper has both.
        stages: How many other models there are, such as the blocks of a cascade; ``curve()`` has each, and the value is
            their mean.
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    higher_is_better = False
    nothing = "there are fewer than two units, one side is all the same, or a score is not finite"

    def __init__(self, kind: str = "spearman", absolute: bool = False, stages: int = 1, **kwargs: Any) -> None:
        check_whole(stages=stages)
        super().__init__(stages, **kwargs)
        self.kind, self.absolute, self.stages = choose("kind", kind, CORRELATIONS), absolute, stages
        keep_apart(self, kind=kind, absolute=absolute, stages=stages)

    def update(self, scores: Tensor, randomised: Tensor, counts: Tensor) -> None:
        """Add examples.

        Args:
            scores: Of the trained model, ``(N, T)``.
            randomised: Of the other, ``(N, T)``, or of several ``(stages, N, T)``.
            counts: Bool ``(N, T)``, the units that count.

        Raises:
            ValueError: If shapes differ.
        """
        others = randomised if randomised.dim() == 3 else randomised[None]
        if len(others) != self.stages:
            raise ValueError(f"`randomised` has {len(others)} stages, but the metric was made for {self.stages}.")
        pairs = [(scores.abs(), other.abs()) if self.absolute else (scores, other) for other in others]
        self.add_parts(torch.stack([correlation(*pair, counts.bool(), self.kind) for pair in pairs], dim=1))


class Complexity(MeanOfExamples):
    """Mean over examples of how few units an attribution is in.

    Args:
        kind: ``gini``, 0 where all units have the same size and near 1 where one has everything (Chalasani et al.,
            2020); or ``entropy`` of the sizes as shares, in nats, 0 where one has everything (Bhatt et al., 2020).
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    nothing = "all scores are 0, no unit counts, or a score is not finite"

    def __init__(self, kind: str = "gini", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kind = choose("kind", kind, _COMPLEXITY)
        keep_apart(self, kind=kind)

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """Whether more says that fewer units have it all."""
        return self.kind == "gini"

    def update(self, scores: Tensor, counts: Tensor) -> None:
        """Add examples: scores ``(N, T)``, and the units that count, bool ``(N, T)``."""
        self.add(_COMPLEXITY[self.kind](scores, counts.bool()))
