"""Turn-over dropout: what a query loses when it is read by the part of the network that never learnt an example."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.evidence import Approximation, Influence
from lightning_interpret.functional.influence.blocks import Block
from lightning_interpret.functional.influence.top import TopK
from lightning_interpret.functional.prefix import prefix_of
from lightning_interpret.layers.turn_over_dropout import TurnOverDropout
from lightning_interpret.methods.examples import Examples, Whole, id_batches, in_time
from lightning_interpret.methods.influence.base import Fitted, InfluenceMethod, Measure, SecondOrder
from lightning_interpret.methods.influence.feature_similarity import FeatureSimilarity
from lightning_interpret.methods.influence.masked_forwards import ELEMENTS, MaskedForwards, only_head, points
from lightning_interpret.methods.influence.queries import Asked
from lightning_interpret.methods.influence.seen_unseen import SeenUnseen
from lightning_interpret.names import check_whole
from lightning_interpret.tasks import Task, batches

NEAREST = 1000  # examples whose masks are read for a query, where each costs a forward through most of the model


@dataclass(frozen=True, kw_only=True)
class TurnOverDropoutInfluence(InfluenceMethod):
    """Loss of a query under the flipped mask of a training example less its loss under the mask itself.

    I(z, x) = ℓ(x; 1 − m(z)) − ℓ(x; m(z)) (Kobayashi et al., 2020, equation 6 with their sign of help): what the part of
    the network that has not learnt z loses on x against the part that has. For a module that was trained with
    ``TurnOverDropoutMixin``. No gradient, no curvature, nothing to fit, no division by the number of examples: a score
    is a loss. It is exact: fast ways to read it are taken where two masks show them to be what a forward a pair is.

    Masks are functions of ids, so that no training example is read for the scores. Where each mask costs a forward
    through much of the model, only the masks of a query's nearest examples are read, which takes one pass over the
    training data for their features.

    Args:
        shortlist: Of how many training examples, the nearest to each query in the features of the last linear layer,
            the masks are read; ``"all"`` for all; ``None`` for all where masks act on one vector an example (in a head,
            in a perceptron), else for 1,000. Of several queries as one, those nearest to their mean.
        layers: Not used: the layers are those that the mixin masks.
        seed: Not used: nothing is drawn, and the masks' seed is the module's.

    Raises:
        ValueError: If ``shortlist`` is no positive number or ``layers`` names some; in ``fit``, if the module has no
            turn-over dropout, or it was trained with plain dropout in its place; when queries are scored, for a
            ``measure`` that is made of gradients.
    """

    name: ClassVar[str] = "turn_over_dropout"
    scalars: ClassVar[tuple[str, ...]] = SeenUnseen.names
    shortlist: int | Literal["all"] | None = None

    def __post_init__(self) -> None:
        """Refuse layers, and a shortlist of none."""
        super().__post_init__()
        if self.layers != "all":
            raise ValueError(
                f"`layers={self.layers!r}`: 'turn_over_dropout' reads the layers that the module masks: leave it out."
            )
        if self.shortlist not in (None, "all"):
            check_whole(shortlist=self.shortlist)

    @property
    def whole_only(self) -> str | None:
        """Why its scores are no means over the tokens of an example, and what to use instead; None where they are."""
        return (
            None if self.shortlist == "all" else "each token would have a shortlist of its own: set `shortlist='all'`"
        )

    def check(self, module: nn.Module, task: Task) -> None:
        """Raise for a module without turn-over dropout."""
        dropout_of(module)

    def covered(self, module: nn.Module, examples: Examples, task: Task) -> list[Block]:
        """Return none: no parameter has a part."""
        return []

    def fitted(
        self, module: nn.Module, examples: Examples, task: Task, blocks: list[Block], weight_decay: float
    ) -> Fitted:
        """Return what scores queries: there is nothing to measure first, but for a shortlist the training features."""
        dropout = dropout_of(module)
        ids, batch = next(examples.batches(), (None, None))
        if ids is None:
            raise ValueError("The training data have no examples.")
        known = task.example_ids(batch)
        if known is not None and ids.tolist() != list(known):
            raise ValueError(
                f"The training data are known by other ids ({int(ids[0])}, ...) than the `example_id` of their batches "
                f"({known[0]}, ...), of which the masks were made in training: leave `id_column` out."
            )
        few = task.take(batches.clone(batches.to_full_precision(batch)), torch.arange(min(2, len(ids))))
        reached = prefix_of(module, points(module, dropout), lambda: task.logits(module, few))[1].values
        if not reached:
            raise ValueError(
                f"None of the layers that are masked ({', '.join(dropout.sites) or 'none'}) is used when the model is "
                "called: name others, `turn_over_layers=`, and train anew."
            )
        long = any(value.dim() > 2 for value in reached.values()) and only_head(module, dropout, reached) is None
        count = (NEAREST if long else "all") if self.shortlist is None else self.shortlist
        return _TurnOver(module, examples, task, dropout, None if count == "all" else int(count))


def dropout_of(module: nn.Module) -> TurnOverDropout:
    """Return the turn-over dropout of a module.

    Raises:
        ValueError: If it has none, or it stood for plain dropout.
    """
    found = next((part for part in module.modules() if isinstance(part, TurnOverDropout)), None)
    if found is None:
        raise ValueError(
            f"{type(module).__name__} was not trained with turn-over dropout, which `method='turn_over_dropout'` "
            "reads: derive its class from the mixin, `class Model(TurnOverDropoutMixin, ...)`, and train it, or use "
            "another method."
        )
    if found.plain:
        raise ValueError(
            f"The masks of {type(module).__name__} are drawn anew at each step (`plain`), as by plain dropout: there "
            "is no part of it that has not learnt an example."
        )
    return found


class _TurnOver(Fitted):
    reads = "value"

    def __init__(
        self, module: nn.Module, examples: Examples, task: Task, dropout: TurnOverDropout, count: int | None
    ) -> None:
        super().__init__(module, examples, task, [])
        self.dropout, self.count, self.tally = dropout, count, SeenUnseen()
        self.near = None if count is None else FeatureSimilarity(similarity="euclidean").fit(module, examples, task)
        self._counts: tuple[int, int, list[int]] | None = None
        self.approximation = Approximation(
            TurnOverDropoutInfluence.name,
            "query's loss in the part of the network that has not learnt the example, less that in the part that has",
            seed=dropout.seed,
            notes=(f"turn-over dropout of {dropout.rate:g} at {', '.join(dropout.sites)}",),
        )

    def gradients(self, batch: Any, measure: Measure | None = None, *, summed: bool = False) -> list[Any]:
        """Return the queries to be run again, and their features where there is a shortlist.

        Raises:
            ValueError: If the measure is made of gradients, or a shortlist cannot be of what is measured.
        """
        if isinstance(measure, SecondOrder):
            raise ValueError(
                "`measure` is made of gradients, and 'turn_over_dropout' reads what a forward says: ask another method."
            )
        batch = batches.to_full_precision(batch)
        if not (size := batches.batch_size(batch)):
            raise ValueError(f"A batch ({type(batch).__name__}) holds no examples.")
        run = self.task.losses if measure is None else measure
        alone = [batch] if self.near is None else [self.task.take(batch, torch.tensor([i])) for i in range(size)]
        parts = [MaskedForwards(self.module, self.dropout, self.task, each, run) for each in alone]
        values = torch.cat([part.values for part in parts])
        weights = torch.eye(len(values), dtype=values.dtype, device=values.device)
        asked = Asked(parts, values, weights.sum(dim=0, keepdim=True) if summed else weights)
        if self.near is None:
            return [asked]
        if len(values) != size:
            raise ValueError(
                f"`measure` has {len(values)} values of {size} queries, and a shortlist is of what is near a query: "
                "measure one value of each, or set `shortlist='all'`."
            )
        return [asked, *self.near.gradients(batch, summed=summed)]

    def read(self, source: Examples) -> Iterator[tuple[Tensor, Any]]:
        """Yield examples; of a data set the ids are enough, where they are known."""
        return Whole(source)

    def stream(self, queries: list[Any], examples: Iterable[tuple[Tensor, Any]]) -> Iterator[tuple[Tensor, Tensor]]:
        asked, self._counts = queries[0], None
        if not isinstance(examples, Whole):
            yield from ((ids, self._scores(asked, ids)) for ids, _ in examples)
            return
        if self.near is not None:
            known = id_batches(examples.source, 2**20)
            if known is None or sum(map(len, known)) > (self.count or 0):
                yield from self._nearest(asked, queries[1], examples.source)
                return
        rows = min(ELEMENTS // max(1, *self._units(asked).values()), *(part.rows for part in asked.parts))
        known = id_batches(examples.source, max(1, rows))
        for ids in _gathered((ids for ids, _ in examples), rows) if known is None else known:
            yield ids, self._scores(asked, ids)

    def _scores(self, asked: Asked, ids: Tensor) -> Tensor:
        """Return the scores of training examples for each query, ``(M, B)``."""
        seen, unseen = self._factors(asked, ids)
        found = torch.cat([part(unseen) - part(seen) for part in asked.parts], dim=1)
        return asked.weights @ found.T.where(asked.values.isfinite()[:, None], 0)

    def _factors(self, asked: Asked, ids: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the factors of each site under the masks of training examples, and under the flipped ones."""
        ids = ids.to(asked.values.device)
        seen = {site: self.dropout.factors(site, ids, size) for site, size in self._units(asked).items()}
        return seen, {site: (each == 0).to(each.dtype) / self.dropout.rate for site, each in seen.items()}

    def _units(self, asked: Asked) -> Mapping[str, int]:
        return asked.parts[0].units

    def _nearest(self, asked: Asked, features: Tensor, source: Examples) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the scores of each query's own nearest examples; 0 for those of other queries."""
        assert self.near is not None
        assert self.count is not None
        top = TopK(self.count)
        for ids, scores in self.near.stream([features], self.near.read(source)):
            top.update(ids, scores)
        lists = [torch.tensor([i for i, _ in row], dtype=torch.long) for row in top.found(largest=True, signed=False)]
        union = torch.cat(lists).unique()
        there = torch.stack([torch.isin(union, each) for each in lists])
        uses = (asked.weights != 0).cpu()
        found = asked.values.new_zeros(len(asked.values), len(union))
        done = torch.zeros(found.shape, dtype=torch.bool)
        for value, ids in in_time(source, _by_nearness(lists, uses, [part.rows for part in asked.parts])):
            seen, unseen = self._factors(asked, ids)
            part, place = asked.parts[value], torch.searchsorted(union, ids)
            found[value, place] = (part(unseen) - part(seen))[:, 0]
            done[value, place] = True
        there &= ~(uses.float() @ (~done).float()).bool()  # of a sum that is not complete nothing is said
        self._counts = top.examples, top.skipped, there.sum(dim=1).tolist()
        some = there.any(dim=0)
        scores = (asked.weights @ found).where(there.to(found.device), 0)
        yield union[some], scores[:, some]

    def scores(self, queries: Any, k: int = 5, **options: Any) -> Influence:
        """Return for each query the k most helpful and the k most harmful training examples; see :class:`Fitted`."""
        found = super().scores(queries, k, **options)
        if self._counts is None:
            return found
        near, skipped, counts = self._counts
        notes = [(f"of {near:,} examples the masks of the {count:,} nearest were read",) for count in counts]
        return Influence(
            tuple(
                replace(row, examples=near, skipped=skipped + row.skipped, notes=(*row.notes, *note))
                for row, note in zip(found, notes, strict=True)
            )
        )

    def own(self, batch: Any) -> Tensor:
        """Return the loss of each example of a batch under its own flipped mask less that under its mask, ``(B,)``.

        Raises:
            ValueError: If the batch carries no ids.
        """
        return self.tally.add(self.module, self.dropout, self.task, batches.to_full_precision(batch))

    def self_influence(self, examples: Any = None) -> tuple[Tensor, Tensor]:
        """Return the ids and each example's influence on its own loss; :meth:`scalars` are of the same examples."""
        self.tally = SeenUnseen()
        found = super().self_influence(examples)
        self.tally.warn()
        return found

    def scalars(self) -> Mapping[str, tuple[float, int]]:
        """Return loss and accuracy on the training examples whose self-influence was read, with their own masks.

        ``unseen_accuracy`` is the honest measure of what the flipped network never learnt: it should be near the
        accuracy on validation data, and by as much as it is above that, labels have leaked through the masks.
        """
        return self.tally.means()


def _gathered(parts: Iterable[Tensor], rows: int) -> Iterator[Tensor]:
    """Yield ids that come in small parts in larger ones: of ``rows`` at least, but for the last."""
    waiting: list[Tensor] = []
    for ids in parts:
        waiting.append(ids)
        if sum(map(len, waiting)) >= rows:
            yield torch.cat(waiting)
            waiting = []
    if waiting:
        yield torch.cat(waiting)


def _by_nearness(lists: Sequence[Tensor], uses: Tensor, rows: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """Yield which value is to be measured for which ids: the nearest of all queries first."""
    needed = []
    for value in range(uses.shape[1]):
        own = [lists[row] for row in uses[:, value].nonzero().flatten().tolist()]
        needed.append(torch.tensor(list(dict.fromkeys(torch.cat(own).tolist())) if own else [], dtype=torch.long))
    step = max(1, min(rows))
    for start in range(0, max(map(len, needed), default=0), step):
        for value, ids in enumerate(needed):
            if len(ids) > start:
                yield value, ids[start : start + step]
