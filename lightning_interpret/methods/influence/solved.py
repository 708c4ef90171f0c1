"""Influence by solving with a curvature that couples layers: the query's side once, training examples by a product."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from lightning_interpret.functional.influence.blocks import Block, Gradient
from lightning_interpret.functional.influence.gradients import Uses, products
from lightning_interpret.functional.influence.parameters import Parameters
from lightning_interpret.methods.examples import Examples
from lightning_interpret.methods.influence.base import Fitted, Measure
from lightning_interpret.methods.influence.roots import Known, distinct
from lightning_interpret.tasks import Task, batches

UNIT = "change of the query's loss if the example is removed"


class Solved(Fitted):
    """Scores ∇mᵀ H⁻¹ ∇ℓ, by :meth:`solve` of all queries at once.

    Attributes:
        parameters: The covered parameters as one vector.
    """

    def __init__(self, module: nn.Module, examples: Examples, task: Task, blocks: Sequence[Block]) -> None:
        super().__init__(module, examples, task, blocks)
        self.parameters = Parameters(blocks)

    def uses(self, batch: Any, measure: Measure | None = None) -> list[Uses]:
        """Return what each block read and the gradients at what it returned; what a :class:`Known` batch says."""
        return batch.losses if isinstance(batch, Known) else super().uses(batch, measure)

    def read(self, source: Examples) -> Iterator[tuple[Tensor, Any]]:
        """Yield examples, each id once, as the curvature counts them."""
        return distinct(source, self.task)

    @abstractmethod
    def solve(self, vectors: Tensor) -> Tensor:
        """Return H⁻¹ times each vector ``(M, P)``; called inside the explaining scope."""

    def stream(
        self, queries: list[Gradient | None], examples: Iterable[tuple[Tensor, Any]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ids and the products of the solved queries with the examples' gradients."""
        vectors = self.parameters.vectors(queries)
        solved = self.solve(vectors)
        parts = self.parameters.split(solved.to(vectors.dtype))
        for ids, batch in examples:
            yield ids, self.met(batch if isinstance(batch, Known) else batches.clone(batch), solved, parts)

    def met(self, batch: Any, solved: Tensor, parts: dict[int, Tensor]) -> Tensor:
        """Return the scores of a batch ``(M, B)``; ``parts`` are the solved queries by block."""
        return products(parts, self.uses(batch))

    def own(self, batch: Any) -> Tensor:
        """Return gᵀ H⁻¹ g of each example."""
        vectors = self.parameters.of(self.uses(batch))
        return (vectors * self.solve(vectors)).sum(dim=1)
