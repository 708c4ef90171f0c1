"""Influence by LiSSA: a stochastic recursion, which may not converge and then says so."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.functional.influence.blocks import Block
from lightning_interpret.functional.influence.curvature import add_ggn_product
from lightning_interpret.functional.influence.solvers import (
    Product,
    check_damping,
    check_tolerance,
    largest_eigenvalue,
    stochastic_recursion,
)
from lightning_interpret.methods.examples import Examples
from lightning_interpret.methods.influence.base import Fitted, InfluenceMethod
from lightning_interpret.methods.influence.conjugate_gradient import MatrixFree
from lightning_interpret.methods.influence.roots import check_samples, finite_only, root_gradients
from lightning_interpret.names import check_positive, check_whole
from lightning_interpret.tasks import Task


@dataclass(frozen=True, kw_only=True)
class LissaInfluence(InfluenceMethod):
    """Influence by the recursion x ← b + x − H_t x / s, H_t the curvature of a few examples (Agarwal et al., 2017).

    Known to be slow and to blow up: :class:`ConjugateGradientInfluence` is the method to start from. How far the result
    is from a solution is measured with the whole curvature and stands in the record; a query whose recursion grows
    without bound gets no scores, and a warning.

    Args:
        layers: ``"all"``, ``"last"``, or names of modules.
        damping: Added to the curvature's diagonal; ``None`` for 0 where there is a weight decay, else for a tenth of
            the mean eigenvalue.
        scale: s, above half of the largest eigenvalue of any H_t; ``None`` for twice that of the whole curvature, by
            power iteration.
        depth: Steps of the recursion; it needs some multiples of s / (weight decay + damping).
        repeats: Recursions, each with its own draws, whose mean is taken.
        step_examples: Training examples drawn for each step, by their ids; a mere loader is gone through to find them.
        tolerance: Relative residual up to which the result counts as converged.
        label_samples: Labels drawn at each place of an example (a Fisher matrix in the place of the Gauss-Newton one);
            ``"all"`` for the roots of every class, exactly; ``None`` for that where there is one class an example, or
            up to 64 roots of several places, else four draws.
        seed: Seed of the draws.
    """

    name: ClassVar[str] = "lissa"
    damping: float | None = None
    scale: float | None = None
    depth: int = 1000
    repeats: int = 1
    step_examples: int = 32
    tolerance: float = 0.1
    label_samples: int | Literal["all"] | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be."""
        super().__post_init__()
        check_damping(self.damping)
        if self.scale is not None:
            check_positive(scale=self.scale)
        check_tolerance(self.tolerance)
        check_whole(depth=self.depth, repeats=self.repeats, step_examples=self.step_examples)
        check_samples(self.label_samples)

    def fitted(
        self, module: nn.Module, examples: Examples, task: Task, blocks: list[Block], weight_decay: float
    ) -> Fitted:
        """Return what scores queries, after the passes that measure the scale."""
        found = _Lissa(module, examples, task, blocks)
        found.measure(self, self.damping, weight_decay, samples=self.label_samples)
        found.method = self
        generator = torch.Generator().manual_seed(self.seed)
        like = found.parameters.current()[None]
        found.scale = self.scale or 2 * largest_eigenvalue(found.product, like, generator) or 1.0
        found.approximation = replace(found.approximation, seed=self.seed)
        return found


class _Lissa(MatrixFree):
    method: LissaInfluence
    scale: float

    def solve(self, vectors: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.method.seed)
        found = stochastic_recursion(
            lambda: self._drawn(generator),
            self.product,
            vectors,
            scale=self.scale,
            depth=self.method.depth,
            repeats=self.method.repeats,
            bound=10 / self.diagonal if self.diagonal else 1e8,
        )
        diverged = int(found.diverged.sum())
        notes = [note for note in self.approximation.notes if not note.startswith("LiSSA")]
        notes.append(f"LiSSA with scale {self.scale:.3g}: {found.steps} steps of {self.method.step_examples} examples.")
        if diverged:
            notes.append(
                f"LiSSA diverged for {diverged} of {len(vectors)} queries, which get no scores: raise `scale` above "
                f"{self.scale:.3g}, or draw more examples a step (`step_examples`)."
            )
            warnings.warn(notes[-1], stacklevel=2)
        self.approximation = replace(self.approximation, notes=tuple(notes))
        self.say(found.residual, self.method.tolerance)
        return found.values

    def _drawn(self, generator: torch.Generator) -> Product:
        """Return the product with the damped curvature of some examples."""
        ids = self.roots.ids[torch.randperm(len(self.roots.ids), generator=generator)[: self.method.step_examples]]
        parts, count = [], 0
        for found, batch in self.examples.take(ids.tolist()):
            roots = root_gradients(self.module, batch, self.task, self.blocks, self.samples, generator)
            roots, without = finite_only(roots)
            parts.append(roots)
            count += len(found) - without

        def product(vectors: Tensor) -> Tensor:
            total = torch.zeros_like(vectors)
            for roots in parts:
                add_ggn_product(total, self.parameters, roots, vectors)
            return total / max(1, count) + self.diagonal * vectors

        return product
