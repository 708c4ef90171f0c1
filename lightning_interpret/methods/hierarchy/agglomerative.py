"""Trees put together from below, by the scores that a method gives to spans."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from functools import partial
from typing import Literal

from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.hierarchy.agglomeration import agglomerate
from lightning_interpret.methods.hierarchy.base import Grown, HierarchicalMethod
from lightning_interpret.methods.hierarchy.reading import Reading


@dataclass(frozen=True)
class Agglomerative(HierarchicalMethod, ABC):
    """Joins neighbours with the largest joint contribution first (Singh, Murdoch and Yu, 2019)."""

    baseline: str | Baseline = "default"
    unit: Literal["word", "token"] = "word"
    internal_batch_size: int | None = None
    percentile: float = 95.0

    def __post_init__(self) -> None:
        super().__post_init__()
        agglomerate(lambda *_: NotImplemented, [], percentile=self.percentile)  # which knows its range

    def grow(self, opened: Reading) -> list[Grown]:
        """Put each text together."""
        found = agglomerate(
            partial(self.scores, opened),
            opened.lengths.tolist(),
            percentile=self.percentile,
            scale=opened.target.abs().tolist(),
        )
        return [Grown(each.parts, each.scores) for each in found]

    @property
    def joins(self) -> str:
        """What an interaction is, in words."""
        return "the score of a span, less those of its parts"
