"""Similarity of gradients: which training examples pull the parameters the way a query does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.functional.influence.blocks import Block, Gradient, Rows
from lightning_interpret.methods.influence.base import Fitted, InfluenceMethod, stated
from lightning_interpret.methods.influence.examples import Examples
from lightning_interpret.names import choose
from lightning_interpret.tasks import Task, batches


@dataclass(frozen=True)
class GradientSimilarity(InfluenceMethod):
    """Dot product or cosine of the gradients of query and training example (Charpiat et al., 2019).

    The cosine finds examples that are like the query; the dot product is dominated by examples of large gradient
    (Hanawa et al., 2021, section 5.4). Neither has curvature, so neither is an estimate of a retraining.

    Args:
        similarity: ``"cosine"`` or ``"dot"``.
        layers: ``"all"``, ``"last"``, or names of modules.
        seed: Not used: nothing is drawn.
    """

    name: ClassVar[str] = "gradient_similarity"
    similarity: Literal["cosine", "dot"] = "cosine"

    def __post_init__(self) -> None:
        """Refuse a similarity that does not exist."""
        choose("similarity", self.similarity, ("cosine", "dot"))

    def fitted(
        self, module: nn.Module, examples: Examples, task: Task, blocks: list[Block], weight_decay: float
    ) -> Fitted:
        """Return what scores queries: there is nothing to measure first."""
        found = _Similarity(module, examples, task, blocks)
        found.cosine = self.similarity == "cosine"
        unit = "cosine of gradients" if found.cosine else "dot product of gradients"
        found.approximation = stated(self, module, blocks, unit)
        return found


class _Similarity(Fitted):
    cosine: bool

    def stream(
        self, queries: list[Gradient | None], examples: Iterable[tuple[Tensor, Any]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        size = torch.stack([_square(each) for each in queries if each is not None]).sum(dim=0).sqrt()
        by_block = dict(zip(map(id, self.blocks), queries, strict=True))
        for ids, batch in examples:
            uses = self.uses(batches.clone(batch))
            met = [(each, query) for each in uses if (query := by_block[id(each.block)]) is not None]
            scores = torch.stack([each.scores(query) for each, query in met]).sum(dim=0)
            if self.cosine:
                own = torch.stack([_square(each.gradient()) for each in uses]).sum(dim=0).sqrt()
                scores = scores / (size[:, None] * own)
            yield ids, scores

    def own(self, batch: Any) -> Tensor:
        squares = torch.stack([_square(each) for each in self.gradients(batch) if each is not None]).sum(dim=0)
        return torch.ones_like(squares) if self.cosine else squares


def _square(gradient: Gradient) -> Tensor:
    values = gradient.values if isinstance(gradient, Rows) else gradient
    return values.flatten(1).square().sum(dim=1)
