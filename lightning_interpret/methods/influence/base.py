"""What influence methods share: options in a frozen dataclass, a fit on the training data, and scores of queries.

One sign everywhere: positive is helpful, removing the example would raise what is measured at the query. To first order
the removal of example t changes a measure m of the parameters by ∇mᵀ H⁻¹ ∇ℓ_t / n (Koh and Liang, 2017, equation 2,
with the sign of a removal), H the Hessian of the mean training loss.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.evidence import Approximation, Influence, InfluenceRow, TrainingExample
from lightning_interpret.functional.influence import trial
from lightning_interpret.functional.influence.blocks import Block, Gradient, coverage, find_blocks, uncovered
from lightning_interpret.functional.influence.checkpoints import Checkpoints
from lightning_interpret.functional.influence.gradients import Uses, recording
from lightning_interpret.functional.influence.optimizers import Optimizers
from lightning_interpret.functional.influence.saliency import parameter_gradients
from lightning_interpret.functional.influence.top import TopK
from lightning_interpret.functional.scope import explaining
from lightning_interpret.functional.trace import last_called
from lightning_interpret.methods.describe import described, told
from lightning_interpret.methods.examples import Examples, examples_of, parts_of
from lightning_interpret.methods.influence import tokens
from lightning_interpret.methods.influence.queries import finite_queries, joined, summed
from lightning_interpret.names import check_seed, choose
from lightning_interpret.tasks import Task, batches

INFLUENCE: dict[str, type[InfluenceMethod]] = {}

Measure = Callable[[nn.Module, Any], Tensor]
"""What is measured at each query, (module, batch) → ``(M,)``; by default its loss."""


class SecondOrder(ABC):
    """A measure that is made of gradients, such as a saliency: its own gradient is asked of the weights, not of hooks.

    It may have any number of values M, in the order of the scores.
    """

    @abstractmethod
    def __call__(self, module: nn.Module, batch: Any) -> Tensor:
        """Return what is measured, ``(M,)``, with its graph."""


@dataclass(frozen=True, kw_only=True)
class InfluenceMethod(ABC):
    """A way to say which training examples a prediction comes from, with its options.

    Args:
        layers: ``"all"``, ``"last"`` (the last linear layer that is used), or names of modules.
        seed: Seed of what is drawn.
    """

    name: ClassVar[str]
    of_loss: ClassVar[bool] = True  # whether its scores are of the query's loss, where nothing else is asked for
    scalars: ClassVar[tuple[str, ...]] = ()  # names of what :meth:`Fitted.scalars` may tell

    layers: str | Sequence[str] = "all"
    seed: int = 0

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in vars(cls):
            INFLUENCE[cls.name] = cls

    def __post_init__(self) -> None:
        """Refuse options that are out of their range; the message names them."""
        check_seed(self.seed)
        if not self.layers:
            raise ValueError(f"`layers={self.layers!r}` names no layer: give 'all', 'last', or names of modules.")

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
        """Return what is ready to score queries: curvature measured, training gradients stored, or nothing at all.

        The module is left as it was. What comes back holds on to it, and is right while its weights are what they are.

        Args:
            module: The module, trained as far as it is.
            examples: The training data: :class:`Examples`, or a loader whose batches carry ``example_id``.
            task: How module and batches are read.
            weight_decay: Coefficient λ of λ/2 ‖θ‖² in the mean training loss, which the curvature contains.
            optimizer: The run's optimizer, or a list of them: for what is read from a live one.
            checkpoints: Those that the run has written, or what finds them: for a method that goes through them and was
                not given others.

        Raises:
            ValueError: If a layer does not exist, the data carry no ids or cannot be gone through again, or the weight
                decay is negative.
        """
        if not (isfinite(weight_decay) and weight_decay >= 0):
            raise ValueError(f"`weight_decay={weight_decay!r}` must be a number of at least 0.")
        with explaining(module, full_precision=True):
            source = examples_of(examples, task, module)
            found = self.fitted(module, source, task, self.covered(module, source, task), weight_decay)
            found.whole_only = self.whole_only
            self.take_from_run(found, module, optimizer, checkpoints)
            return found

    @abstractmethod
    def fitted(
        self, module: nn.Module, examples: Examples, task: Task, blocks: list[Block], weight_decay: float
    ) -> Fitted:
        """Return what is ready to score queries; called inside the explaining scope."""

    def covered(self, module: nn.Module, examples: Examples, task: Task) -> list[Block]:
        """Return the blocks whose parameters the scores are of; called inside the explaining scope."""
        return find_used(module, examples, task, self.layers)

    def take_from_run(  # noqa: B027
        self, fitted: Fitted, module: nn.Module, optimizer: Optimizers | None, checkpoints: Checkpoints
    ) -> None:
        """Give what is fitted what it needs of the run (by default nothing); called inside the explaining scope."""

    @property
    def whole_only(self) -> str | None:
        """Why its scores are no means over the tokens of an example, and what to use instead; None where they are."""
        return None

    def check(self, module: nn.Module, task: Task) -> None:  # noqa: B027
        """Raise for what no data could serve, so that a Monitor says it before training starts."""


class Fitted(ABC):
    """An influence method that is ready to score queries.

    Attributes:
        approximation: What the scores are, as each record says it.
        total: Training examples n that a score is divided by; 1 where a score has no such unit.
        keeps: Whether what was read for the fit is kept, so that :meth:`read` calls the module no more for it.
        ends: 2, or 1 where a small score means nothing: of a similarity no example is harmful, and the foremost are the
            nearest.
        reads: What it reads of an example and of a query.
        whole_only: Why scores cannot be taken apart by token; None where they can.
    """

    approximation: Approximation
    total: int = 1
    keeps: bool = False
    ends: Literal[1, 2] = 2
    reads: str = "gradient"
    whole_only: str | None = None

    def __init__(self, module: nn.Module, examples: Examples, task: Task, blocks: Sequence[Block]) -> None:
        self.module, self.examples, self.task, self.blocks = module, examples, task, list(blocks)

    @abstractmethod
    def stream(
        self, queries: list[Gradient | None], examples: Iterable[tuple[Tensor, Any]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ids ``(B,)`` and scores ``(M, B)`` of training examples, for the queries' gradients in each block."""

    def scores(
        self,
        queries: Any,
        k: int = 5,
        *,
        aggregate: bool | Literal["also"] = False,
        measure: Measure | None = None,
        examples: Any = None,
        details: bool = True,
        per_token: bool = False,
    ) -> Influence:
        """Return for each query the k most helpful and the k most harmful training examples.

        Args:
            queries: A batch; for several, a loader or an iterator over them.
            k: How many of each; of fewer examples, all.
            aggregate: Whether to score the sum of all queries as one: which examples help or harm the set; ``"also"``
                for a last row of it after those of the queries, from the same pass.
            measure: What is measured at a query; by default its loss.
            examples: Training examples to score; by default those of the fit.
            details: Whether to say text, labels, prediction and loss of the examples found.
            per_token: Whether to say the same of each token of the queries' outputs (of each word that is tagged), and
                of the examples found which of their own tokens their scores come from. A token costs the memory of a
                query, and the examples found another pass.

        Raises:
            ValueError: If ``k`` is no positive number, there is no query, or ``per_token`` is asked of what has no
                tokens.
        """
        top = TopK(k)
        if per_token:
            self._by_token(aggregate, measure)
        source = self.examples if examples is None else examples_of(examples, self.task, self.module)
        with explaining(self.module, full_precision=True):
            rows: list[dict[str, Any]] = []
            gradients: list[Gradient | None] = []
            taken: tokens.Asked | None = None
            parts = parts_of(queries)
            for batch in map(batches.clone, parts):
                facts, found = self.asked(batch, measure, summed=aggregate is True)
                if gradients:
                    found = joined(gradients, found, add=aggregate is True)
                gradients = found
                if per_token:
                    own = tokens.asked(self, batch, len(rows))
                    taken = own if taken is None else taken.then(own)
                rows += facts
            if not rows:
                raise ValueError("There are no `queries`: the iterator or loader yielded no batch.")
            gradients, finite = finite_queries(gradients)
            if aggregate == "also":
                gradients = joined(gradients, summed(gradients), add=False)
            kept, count = [], len(rows) + (aggregate == "also") if aggregate is not True else 1
            if taken is not None:
                kept = gradients = joined(gradients, taken.gradients, add=False)
            scored = self.stream(gradients, self.read(source))
            del gradients, found  # many queries of a large model: what is streamed may let go of them one by one
            for ids, scores in scored:
                top.update(ids, scores / self.total)
            ends = [top.found(largest=largest) for largest in (True, False)]
            if self.ends == 1:
                ends[1] = [[] for _ in ends[0]]
            shown = {i for end in ends for row in end for i, _ in row} if details else set()
            known = told(self.module, source, self.task, shown)
            listed = {i for end in ends for row in end[:count] for i, _ in row}
            pieces = {} if taken is None or self.reads != "gradient" else tokens.apart(self, kept, source, listed)
        whole = {"why": f"the sum of {len(rows)} queries", "queries": len(rows)}
        rows = [*(rows if aggregate is not True else ()), *([whole] if aggregate else ())]
        for row, good in zip(rows, finite, strict=False):
            if not good:
                row["reasons"] = {"influence": f"the query's {self.reads} is not finite"}
        if top.left_out:
            named = f"skipped, as their {self.reads}s are not finite: {', '.join(map(str, top.left_out))}"
            rows = [row | {"notes": (*row.get("notes", ()), named)} for row in rows]
        found_rows = [
            InfluenceRow(
                approximation=self.approximation.of(row.pop("measure", self.approximation.measure)),
                **row,
                helpful=_examples(helpful, known),
                harmful=_examples(harmful, known),
                examples=top.examples,
                skipped=top.skipped,
            )
            for row, helpful, harmful in zip(rows, *(end[:count] for end in ends), strict=True)
        ]
        if taken is not None:
            found_rows = tokens.put(found_rows, taken, [end[count:] for end in ends], known, pieces)
        return Influence(tuple(found_rows))

    def _by_token(self, aggregate: bool | str, measure: Measure | None) -> None:
        if self.whole_only is not None:
            raise ValueError(f"`per_token=True`, but {self.whole_only}.")
        if aggregate is True or measure is not None:
            raise ValueError("`per_token=True` takes apart the loss of each query: leave out `aggregate`, `measure`.")

    def matrix(self, queries: Any, measure: Measure | None = None, examples: Any = None) -> tuple[Tensor, Tensor]:
        """Return the ids ``(n,)`` and all scores ``(M, n)``: for small training sets, as it holds them all.

        Args:
            queries: A batch.
            measure: What is measured at a query; by default its loss.
            examples: Training examples; by default those of the fit.
        """
        with explaining(self.module, full_precision=True):
            source = self.examples if examples is None else examples_of(examples, self.task, self.module)
            found = list(self.stream(self.gradients(batches.clone(queries), measure), self.read(source)))
        return torch.cat([ids for ids, _ in found]), torch.cat([scores for _, scores in found], dim=1) / self.total

    def self_influence(self, examples: Any = None) -> tuple[Tensor, Tensor]:
        """Return the ids ``(n,)`` and each example's influence on its own loss ``(n,)``.

        Args:
            examples: Training examples; by default those of the fit.
        """
        with explaining(self.module, full_precision=True):
            source = self.examples if examples is None else examples_of(examples, self.task, self.module)
            found = [(ids, self.own(batches.clone(batch))) for ids, batch in self.read(source)]
        return torch.cat([ids for ids, _ in found]), torch.cat([scores for _, scores in found]) / self.total

    def scalars(self) -> Mapping[str, tuple[float, int]]:
        """Return other means over the examples that :meth:`self_influence` went through, and of how many each is."""
        return {}

    def read(self, source: Examples) -> Iterator[tuple[Tensor, Any]]:
        """Yield examples as :meth:`stream` and :meth:`own` take them; a method may have kept those of the fit."""
        return source.batches()

    @abstractmethod
    def own(self, batch: Any) -> Tensor:
        """Return the score of each example of a batch on itself, ``(B,)``."""

    def asked(
        self, batch: Any, measure: Measure | None = None, *, summed: bool = False
    ) -> tuple[list[dict[str, Any]], list[Gradient | None]]:
        """Return what the record of each query in a batch says of it, nothing of a sum, and :meth:`gradients`.

        By default an example is a query; ``measure`` among the facts is a row's own.
        """
        found = self.gradients(batch, measure, summed=summed)
        return [{}] * batches.batch_size(batch) if summed else described(self.module, batch, self.task), found

    def gradients(self, batch: Any, measure: Measure | None = None, *, summed: bool = False) -> list[Gradient | None]:
        """Return the gradients of a batch in each block: one for each example, or one of their sum; None of no use."""
        if isinstance(measure, SecondOrder):
            batch = batches.to_full_precision(batch)
            return [*parameter_gradients(lambda: measure(self.module, batch), self.blocks, summed=summed)]
        found = {id(each.block): each.summed() if summed else each.gradient() for each in self.uses(batch, measure)}
        return [found.get(id(block)) for block in self.blocks]

    def uses(self, batch: Any, measure: Measure | None = None) -> list[Uses]:
        """Return what each block read and the gradients at what it returned, of what is measured at each example.

        Raises:
            ValueError: If the measure is made of gradients: these two do not make its own.
        """
        if isinstance(measure, SecondOrder):
            raise ValueError(
                f"{self.approximation.method!r} reads gradients by what layers read and return, and a measure that is "
                "made of gradients has others: use 'exact', 'conjugate_gradient', 'ekfac', 'gradient_similarity' or "
                "'tracin'."
            )
        batch = batches.to_full_precision(batch)
        if not (size := batches.batch_size(batch)):
            raise ValueError(f"A batch ({type(batch).__name__}) holds no examples.")
        with recording(self.blocks, size) as record:
            values = self.task.losses(self.module, batch) if measure is None else measure(self.module, batch)
        return record.gradients(values.sum())


def find_used(module: nn.Module, examples: Examples, task: Task, layers: str | Sequence[str]) -> list[Block]:
    """Return the blocks that ``layers`` names and that a forward of one batch uses, in the order of their first call.

    Blocks whose gradients by hooks would not be right are left out of ``"all"`` with a warning that says why.

    Raises:
        ValueError: If there are none, if one that was named would not be right, or if there is no training example.
    """
    blocks = find_blocks(module, "all" if layers == "last" else layers)
    batch = next((batch for _, batch in examples.batches()), None)
    if batch is None:
        raise ValueError("The training data have no examples.")
    batch = batches.to_full_precision(batch)
    size = batches.batch_size(batch)

    def losses(count: int) -> Tensor:
        return task.losses(module, task.take(batches.clone(batch), torch.arange(count) % size))

    used, left = trial.settle(blocks, losses)
    if layers == "last":
        parts = [part for block in used for part in block.parts if isinstance(part.module, nn.Linear)]
        last = last_called({part.path: part.module for part in parts}, lambda: losses(2))
        used, left = [block for block in used if last in {part.path for part in block.parts}], {}
    left |= trial.check(used, losses) if used else {}
    if left and layers != "all":
        reasons = "; ".join(f"{name!r}: {reason}" for name, reason in left.items())
        raise ValueError(f"`layers={layers!r}`: influence cannot cover {reasons}. Name other layers.")
    if left:
        warnings.warn(f"Influence leaves out {'; '.join(f'{n!r}: {why}' for n, why in left.items())}.", stacklevel=2)
    used = [block for block in used if block.name not in left]
    if not used:
        raise ValueError(f"`layers={layers!r}`: none of these layers is used when the model is called: name others.")
    return used


def stated(
    method: InfluenceMethod, module: nn.Module, blocks: Sequence[Block], unit: str, **facts: Any
) -> Approximation:
    """Return what a record has to say of a method's scores."""
    layers, share, missing = tuple(block.name for block in blocks), coverage(module, blocks), uncovered(module, blocks)
    if missing and method.layers == "all":
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        facts["notes"] = (*facts.get("notes", ()), f"not covered: {', '.join(missing[:5])}{more}")
    return Approximation(method.name, unit, layers=layers, coverage=share, **facts)


def influence_named(method: str | InfluenceMethod, **options: Any) -> InfluenceMethod:
    """Return a method by its name, with options; a method that is one already stays as it is."""
    if isinstance(method, InfluenceMethod):
        return method
    return INFLUENCE[choose("method", method, INFLUENCE)](**options)


def _examples(found: list[tuple[int, float]], known: dict[int, dict[str, Any]]) -> tuple[TrainingExample, ...]:
    return tuple(TrainingExample(i, score=score, **known.get(i, {})) for i, score in found)
