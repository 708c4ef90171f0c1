"""Retrieve, then rerank: a cheap method looks at all examples, an expensive one at the few that it leaves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_interpret.evidence import Influence
from lightning_interpret.functional.influence.blocks import Block, Gradient
from lightning_interpret.functional.influence.checkpoints import Checkpoints
from lightning_interpret.functional.influence.optimizers import Optimizers
from lightning_interpret.functional.influence.top import TopK
from lightning_interpret.methods.examples import Examples, Whole, examples_of
from lightning_interpret.methods.influence.base import Fitted, InfluenceMethod, Measure, influence_named
from lightning_interpret.methods.influence.feature_similarity import FeatureSimilarity
from lightning_interpret.methods.influence.gradient_similarity import GradientSimilarity
from lightning_interpret.names import check_whole
from lightning_interpret.tasks import Task


@dataclass(frozen=True)
class Rerank(InfluenceMethod):
    """Scores of one method for the examples that another one puts foremost for each query (as Guo et al., 2021, do).

    The first method scores all examples; half of each query's candidates are its largest positive scores, half its
    most negative ones; of ``feature_similarity`` all are its nearest, whatever is measured. The second scores those,
    each query's its own, and says nothing of the others. What the first misses stays missed.

    Args:
        first: A method or its name, cheap; ``None`` for the dot product of gradients, whose shortlist loses less of
            what curvature puts foremost than the cosine's does.
        then: A method or its name, whose scores are shown.
        candidates: Examples kept for each query, half from each end; of a similarity of features, the nearest.
        layers: Of methods given by name, whose parameters are covered: ``"all"``, ``"last"``, or names of modules.
        seed: Of methods given by name: seed of what is drawn.

    Raises:
        ValueError: If ``candidates`` is not at least 2; in ``fit``, if a name does not exist.
    """

    name: ClassVar[str] = "rerank"
    first: str | InfluenceMethod | None = None
    then: str | InfluenceMethod = "ekfac"
    candidates: int = 256

    def __post_init__(self) -> None:
        """Refuse fewer candidates than one at each end."""
        super().__post_init__()
        check_whole(2, candidates=self.candidates)

    @property
    def whole_only(self) -> str | None:
        """Why its scores are no means over the tokens of an example, and what to use instead; None where they are."""
        return "each token would have a shortlist of its own: use the method of `then` alone"

    def fit(
        self,
        module: nn.Module,
        examples: Any,
        task: Task,
        *,
        weight_decay: float = 0.0,
        optimizer: Optimizers | None = None,
        checkpoints: Checkpoints = (),
    ) -> Fitted:
        """Return what scores queries, both methods fitted."""
        given: dict[str, Any] = {"weight_decay": weight_decay, "optimizer": optimizer, "checkpoints": checkpoints}
        source = examples_of(examples, task, module)  # one for both: what a method has kept of it is known by it
        first, then = (each.fit(module, source, task, **given) for each in self._methods())
        found = _Reranked(first, then, self.candidates)
        found.whole_only = self.whole_only
        return found

    def fitted(
        self, module: nn.Module, examples: Examples, task: Task, blocks: list[Block], weight_decay: float
    ) -> Fitted:
        """Return what :meth:`fit` does, without what a run has to give."""
        return self.fit(module, examples, task, weight_decay=weight_decay)

    def check(self, module: nn.Module, task: Task) -> None:
        """Raise for what one of the two could not serve."""
        for each in self._methods():
            each.check(module, task)

    def _methods(self) -> list[InfluenceMethod]:
        options: dict[str, Any] = {"layers": self.layers, "seed": self.seed}
        features = {"seed": self.seed}  # of no parameters, whose layers these are
        first = GradientSimilarity("dot", **options) if self.first is None else self.first
        return [
            each
            if isinstance(each, InfluenceMethod)
            else influence_named(each, **(features if each == FeatureSimilarity.name else options))
            for each in (first, self.then)
        ]


class _Reranked(Fitted):
    def __init__(self, first: Fitted, then: Fitted, candidates: int) -> None:
        super().__init__(then.module, then.examples, then.task, then.blocks)
        self.first, self.then, self.each = first, then, candidates // first.ends
        self.total, self.keeps, self.ends, self.reads = then.total, first.keeps, then.ends, then.reads
        self._parted = 0
        self._counts: tuple[int, int, list[int]] = (0, 0, [])
        says = f"the {first.ends * self.each} foremost of {first.approximation.method} ({first.approximation.unit})"
        self.approximation = replace(then.approximation, notes=(*then.approximation.notes, f"reranked: {says}"))

    def gradients(self, batch: Any, measure: Measure | None = None, *, summed: bool = False) -> list[Gradient | None]:
        """Return the queries as the first method reads them, then as the second does."""
        near = self.first.approximation.measure is None  # what is near is near, whatever is measured
        first = self.first.gradients(batch, None if near else measure, summed=summed)
        then = self.then.gradients(batch, measure, summed=summed)
        counts = [next((len(each) for each in part if each is not None), 0) for part in (first, then)]
        if near and counts[0] != counts[1]:
            raise ValueError(
                f"`measure` has {counts[1]} values of {counts[0]} queries, and {self.first.approximation.method!r} "
                "looks for what is near a query: measure one value of each, or give another `first`."
            )
        self._parted = len(first)
        return [*first, *then]

    def read(self, source: Examples) -> Iterator[tuple[Tensor, Any]]:
        """Yield examples; of these, all of a data set, the first method leaves some to the second."""
        return Whole(source)

    def stream(
        self, queries: list[Gradient | None], examples: Iterable[tuple[Tensor, Any]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield what the second method says of each query's own candidates; 0 for those of other queries."""
        first, then = queries[: self._parted], queries[self._parted :]
        if not isinstance(examples, Whole):
            yield from self.then.stream(then, examples)
            return
        top = TopK(self.each)
        for ids, scores in self.first.stream(first, self.first.read(examples.source)):
            top.update(ids, scores)
        ends = [top.found(largest=largest, signed=self.first.ends == 2) for largest in (True, False)[: self.first.ends]]
        shortlists = [
            torch.tensor([i for end in row for i, _ in end], dtype=torch.long) for row in zip(*ends, strict=True)
        ]
        union = torch.cat(shortlists).unique()
        self._counts = top.examples, top.skipped, [len(each) for each in shortlists]
        if not len(union):
            yield union, torch.zeros(len(shortlists), 0)
            return
        for ids, scores in self.then.stream(then, examples.source.take(union.tolist())):
            there = torch.stack([torch.isin(ids.cpu(), each) for each in shortlists])
            yield ids, torch.where(there.to(scores.device), scores, 0.0)

    def scores(self, queries: Any, k: int = 5, **options: Any) -> Influence:
        """Return for each query the k most helpful and the k most harmful of its candidates; see :class:`Fitted`."""
        found = super().scores(queries, k, **options)
        scored, skipped, reranked = self._counts
        return Influence(
            tuple(
                replace(
                    row,
                    examples=scored,
                    skipped=skipped + row.skipped,
                    notes=(*row.notes, f"scored {scored} examples; reranked {count}"),
                )
                for row, count in zip(found, reranked, strict=True)
            )
        )

    def own(self, batch: Any) -> Tensor:
        return self.then.own(batch)

    def self_influence(self, examples: Any = None) -> tuple[Tensor, Tensor]:
        """Return the ids and each example's influence on its own loss, by the second method."""
        return self.then.self_influence(examples)
