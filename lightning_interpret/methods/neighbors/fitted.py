"""A datastore that is ready to be searched: neighbours of queries, and what they say of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lightning_interpret.evidence import Neighbors, NeighborsRow, TrainingExample
from lightning_interpret.functional.neighbors import labels as says
from lightning_interpret.functional.neighbors.back_off import WEIGHTS
from lightning_interpret.functional.neighbors.search import nearest
from lightning_interpret.functional.scope import explaining
from lightning_interpret.methods.describe import described, labels_of, numbers_of, told
from lightning_interpret.methods.examples import Examples, parts_of
from lightning_interpret.methods.neighbors.calibration import Answers, Calibration, calibrate, mean_of
from lightning_interpret.methods.neighbors.features import Reader
from lightning_interpret.methods.neighbors.index import ExactIndex, FaissIndex
from lightning_interpret.methods.neighbors.saliency import leave_one_out
from lightning_interpret.methods.neighbors.store import Datastore
from lightning_interpret.tasks import Task, batches

if TYPE_CHECKING:
    from lightning_interpret.methods.neighbors.nearest import NearestNeighbors


class FittedNeighbors:
    """A datastore that is ready to be searched; right while the module's weights are what they were.

    Attributes:
        method: The options.
        store: Features, ids and labels.
        calibration: What :meth:`calibrate` found, or ``None``.
        notes: What the reader of a record should know.
    """

    def __init__(
        self,
        method: NearestNeighbors,
        module: nn.Module,
        examples: Examples,
        task: Task,
        reader: Reader,
        store: Datastore,
        index: ExactIndex | FaissIndex,
        notes: Sequence[str] = (),
    ) -> None:
        self.method, self.module, self.examples, self.task = method, module, examples, task
        self.reader, self.store, self.index = reader, store, index
        self.calibration: Calibration | None = None
        zero = store.zero if method.metric == "cosine" else 0
        told = [f"{zero} training examples have features of norm 0, at distance 1 from all"] if zero else []
        told += [f"{store.skipped} training examples left out: features not finite"] if store.skipped else []
        self.notes = (*notes, *([index.note] if index.note else []), *told)

    def find(self, queries: Any, k: int | None = None, *, show: int | None = None, saliency: bool = False) -> Neighbors:
        """Return the nearest training examples of each query, and what they say of it.

        Args:
            queries: A batch; for several, a loader or an iterator over them.
            k: Neighbours that count; by default the method's.
            show: How many of them are listed, with text and labels; by default all.
            saliency: Whether to say how much less the neighbours conform without each token: a search a token.

        Raises:
            ValueError: If ``k`` is no positive whole number, or ``saliency`` is asked of what has no tokens.
        """
        with explaining(self.module):
            rows: list[dict[str, Any]] = []
            listed: list[list[tuple[int, float]]] = []
            for batch in map(batches.clone, parts_of(queries)):
                answers = self.answers(batch, k)
                found = self._rows(described(self.module, batch, self.task), answers, k)
                if saliency:
                    for row, (tokens, scores) in zip(found, leave_one_out(self, batch, answers, k), strict=True):
                        row.update(tokens=tokens, scores=scores)
                rows += found
                listed += [
                    [(int(place), distance) for place, distance in zip(*pair, strict=True) if distance < torch.inf]
                    for pair in zip(
                        answers.places[:, :show].tolist(), answers.distances[:, :show].tolist(), strict=True
                    )
                ]
            known = self._told({place for each in listed for place, _ in each})
        return Neighbors(
            tuple(
                NeighborsRow(**row, neighbors=tuple(TrainingExample(distance=d, **known[place]) for place, d in each))
                for row, each in zip(rows, listed, strict=True)
            )
        )

    def answers(self, batch: Any, k: int | None = None) -> Answers:
        """Return what model and neighbours say of a batch; called inside the explaining scope."""
        logits, features = self.reader.read(batch)
        usable = features.isfinite().all(dim=1)
        distances, places = self.index.search(
            features.masked_fill(~usable[:, None], 0.0), self.method.k if k is None else k
        )
        distances = distances.masked_fill(~usable[:, None], torch.inf)
        labels = self.store.labels[places.clamp(min=0).cpu()].to(places.device).masked_fill(distances.isinf(), -1)
        known = self.task.log_probabilities(logits) if self.classes else None
        return Answers(
            probabilities=logits.new_zeros(len(features), 0) if known is None else known.exp(),
            distances=distances,
            places=places,
            labels=labels,
            gold=labels_of(self.task, batch, len(self.classes)).to(features.device),
            usable=usable,
            numbers=self._numbers(logits, batch, distances, places),
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that neighbours vote for; none where an example has not one class."""
        return self.store.classes if self.store.numbers is None else ()

    def _numbers(self, logits: Tensor, batch: Any, distances: Tensor, places: Tensor) -> Tensor | None:
        """Return the model's numbers, the neighbours' mean and the gold ones, double ``(B, 3, C)``, on the CPU."""
        if self.store.numbers is None:
            return None
        model = (logits.sigmoid() if self.task.numbers == "labels" else logits).cpu().double()
        near = self.store.numbers[places.clamp(min=0).cpu()]
        near = near.masked_fill(distances.cpu().isinf()[..., None], torch.nan)
        gold = numbers_of(self.task, batch)
        gold = torch.full_like(model, torch.nan) if gold is None else gold.to(model)
        return torch.stack([model, near.nanmean(dim=1), gold], dim=1)

    def calibrate(self, queries: Any, *, weights: Sequence[float] = WEIGHTS, ks: Sequence[int] = ()) -> Calibration:
        """Choose the back-off by held-out examples, and learn how far such examples conform; :meth:`find` uses it.

        Args:
            queries: A held-out batch with labels; for several, a loader or an iterator. None of the training data.
            weights: Values of λ, the weight of p_kNN where it is asked, to choose from.
            ks: Numbers of neighbours to choose from; by default the method's.

        Raises:
            ValueError: If no held-out example has a label, or the model has no classes.
        """
        k = max((self.method.k, *ks))
        with explaining(self.module):
            found = [self.answers(batches.clone(batch), k) for batch in parts_of(queries)]
        self.calibration = calibrate(
            Answers.joined(found),
            self.method.k,
            self.method.metric,
            temperature=self.method.temperature,
            weights=weights,
            ks=ks,
        )
        return self.calibration

    def knn(self, answers: Answers) -> Tensor:
        """Return p_kNN ``(B, C)``, at the temperature of the calibration where there is one."""
        classes, distances = len(self.classes), answers.weighed(self.method.metric)
        if self.calibration is not None:
            return self.calibration.back_off.knn(distances, answers.labels, classes)
        return says.knn_probabilities(distances, answers.labels, classes, self.temperature)

    def credibility(self, answers: Answers) -> Tensor | None:
        """Return the credibility of the model's class ``(B,)``; None without a calibration of as many neighbours."""
        known = self.calibration
        if known is None or answers.labels.shape[1] != min(known.k, len(self.store)):
            return None
        return says.credibility(says.conformity(answers.labels, answers.predicted), known.conformities)

    @cached_property
    def temperature(self) -> float:
        """T without a calibration: the option, or the mean distance of training examples to their neighbours."""
        if self.method.temperature is not None:
            return self.method.temperature
        features, ids, metric = self.store.features, self.store.ids, self.method.metric
        rows = torch.arange(0, len(self.store), max(1, len(self.store) // 256))
        distances, _ = nearest(features[rows], features, ids, self.method.k, metric=metric, exclude=ids[rows])
        return mean_of(distances.square() if metric == "euclidean" else distances)

    def disagreement(self, ids: Sequence[int] | None = None, k: int | None = None) -> tuple[Tensor, Tensor]:
        """Return ids and, of each training example, the share of its k nearest others that have another label.

        The neighbours' baseline for wrong labels; searched exactly. NaN for an example without a label.

        Args:
            ids: Which training examples; by default all of them. Ids that the datastore does not hold are left out.
            k: Neighbours of each; by default the method's.
        """
        store = self.store
        rows = None if ids is None else torch.isin(store.ids, torch.tensor(list(ids))).nonzero().flatten()
        k, metric = self.method.k if k is None else k, self.method.metric
        found = list(says.disagreement(store.features, store.ids, store.labels, k, metric=metric, rows=rows))
        return (
            torch.cat([each for each, _ in found]) if found else torch.zeros(0, dtype=torch.long),
            torch.cat([shares for _, shares in found]) if found else torch.zeros(0, dtype=torch.double),
        )

    def _rows(self, told: list[dict[str, Any]], answers: Answers, k: int | None) -> list[dict[str, Any]]:
        """Return what the records of a batch say, beside the neighbours themselves."""
        count, classes = self.method.k if k is None else k, self.classes
        for row, usable in zip(told, answers.usable.tolist(), strict=True):
            row |= {"layer": self.store.header.layer, "metric": self.method.metric, "k": count}
            row |= {"examples": len(self.store), "notes": self.notes}
            row["reasons"] = {} if usable else {"neighbors": "the query's features are not finite"}
        if answers.numbers is not None:
            for row, (model, near, _) in zip(told, answers.numbers.cpu(), strict=True):
                row |= self._say(model, near)
            return told
        if not classes:
            why = f"an example of {type(self.task).__name__} has no one class that its neighbours could vote for"
            for row in told:
                row["reasons"] = {"shares": why} | row["reasons"]
            return told
        labelled = (answers.labels >= 0).any(dim=1).tolist()
        knn, back_off = self.knn(answers), None if self.calibration is None else self.calibration.back_off
        shares, conforming = (
            says.shares(answers.labels, len(classes)),
            says.conformity(answers.labels, answers.predicted),
        )
        credible, mixture = self.credibility(answers), None
        if back_off is not None:
            mixture = [classes[i] for i in back_off.mixture(answers.probabilities, knn).argmax(dim=1).tolist()]
            backed_off = back_off.unsure(answers.probabilities).tolist()
        for i, row in enumerate(told):
            row["model_probabilities"] = _named(classes, answers.probabilities[i])
            if not labelled[i]:
                row["reasons"] = {"shares": "no neighbour has a label"} | row["reasons"]
                continue
            row |= {"shares": _named(classes, shares[i], least=0.0), "probabilities": _named(classes, knn[i])}
            row |= {"temperature": self.temperature if back_off is None else back_off.temperature}
            row |= {"conformity": float(conforming[i])}
            if credible is not None:
                row["credibility"] = float(credible[i])
            elif self.calibration is not None:
                row["reasons"] = {"credibility": f"calibrated with k={self.calibration.k}, asked with k={count}"}
            if mixture is not None:
                row |= {"mixture": mixture[i], "backed_off": backed_off[i]}
        return told

    def _say(self, model: Tensor, near: Tensor) -> dict[str, Any]:
        """Return what the neighbours of one query say of its numbers."""
        names = self.store.classes
        if bool(near.isnan().all()):
            return {"reasons": {"shares": "no neighbour has a label"}}
        if self.task.numbers == "values":
            return {"means": _named(names, near, least=-torch.inf)}
        return {"shares": _named(names, near), "model_probabilities": _named(names, model)}

    def _told(self, places: set[int]) -> dict[int, dict[str, Any]]:
        """Return what is said of each neighbour, by its position in the datastore."""
        ids = {int(self.store.ids[place]): place for place in sorted(places)}
        names = dict(enumerate(self.classes))
        known = {p: {"example_id": i, "gold": names.get(int(self.store.labels[p]))} for i, p in ids.items()}
        for i, facts in told(self.module, self.examples, self.task, ids).items():
            known[ids[i]] |= facts
        return known


def _named(classes: Sequence[str], values: Tensor, least: float = -1.0) -> dict[str, float]:
    return {name: value for name, value in zip(classes, values.tolist(), strict=True) if value > least}
