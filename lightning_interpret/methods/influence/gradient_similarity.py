"""Similarity of gradients: which training examples pull the parameters the way a query does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.functional.influence.block import scaled, squares
from lightning_interpret.functional.influence.blocks import Block, Gradient
from lightning_interpret.functional.influence.checkpoints import Checkpoints
from lightning_interpret.functional.influence.gradients import by_block, products, squared_norms
from lightning_interpret.functional.influence.optimizers import Optimizers, adam_preconditioner
from lightning_interpret.methods.examples import Examples
from lightning_interpret.methods.influence.base import Fitted, InfluenceMethod, stated
from lightning_interpret.names import choose
from lightning_interpret.tasks import Task, batches


@dataclass(frozen=True)
class GradientSimilarity(InfluenceMethod):
    """Dot product or cosine of the gradients of query and training example (Charpiat et al., 2019).

    The cosine finds examples that are like the query; the dot product is dominated by examples of large gradient
    (Hanawa et al., 2021, section 5.4). Neither has curvature, so neither is an estimate of a retraining.

    With Adam's second moments as a preconditioner D = 1 / (√v̂ + ε) the products are qᵀ D g, what a step of Adam on g
    does to the query's loss (as in Xia et al., 2024), and norms are √(gᵀ D g): an example's cosine with itself is 1
    either way. A gradient of norm 0 has cosine 0 with all.

    Args:
        similarity: ``"cosine"`` or ``"dot"``.
        preconditioner: ``None``, or ``"adam"`` for the second moments of the live optimizer given to ``fit``.
        layers: ``"all"``, ``"last"``, or names of modules.
        seed: Not used: nothing is drawn.

    Raises:
        ValueError: In ``fit``, for ``"adam"`` without an optimizer that keeps second moments and has taken a step.
    """

    name: ClassVar[str] = "gradient_similarity"
    similarity: Literal["cosine", "dot"] = "cosine"
    preconditioner: Literal["adam"] | None = None

    def __post_init__(self) -> None:
        """Refuse a similarity or a preconditioner that does not exist."""
        super().__post_init__()
        choose("similarity", self.similarity, ("cosine", "dot"))
        if self.preconditioner is not None:
            choose("preconditioner", self.preconditioner, ("adam",))

    @property
    def whole_only(self) -> str | None:
        """Why its scores are no means over the tokens of an example, and what to use instead; None where they are."""
        return "a cosine is no mean over tokens: use `similarity='dot'`" if self.similarity == "cosine" else None

    def fitted(
        self, module: nn.Module, examples: Examples, task: Task, blocks: list[Block], weight_decay: float
    ) -> Fitted:
        """Return what scores queries: there is nothing to measure first."""
        found = _Similarity(module, examples, task, blocks)
        found.cosine, found.diagonals = self.similarity == "cosine", [1.0] * len(blocks)
        unit = "cosine of gradients" if found.cosine else "dot product of gradients"
        found.approximation = stated(self, module, blocks, unit)
        return found

    def take_from_run(
        self, fitted: Fitted, module: nn.Module, optimizer: Optimizers | None, checkpoints: Checkpoints
    ) -> None:
        """Take the optimizer's second moments as they are now."""
        if self.preconditioner is None:
            return
        assert isinstance(fitted, _Similarity)
        values = adam_preconditioner(optimizer)
        fitted.diagonals = [block.laid(values) for block in fitted.blocks]
        unit = f"{fitted.approximation.unit}, preconditioned"
        fitted.approximation = replace(fitted.approximation, unit=unit, curvature="Adam's second moments")


class _Similarity(Fitted):
    cosine: bool
    diagonals: Sequence[Tensor | float]

    def stream(
        self, queries: list[Gradient | None], examples: Iterable[tuple[Tensor, Any]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        pairs = [(query, d) for query, d in zip(queries, self.diagonals, strict=True) if query is not None]
        size = torch.stack([squares(query, d) for query, d in pairs]).sum(dim=0).sqrt()
        moved = [None if query is None else scaled(query, d) for query, d in zip(queries, self.diagonals, strict=True)]
        known: dict[int, Gradient] = by_block(self.blocks, moved)
        diagonals: dict[int, Tensor | float] = by_block(self.blocks, self.diagonals)
        for ids, batch in examples:
            uses = self.uses(batches.clone(batch))
            scores = products(known, uses)
            if self.cosine:
                norms = size[:, None] * squared_norms(uses, diagonals).sqrt()
                scores = torch.where(norms == 0, 0.0, scores / norms)
            yield ids, scores

    def own(self, batch: Any) -> Tensor:
        diagonals: dict[int, Tensor | float] = by_block(self.blocks, self.diagonals)
        found = squared_norms(self.uses(batch), diagonals)
        return torch.where(found == 0, 0.0, found / found) if self.cosine else found
