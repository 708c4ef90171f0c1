"""Exact influence: an explicit curvature of few parameters, factorised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_interpret.functional.influence.blocks import Block
from lightning_interpret.functional.influence.curvature import add_ggn, hessian, without_example
from lightning_interpret.functional.influence.solvers import Inverse, check_damping, chosen_damping
from lightning_interpret.methods.examples import Examples
from lightning_interpret.methods.influence.base import Fitted, InfluenceMethod, stated
from lightning_interpret.methods.influence.roots import (
    KEPT_BYTES,
    Known,
    check_samples,
    chosen_samples,
    curvature_notes,
    distinct,
    finite_only,
    loss_and_root_gradients,
)
from lightning_interpret.methods.influence.solved import UNIT, Solved
from lightning_interpret.names import check_whole, choose
from lightning_interpret.tasks import Generation, Task, batches


@dataclass(frozen=True, kw_only=True)
class ExactInfluence(InfluenceMethod):
    """Influence with the explicit curvature of the covered parameters (Koh and Liang, 2017, equation 2).

    Scores are ∇mᵀ (G + (λ + δ) I)⁻¹ ∇ℓ / n: G the mean over training examples of the generalised Gauss-Newton matrix,
    or of the Hessian; λ the weight decay, δ the damping. Memory is P² numbers in double precision, twice. What the
    layers read and the gradients behind them are kept from a fit of the Gauss-Newton matrix if they take 256 MiB at
    most: the training data are then read once for fit and scores, else twice.

    Args:
        layers: ``"last"``, ``"all"``, or names of modules.
        curvature: ``"ggn"``, or ``"hessian"`` for the true Hessian, by double backward; it may have negative
            eigenvalues away from a minimum, which the record says.
        damping: δ; ``None`` for 0 where there is a weight decay, else for a tenth of the mean eigenvalue.
        leverage_correction: Whether an example's own curvature is removed with it, which is one Newton step to the
            optimum without it: exact for linear regression, where it divides by 1 − h (see
            :func:`~lightning_interpret.functional.influence.curvature.without_example`). Only of ``"ggn"``; costs a
            solve for each root of each training example.
        max_parameters: How many parameters P may be covered.
        label_samples: Labels drawn at each place of an example (a Fisher matrix in the place of the Gauss-Newton one);
            ``"all"`` for the roots of every class, exactly; ``None`` for that where there is one class an example, or
            up to 64 roots of several places, else four draws.
        seed: Seed of those.
    """

    name: ClassVar[str] = "exact"
    layers: str | Sequence[str] = "last"
    curvature: Literal["ggn", "hessian"] = "ggn"
    damping: float | None = None
    leverage_correction: bool = False
    max_parameters: int = 10_000
    label_samples: int | Literal["all"] | None = None

    def __post_init__(self) -> None:
        """Refuse options that do not exist, or not together."""
        super().__post_init__()
        choose("curvature", self.curvature, ("ggn", "hessian"))
        check_damping(self.damping)
        check_whole(max_parameters=self.max_parameters)
        check_samples(self.label_samples)
        if self.leverage_correction and self.curvature != "ggn":
            raise ValueError("`leverage_correction=True` takes away roots of the curvature: use `curvature='ggn'`.")

    def check(self, module: nn.Module, task: Task) -> None:
        """Raise for a last layer that scores a vocabulary, where that alone has too many parameters."""
        if self.layers != "last" or not isinstance(task, Generation):
            return
        model = task.model_in(module)
        head: Any = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
        size = 0 if head is None else sum(parameter.numel() for parameter in head.parameters())
        if size > self.max_parameters:
            raise ValueError(
                f"`method='exact'` covers the last layer, which of {type(model).__name__} scores a vocabulary: "
                f"{size:,} parameters, more than `max_parameters={self.max_parameters:,}`. Use 'ekfac', or without "
                "curvature GradientSimilarity('dot') or 'tracin', or name a small layer: `layers=[...]`."
            )

    @property
    def whole_only(self) -> str | None:
        """Why its scores are no means over the tokens of an example, and what to use instead; None where they are."""
        if not self.leverage_correction:
            return None
        return "the leverage of an example is none of its tokens': leave `leverage_correction` out"

    def fitted(
        self, module: nn.Module, examples: Examples, task: Task, blocks: list[Block], weight_decay: float
    ) -> Fitted:
        """Return what scores queries, its curvature measured on the training data and factorised.

        Raises:
            ValueError: If more than ``max_parameters`` are covered, or no example has a finite gradient.
        """
        found = _Exact(module, examples, task, blocks)
        size = found.parameters.size
        if size > self.max_parameters:
            raise ValueError(
                f"`layers={self.layers!r}` covers {size:,} parameters, more than "
                f"`max_parameters={self.max_parameters:,}`: their curvature would take {2 * size**2 * 8 / 2**30:,.1f} "
                "GiB. Cover fewer (`layers='last'`), use EkfacInfluence or ConjugateGradientInfluence, or raise "
                "`max_parameters`."
            )
        found.corrected = self.leverage_correction
        ggn = self.curvature == "ggn"
        notes = curvature_notes(module, examples, task) if ggn else ()
        samples = chosen_samples(self.label_samples, module, examples, task) if ggn else None
        if samples is not None and self.leverage_correction:
            raise ValueError(
                "`leverage_correction=True` takes away an example's own curvature, which drawn labels are only in "
                "expectation: set `label_samples='all'`, or leave it out."
            )
        matrix, skipped = found.measure(samples, self.seed) if ggn else found.measure_hessian()
        if not found.total or not bool(matrix.isfinite().all()):
            raise ValueError(
                f"The curvature is not finite: {found.total} examples have finite gradients, {skipped} not."
            )
        damping = chosen_damping(self.damping, weight_decay, float(matrix.trace()) / size)
        matrix.diagonal().add_(weight_decay + damping)
        found.inverse = Inverse(matrix)
        found.approximation = stated(
            self,
            module,
            blocks,
            UNIT,
            damping=damping,
            weight_decay=weight_decay,
            curvature=self.curvature if samples is None else "fisher",
            samples=samples,
            seed=None if samples is None else self.seed,
            examples=found.total,
            notes=(*found.inverse.notes, *_notes(self, skipped), *notes),
        )
        return found


class _Exact(Solved):
    corrected: bool
    inverse: Inverse

    def __init__(self, module: nn.Module, examples: Examples, task: Task, blocks: Sequence[Block]) -> None:
        super().__init__(module, examples, task, blocks)
        self._kept: list[tuple[Tensor, Known]] = []

    def measure(self, samples: int | None, seed: int) -> tuple[Tensor, int]:
        """Return the Gauss-Newton matrix of the mean loss, and how many examples were left out."""
        drawn = samples, torch.Generator().manual_seed(seed)
        matrix, skipped, size, self.total = self._empty(), 0, 0, 0
        kept: list[tuple[Tensor, Known]] = []
        for ids, batch in distinct(self.examples, self.task):
            known = loss_and_root_gradients(self.module, batch, self.task, self.blocks, *drawn)
            roots, without = finite_only(known.roots)
            add_ggn(matrix, self.parameters, roots)
            self.total, skipped = self.total + len(ids) - without, skipped + without
            known = known if self.corrected else Known(known.losses)
            size += known.nbytes()
            kept = [*kept, (ids, known)] if size <= KEPT_BYTES else []
        self._kept, self.keeps = kept, bool(kept)
        return matrix.div_(max(1, self.total)), skipped

    def measure_hessian(self) -> tuple[Tensor, int]:
        """Return the Hessian of the mean loss, and how many examples were left out."""
        matrix, skipped, self.total = self._empty(), 0, 0
        point, losses = self.parameters.current().requires_grad_(), _Losses(self.module, self.task)
        tensors = {f"module.{name}": value for name, value in self.parameters.tensors(self.module, point).items()}
        for ids, batch in distinct(self.examples, self.task):
            with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
                values = functional_call(losses, tensors, (batch,))
                good = values.isfinite().nonzero().flatten()
                self.total, skipped = self.total + len(good), skipped + len(ids) - len(good)
                if not len(good):
                    continue
                if len(good) < len(ids):
                    values = functional_call(losses, tensors, (self.task.take(batch, good),))
                (gradient,) = torch.autograd.grad(values.sum(), point, create_graph=True, materialize_grads=True)
                matrix += hessian(gradient, point)
        return (matrix + matrix.T) / (2 * max(1, self.total)), skipped

    def read(self, source: Examples) -> Iterator[tuple[Tensor, Any]]:
        return iter(self._kept) if source is self.examples and self._kept else super().read(source)

    def solve(self, vectors: Tensor) -> Tensor:
        return self.inverse.solve(self._precise(vectors))

    def met(self, batch: Any, solved: Tensor, parts: dict[int, Tensor]) -> Tensor:
        if not self.corrected:
            return super().met(batch, solved, parts)
        known = self._known(batch)
        return super().met(known, solved, parts) + self._correction(known, solved).to(known.losses[0].outputs.dtype)

    def own(self, batch: Any) -> Tensor:
        known = self._known(batch) if self.corrected else batch
        vectors = self._precise(self.parameters.of(self.uses(known)))
        values = self.inverse.squares(vectors)
        if self.corrected:
            values = values + self._correction(known, self.inverse.solve(vectors)).diagonal()
        return values

    def _correction(self, known: Known, solved: Tensor) -> Tensor:
        vectors = self._precise(self.parameters.of(known.losses))
        roots = torch.stack([self._precise(self.parameters.of(uses)) for uses in known.roots])
        solved_roots = self.inverse.solve(roots.flatten(0, 1)).reshape(roots.shape)
        return without_example(solved, vectors, roots, solved_roots, self.total)

    def _known(self, batch: Any) -> Known:
        if isinstance(batch, Known):
            return batch
        return loss_and_root_gradients(self.module, batch, self.task, self.blocks)

    def _empty(self) -> Tensor:
        like = self.parameters.current()[:1]
        return self._precise(like.new_zeros(1, 1)).repeat(self.parameters.size, self.parameters.size)

    def _precise(self, values: Tensor) -> Tensor:
        return values.float() if values.device.type == "mps" else values.double()


class _Losses(nn.Module):
    """The losses of a batch as a module's forward, so that its parameters can be exchanged for a call."""

    def __init__(self, module: nn.Module, task: Task) -> None:
        super().__init__()
        self.module, self.task = module, task

    def forward(self, batch: Any) -> Tensor:
        return self.task.losses(self.module, batches.to_full_precision(batches.clone(batch)))


def _notes(method: ExactInfluence, skipped: int) -> tuple[str, ...]:
    notes = (
        (f"{skipped} training examples were left out of the curvature, as theirs is not finite.",) if skipped else ()
    )
    return (*notes, "Each example's own curvature is removed with it.") if method.leverage_correction else notes
