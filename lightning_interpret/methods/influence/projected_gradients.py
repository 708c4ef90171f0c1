"""Projected gradients: every training example's gradient in a few hundred numbers on disk, and curvature in those."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.functional.fingerprint import digest_of, weights_hash
from lightning_interpret.functional.influence.blocks import Block, Gradient
from lightning_interpret.functional.influence.projection import PROJECTIONS, Projection
from lightning_interpret.functional.influence.solvers import check_damping, chosen_damping
from lightning_interpret.functional.store import Store, collect, read, write
from lightning_interpret.methods.examples import Examples, data_hash
from lightning_interpret.methods.influence.base import Fitted, InfluenceMethod, Measure, stated
from lightning_interpret.methods.influence.roots import distinct
from lightning_interpret.names import check_whole, choose
from lightning_interpret.tasks import Task, batches


@dataclass(frozen=True)
class ProjectedGradients(InfluenceMethod):
    """qᵀ (Φᵀ Φ / n + λ)⁻¹ φ / n in a random projection of the loss's gradients (Park et al., 2023; Choe et al., 2024).

    φ is a training example's projected gradient, q a query's; Φᵀ Φ / n is the empirical Fisher matrix, and λ the weight
    decay with the damping. Unlike TRAK's, which takes the gradient of a margin and weights it by the error, the
    gradient is the loss's own on both sides. One pass over the training data writes Φ to a file that is memory-mapped;
    as long as weights, data and options are the same, later fits read it instead.

    Args:
        dimension: Numbers kept of each gradient, over all layers.
        folder: Where Φ is kept; ``None`` for a temporary file, gone with what ``fit`` returns.
        projection: ``"rademacher"`` or ``"lowrank"``; see :class:`Projection`.
        curvature: Whether to score with the inverse of the empirical Fisher matrix, or with the product q·φ alone.
        damping: Added to the diagonal beside the weight decay; ``None`` for 0 where there is a weight decay, else for a
            tenth of the mean eigenvalue.
        layers: ``"all"``, ``"last"``, or names of modules.
        seed: Seed of the projection.

    Raises:
        ValueError: If an option is out of its range; in ``fit``, if the matrix has no inverse.
        OSError: In ``fit``, if the file cannot be written (the disk is full); nothing of it is kept.
    """

    name: ClassVar[str] = "projected_gradients"
    dimension: int = 512
    folder: str | None = None
    projection: Literal["rademacher", "lowrank"] = "rademacher"
    curvature: bool = True
    damping: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        choose("projection", self.projection, PROJECTIONS)
        check_whole(dimension=self.dimension)
        check_damping(self.damping)

    def fitted(
        self, module: nn.Module, examples: Examples, task: Task, blocks: list[Block], weight_decay: float
    ) -> Fitted:
        """Return what scores queries, from the file that is there or from one pass over the training data."""
        found = _Projected(module, examples, task, blocks)
        found.projection = Projection(blocks, self.projection, self.dimension, self.seed)
        found.store, path = self._stored(found, module, blocks)
        notes: tuple[str, ...] = (f"projected to {found.projection.dimension} numbers ({self.projection})",)
        notes += (f"gradients of an earlier fit reused: {path}",) if path else ()
        facts: dict[str, Any] = {"unit": "dot product of projected gradients"}
        if self.curvature:
            fisher, count = _fisher(found.store)
            if not count:
                raise ValueError(f"None of {len(found.store.ids)} training examples has finite gradients.")
            damping = chosen_damping(self.damping, weight_decay, float(fisher.diagonal().mean()))
            fisher.diagonal().add_(weight_decay + damping)
            found.factor, wrong = torch.linalg.cholesky_ex(fisher)
            if wrong:
                raise ValueError(
                    f"`damping={self.damping!r}`, weight decay {weight_decay:g}: the Fisher matrix of {count} examples "
                    f"in {len(fisher)} dimensions has no inverse. Set a larger `damping`, or `curvature=False`."
                )
            found.total = count
            facts = {"unit": "change of the query's loss if the example is removed", "curvature": "empirical fisher"}
            facts |= {"damping": damping, "weight_decay": weight_decay, "examples": count}
        unit = facts.pop("unit")
        found.approximation = stated(self, module, blocks, unit, seed=self.seed, notes=notes, **facts)
        return found

    def _stored(self, fitted: _Projected, module: nn.Module, blocks: list[Block]) -> tuple[Store, Path | None]:
        """Return Φ, and the path of a file of it that was there."""
        header: dict[str, Any] = {
            "projection": [self.projection, fitted.projection.dimension, self.seed],
            "layers": [[block.name, *block.shape] for block in blocks],
            "task": type(fitted.task).__qualname__,
            "torch": torch.__version__,  # whose generator draws
        }
        parts = ((fitted.features(batch), ids) for ids, batch in distinct(fitted.examples, fitted.task))
        if self.folder is None:
            return collect(parts, header, 0), None
        key = digest_of(header)[:12]
        header |= {"weights": weights_hash(module), "data": data_hash(fitted.examples)}
        for path in sorted(Path(self.folder).glob(f"gradients-{key}-*.bin")):
            with suppress(ValueError, OSError):  # cut short: it is written anew
                store = read(path)
                if store.header == header:
                    return store, path
        return write(Path(self.folder, f"gradients-{key}-{header['data'][:12]}.bin"), parts, header), None


@dataclass(frozen=True)
class _Kept:
    rows: Tensor


class _Projected(Fitted):
    projection: Projection
    store: Store
    factor: Tensor | None = None
    keeps = True

    def features(self, batch: Any, measure: Measure | None = None) -> Tensor:
        """Return the projected gradients of a batch, ``(B, k)``."""
        return self.projection(self.uses(batches.clone(batch), measure)).detach()

    def gradients(self, batch: Any, measure: Measure | None = None, *, summed: bool = False) -> list[Gradient | None]:
        """Return the projected gradients as those of one block."""
        found = self.features(batch, measure)
        return [found.sum(dim=0, keepdim=True) if summed else found]

    def read(self, source: Examples) -> Iterator[tuple[Tensor, Any]]:
        """Yield the examples of the fit as their rows in the file, and others as they are."""
        if source is not self.examples:
            return source.batches()
        return ((ids, _Kept(rows)) for ids, rows in self.store.chunks())

    def stream(
        self, queries: list[Gradient | None], examples: Iterable[tuple[Tensor, Any]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        solved = self._solved(queries[0])
        for ids, batch in examples:
            rows = batch.rows if isinstance(batch, _Kept) else self.features(batch)
            yield ids, solved @ rows.to(solved).T

    def self_influence(self, examples: Any = None) -> tuple[Tensor, Tensor]:
        """Return the ids and each example's influence on its own loss, from the file where it is in it."""
        if examples is not None:
            return super().self_influence(examples)
        found = [self._own(rows) for _, rows in self.store.chunks()]
        return self.store.ids.clone(), torch.cat(found) / self.total

    def own(self, batch: Any) -> Tensor:
        return self._own(batch.rows if isinstance(batch, _Kept) else self.features(batch))

    def _own(self, rows: Tensor) -> Tensor:
        return (rows * self._solved(rows)).sum(dim=1)

    def _solved(self, rows: Any) -> Tensor:
        assert isinstance(rows, Tensor)
        if self.factor is None:
            return rows
        return torch.cholesky_solve(rows.to(self.factor).T, self.factor).T.to(rows)


def _fisher(store: Store) -> tuple[Tensor, int]:
    """Return Φᵀ Φ / n in double precision and n; rows that are not finite are left out."""
    total, count = torch.zeros(store.rows.shape[1], store.rows.shape[1], dtype=torch.float64), 0
    for _, rows in store.chunks():
        finite = rows[rows.isfinite().all(dim=1)].double()
        total.addmm_(finite.T, finite)
        count += len(finite)
    return total / max(1, count), count
