"""EK-FAC influence: curvature of every layer, in the eigenbasis of its Kronecker factors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.functional.influence.blocks import Block, Gradient, Outer
from lightning_interpret.functional.influence.ekfac import (
    WIDEST,
    Curvature,
    KroneckerCurvature,
    LowRank,
    curvature_of,
    trimmed,
)
from lightning_interpret.functional.influence.gradients import Uses
from lightning_interpret.functional.influence.solvers import check_damping, chosen_damping
from lightning_interpret.methods.examples import Examples
from lightning_interpret.methods.influence.base import Fitted, InfluenceMethod, Measure, stated
from lightning_interpret.methods.influence.roots import (
    DRAWN,
    RootGradients,
    check_samples,
    chosen_samples,
    curvature_notes,
)
from lightning_interpret.methods.influence.solved import UNIT
from lightning_interpret.names import check_whole
from lightning_interpret.tasks import Task, batches


@dataclass(frozen=True)
class EkfacInfluence(InfluenceMethod):
    """Influence ∇mᵀ (F + λ)⁻¹ ∇ℓ / n with F the EK-FAC of the generalised Gauss-Newton matrix (Grosse et al., 2023).

    Two passes over the training data measure F (:mod:`lightning_interpret.functional.influence.ekfac`): linear maps in
    the eigenvectors of their two Kronecker factors, embeddings too (of which the one factor is a diagonal), all else as
    a diagonal. Between layers F is zero. It is of the mean training loss, on one scale with the exact matrix.

    Args:
        damping: λ; ``None`` for 0 where there is weight decay, else 0.1 × the mean of F's eigenvalues, layer by layer.
        label_samples: Labels drawn for each example (the true Fisher), of several places at each; ``"all"`` for every
            class, exactly; ``None`` for all where that takes at most four backward passes (two classes take one),
            else four draws.
        factor_examples: Training examples, spread evenly, that F is measured on; ``None`` for all.
        corrected: Whether the eigenvalues are measured (EK-FAC), in a second pass; else products (K-FAC).
        query_rank: Rank that preconditioned queries are cut to in linear layers: scores are then approximations. Saves
            memory, and time where rank × tokens is less than a layer's width.
        layers: ``"all"``, ``"last"``, or names of modules.
        seed: Seed of the labels drawn, and of the low rank.
    """

    name: ClassVar[str] = "ekfac"
    damping: float | None = None
    label_samples: int | Literal["all"] | None = None
    factor_examples: int | None = None
    corrected: bool = True
    query_rank: int | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that are none."""
        super().__post_init__()
        check_damping(self.damping)
        check_samples(self.label_samples)
        for option in ("factor_examples", "query_rank"):
            if (value := getattr(self, option)) is not None:
                check_whole(**{option: value})

    @property
    def whole_only(self) -> str | None:
        """Why its scores are no means over the tokens of an example, and what to use instead; None where they are."""
        if self.query_rank is None:
            return None
        return f"a gradient cut to rank {self.query_rank} is no mean over tokens: leave `query_rank` out"

    def fitted(
        self, module: nn.Module, examples: Examples, task: Task, blocks: list[Block], weight_decay: float
    ) -> Fitted:
        """Return what scores queries, the curvature measured."""
        found = _Ekfac(module, examples, task, blocks)
        found.curvatures = {id(block): curvature_of(block) for block in blocks}
        found.rank, found.seed = self.query_rank, self.seed
        samples = chosen_samples(self.label_samples, module, examples, task, DRAWN)
        data = RootGradients(module, examples, task, blocks, self.factor_examples, samples, self.seed)
        for roots in data:
            for uses in zip(*roots, strict=True):
                found.curvatures[id(uses[0].block)].gather(uses)
        found.total = len(data.ids) - data.skipped
        if not data.examples:
            raise ValueError(f"None of {data.skipped} training examples has finite gradients.")
        every = found.curvatures.values()
        unmeasured = [each for each in every if each.diagonalise(data.examples, corrected=self.corrected)]
        for roots in data if unmeasured else ():
            for uses in zip(*roots, strict=True):
                found.curvatures[id(uses[0].block)].measure(uses)
        for each in unmeasured:
            each.close(data.examples)
        means = {key: float(each.values.mean()) for key, each in found.curvatures.items()}
        found.dampings = {key: chosen_damping(self.damping, weight_decay, mean) for key, mean in means.items()}
        whole = sum(block.numel for block in blocks)
        found.approximation = stated(
            self,
            module,
            blocks,
            UNIT,
            damping=sum(found.dampings[id(block)] * block.numel / whole for block in blocks),
            weight_decay=weight_decay,
            curvature="ggn" if samples is None else "fisher",
            samples=samples,
            seed=None if samples is None and self.query_rank is None else self.seed,
            examples=data.examples,
            notes=(*self._notes(found, data, weight_decay), *curvature_notes(module, examples, task)),
        )
        found.dampings = {key: value + weight_decay for key, value in found.dampings.items()}
        return found

    def _notes(self, found: _Ekfac, data: RootGradients, weight_decay: float) -> tuple[str, ...]:
        notes = [] if self.corrected else ["K-FAC: the eigenvalues are products of the factors', not measured"]
        if self.damping is None and weight_decay == 0:
            least, most = min(found.dampings.values()), max(found.dampings.values())
            notes.append(f"damping of each layer is 0.1 × its mean eigenvalue, from {least:.3g} to {most:.3g}")
        if data.examples < found.total:
            notes.append(f"curvature from {data.examples} of {found.total} training examples, spread evenly")
        if data.skipped:
            notes.append(f"{data.skipped} training examples left out of the curvature, as theirs is not finite")
        kinds = {block.name: found.curvatures[id(block)] for block in found.blocks}
        if diagonal := [name for name, each in kinds.items() if not isinstance(each, KroneckerCurvature)]:
            notes.append(f"diagonal curvature in {_listed(diagonal)}")
        if wide := [name for name, each in kinds.items() if isinstance(each, KroneckerCurvature) and each.wide]:
            notes.append(f"own axes on sides of more than {WIDEST} features, in {_listed(wide)}")
        if self.query_rank is not None:
            notes.append(f"preconditioned queries cut to rank {self.query_rank}")
        return tuple(notes)


class _Ekfac(Fitted):
    """Scores with curvatures and dampings by the id of their block."""

    curvatures: dict[int, Curvature]
    dampings: dict[int, float]
    rank: int | None
    seed: int

    def stream(
        self, queries: list[Gradient | None], examples: Iterable[tuple[Tensor, Any]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        mine = list(queries)
        del queries  # if the caller has let go of them too, a layer's raw gradients go before the next one's are made
        ready = {id(block): query for block in self.blocks if (query := self._ready(block, mine.pop(0))) is not None}
        for ids, batch in examples:
            met = [(each, ready[id(each.block)]) for each in self.uses(batches.clone(batch)) if id(each.block) in ready]
            scores = [query.scores(use) if isinstance(query, LowRank) else use.scores(query) for use, query in met]
            yield ids, torch.stack(scores).sum(dim=0)

    def own(self, batch: Any) -> Tensor:
        found = [self.curvatures[id(each.block)].own(each, self.dampings[id(each.block)]) for each in self.uses(batch)]
        return torch.stack(found).sum(dim=0)

    def uses(self, batch: Any, measure: Measure | None = None) -> list[Uses]:
        return [trimmed(each) for each in super().uses(batch, measure)]

    def _ready(self, block: Block, gradient: Gradient | None) -> Gradient | LowRank | None:
        if gradient is None:
            return None
        ready = self.curvatures[id(block)].preconditioned(gradient, self.dampings[id(block)])
        if self.rank is None or not isinstance(block, Outer) or self.rank >= min(block.shape):
            return ready
        assert isinstance(ready, Tensor)
        return LowRank.of(ready, self.rank, self.seed)


def _listed(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} layers: {names[0]}, {names[1]}, ..."
