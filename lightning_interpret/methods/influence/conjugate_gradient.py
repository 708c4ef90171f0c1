"""Influence by conjugate gradients: the same curvature, only ever multiplied with vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.functional.influence.blocks import Block, Gradient
from lightning_interpret.functional.influence.curvature import add_ggn_product, ggn_trace
from lightning_interpret.functional.influence.solvers import (
    check_damping,
    check_tolerance,
    chosen_damping,
    conjugate_gradient,
)
from lightning_interpret.methods.examples import Examples
from lightning_interpret.methods.influence.base import Fitted, InfluenceMethod, stated
from lightning_interpret.methods.influence.roots import (
    RootGradients,
    check_samples,
    chosen_samples,
    curvature_notes,
)
from lightning_interpret.methods.influence.solved import UNIT, Solved
from lightning_interpret.names import check_whole
from lightning_interpret.tasks import Task


@dataclass(frozen=True, kw_only=True)
class ConjugateGradientInfluence(InfluenceMethod):
    """Influence with the Gauss-Newton matrix of all covered parameters, never formed (Koh and Liang, 2017, section 3).

    Scores are those of :class:`ExactInfluence`, to the tolerance. A step multiplies the curvature with the directions
    of all queries: a pass over the training data, with a backward pass of each root of the loss (one a class, of two
    classes one), unless these gradients take 256 MiB at most and are kept. Self-influence is a solve for each
    example: use another method for it where there are many.

    Args:
        layers: ``"all"``, ``"last"``, or names of modules.
        damping: Added to the curvature's diagonal; ``None`` for 0 where there is a weight decay, else for a tenth of
            the mean eigenvalue.
        tolerance: Relative residual at which a query is solved.
        max_steps: Products at most; what is not solved by then says so in its record.
        curvature_examples: Training examples that the curvature is measured on, spread evenly over their ids; ``None``
            for all.
        label_samples: Labels drawn at each place of an example (a Fisher matrix in the place of the Gauss-Newton one);
            ``"all"`` for the roots of every class, exactly; ``None`` for that where there is one class an example, or
            up to 64 roots of several places, else four draws.
        seed: Seed of those.
    """

    name: ClassVar[str] = "conjugate_gradient"
    damping: float | None = None
    tolerance: float = 1e-5
    max_steps: int = 200
    curvature_examples: int | None = None
    label_samples: int | Literal["all"] | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be."""
        super().__post_init__()
        check_damping(self.damping)
        check_tolerance(self.tolerance)
        check_whole(max_steps=self.max_steps)
        if self.curvature_examples is not None:
            check_whole(curvature_examples=self.curvature_examples)
        check_samples(self.label_samples)

    def fitted(
        self, module: nn.Module, examples: Examples, task: Task, blocks: list[Block], weight_decay: float
    ) -> Fitted:
        """Return what scores queries, after a pass that measures the mean eigenvalue."""
        found = _ConjugateGradient(module, examples, task, blocks)
        found.measure(self, self.damping, weight_decay, self.curvature_examples, self.label_samples)
        found.tolerance, found.max_steps = self.tolerance, self.max_steps
        return found


class MatrixFree(Solved):
    """A curvature that is known by its products with vectors.

    Attributes:
        roots: The root-gradients of the training data.
        diagonal: Weight decay and damping, which every product contains.
        samples: Labels drawn for each example; None where all roots are taken.
    """

    roots: RootGradients
    diagonal: float
    samples: int | None

    def measure(
        self,
        method: InfluenceMethod,
        damping: float | None,
        weight_decay: float,
        limit: int | None = None,
        samples: int | Literal["all"] | None = None,
    ) -> None:
        """Measure the mean eigenvalue of the curvature, choose the damping by it, and say so.

        Raises:
            ValueError: If no example has finite gradients.
        """
        self.samples = chosen_samples(samples, self.module, self.examples, self.task)
        self.roots = RootGradients(self.module, self.examples, self.task, self.blocks, limit, self.samples, method.seed)
        trace = float(sum(ggn_trace(batch).double() for batch in self.roots))
        examples, skipped = self.roots.examples, self.roots.skipped
        if not examples:
            raise ValueError(f"The curvature is not finite: none of {skipped} training examples has finite gradients.")
        self.total = len(self.roots.ids) - skipped
        damping = chosen_damping(damping, weight_decay, trace / examples / self.parameters.size)
        self.diagonal = weight_decay + damping
        notes = (f"{skipped} training examples were left out of the curvature, as theirs is not finite.",)
        self.approximation = stated(
            method,
            self.module,
            self.blocks,
            UNIT,
            damping=damping,
            weight_decay=weight_decay,
            curvature="ggn" if self.samples is None else "fisher",
            samples=self.samples,
            seed=None if self.samples is None else method.seed,
            examples=examples,
            notes=(*(notes if skipped else ()), *curvature_notes(self.module, self.examples, self.task)),
        )

    def stream(
        self, queries: list[Gradient | None], examples: Iterable[tuple[Tensor, Any]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ids and scores; what is said of convergence is of this call."""
        self.approximation = replace(self.approximation, converged=None, residual=None)
        return super().stream(queries, examples)

    def self_influence(self, examples: Any = None) -> tuple[Tensor, Tensor]:
        """Return the ids and each example's influence on its own loss; the residual is the largest of all."""
        self.approximation = replace(self.approximation, converged=None, residual=None)
        return super().self_influence(examples)

    def say(self, residuals: Tensor, tolerance: float) -> None:
        """Put the largest relative residual of this call into what the records say."""
        residual = max(float(residuals.max()), self.approximation.residual or 0.0)
        self.approximation = replace(self.approximation, converged=residual <= tolerance, residual=residual)

    def product(self, vectors: Tensor) -> Tensor:
        """Return the damped curvature of the mean training loss times each vector ``(M, P)``."""
        total = torch.zeros_like(vectors)
        for batch in self.roots:
            add_ggn_product(total, self.parameters, batch, vectors)
        return total / self.roots.examples + self.diagonal * vectors


class _ConjugateGradient(MatrixFree):
    tolerance: float
    max_steps: int

    def solve(self, vectors: Tensor) -> Tensor:
        found = conjugate_gradient(self.product, vectors, tolerance=self.tolerance, max_steps=self.max_steps)
        self.say(found.residual, self.tolerance)
        return found.values
