"""What is known of the training data: neighbours, words, and which labels are suspected."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_interpret.causes.setting import Setting
from lightning_interpret.causes.words import WordIndex
from lightning_interpret.functional.bags import Bags, LabelModel, near_duplicates
from lightning_interpret.functional.neighbors.search import nearest
from lightning_interpret.methods.describe import labels_of
from lightning_interpret.methods.examples import Examples
from lightning_interpret.methods.neighbors import Answers, FittedNeighbors, NearestNeighbors
from lightning_interpret.tasks import Task

_ALONE = 0.25  # by how much surer the better witness has to be where the other says nothing: a model that has learnt a
# wrong label by heart has put the example among those of that label
_CHECKED = 5000  # training labels that are checked against their neighbours: those that the words speak against most


@dataclass(frozen=True)
class Suspected:
    """A training label that may be wrong.

    Attributes:
        example_id: The example.
        label: Its class.
        proposed: The class that speaks most against it.
        suspicion: How much: from 0 to 1.
        words: Probability of ``proposed`` by the words of the other examples.
        neighbors: Share of its neighbours, near-duplicates left out, that have ``proposed``.
    """

    example_id: int
    label: int
    proposed: int
    suspicion: float
    words: float
    neighbors: float


class Texts:
    """The words of the training data, which stay what they are while the weights change.

    Attributes:
        index: The words.
        bags: Words and pairs of words of each example.
        clusters: For each example a number that it shares with its near-duplicates.
        model: What the words alone say of labels.
    """

    def __init__(self, index: WordIndex, classes: int, setting: Setting) -> None:
        self.index = index
        self.bags: Bags = index.bags()
        self.clusters = near_duplicates(self.bags, setting.near_duplicate, setting.seed)
        self.labels = torch.tensor(index.labels)
        self.model = LabelModel.fit(self.bags, self.labels, classes, self.clusters)

    @cached_property
    def row_of(self) -> dict[int, int]:
        """Where each example stands, by its id."""
        return {i: row for row, i in enumerate(self.index.ids)}


def read_texts(examples: Examples, task: Task, classes: int, setting: Setting, end: float) -> Texts | None:
    """Return the words of the training data, ``None`` where they are no texts; no model is called.

    Args:
        examples: The training data.
        task: How their batches are read.
        classes: How many classes there are.
        setting: What counts as a near-duplicate.
        end: When no more batches are read, by ``time.perf_counter``.
    """
    index = WordIndex()
    for ids, batch in examples.batches():
        texts = task.texts(batch)
        if texts is None:
            return None
        index.add(ids.tolist(), texts, labels_of(task, batch, classes).tolist())
        if time.perf_counter() > end:
            break
    return Texts(index, classes, setting) if len(index) else None


class Training:
    """The training data as the model sees them now.

    Attributes:
        fitted: The datastore of features, ready to be searched.
        texts: The words; ``None`` where examples are no texts.
        labels: By id, the class of each example in the datastore.
        trust: How far words and neighbours are trusted when a label is suspected, in log-odds; see :meth:`weigh`.
    """

    trust: tuple[float, float] = (1.0, 1.0)

    def __init__(self, fitted: FittedNeighbors, texts: Texts | None, setting: Setting) -> None:
        self.fitted, self.texts, self.setting = fitted, texts, setting
        store = fitted.store
        self.labels = dict(zip(store.ids.tolist(), store.labels.tolist(), strict=True))

    @classmethod
    def read(cls, module: nn.Module, examples: Examples, task: Task, texts: Texts | None, setting: Setting) -> Training:
        """Return the training data after one pass of the model over them."""
        return cls(NearestNeighbors(k=setting.k).fit(module, examples, task), texts, setting)

    def __len__(self) -> int:
        return len(self.fitted.store)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(self.fitted.store.classes)

    def weigh(self, words: Sequence[Sequence[str]], answers: Answers) -> None:
        """Trust words and neighbours as far as they are right on the validation examples.

        The weight of each is the log-odds of its being right, corrected for chance: what is best for witnesses that err
        independently (Nitzan and Paroush, 1982).

        Args:
            words: The words of each validation example.
            answers: Their neighbours and gold labels.
        """
        if self.texts is None:
            return
        gold, classes = answers.gold, len(self.classes)
        there = gold >= 0
        said = self.texts.model.probabilities(self.texts.index.bags_of(words)).argmax(dim=1)
        votes = F.one_hot(answers.labels.clamp(min=0), classes) * (answers.labels >= 0)[..., None]
        voted = votes.sum(dim=1).argmax(dim=1)
        self.trust = _log_odds((said == gold)[there], classes), _log_odds((voted == gold)[there], classes)

    @cached_property
    def suspected(self) -> dict[int, Suspected]:
        """The training examples whose labels are suspected, by id, the most suspected first."""
        found = sorted(self._suspects(), key=lambda each: (-each.suspicion, each.example_id))
        return {each.example_id: each for each in found}

    def _suspects(self) -> Iterable[Suspected]:
        """Yield what both witnesses speak against: the words of other examples, and neighbours in feature space.

        They are weighed by their trust, and the better one alone may speak if it is much surer.

        Near-duplicates of an example are left out of both: several copies of one wrong label would back each other.
        """
        texts, store = self.texts, self.fitted.store
        if texts is None:
            return
        rows = {i: row for row, i in enumerate(store.ids.tolist())}
        labels = texts.labels
        given = texts.model.held_out.gather(1, labels.clamp(min=0)[:, None]).flatten()
        both_trusted = sum(self.trust)
        share = self.trust[0] / both_trusted if both_trusted else 0.5
        # all of which the words do not speak so much for the label that neighbours cannot be enough
        possible = (labels >= 0) & ((1 - given) * share + 1 - share >= self.setting.suspicion)
        unlikely = possible.nonzero().flatten()
        unlikely = unlikely[given[unlikely].argsort(stable=True)][:_CHECKED]
        asked = [row for row in unlikely.tolist() if texts.index.ids[row] in rows]
        if not asked:
            return
        clusters = torch.tensor(
            [int(texts.clusters[texts.row_of[i]]) if i in texts.row_of else -1 - n for n, i in enumerate(rows)]
        )
        places = torch.tensor([rows[texts.index.ids[row]] for row in asked])
        distances, near = nearest(
            store.features[places],
            store.features,
            clusters,
            self.setting.k,
            metric=self.fitted.method.metric,
            exclude=clusters[places],
        )
        told = store.labels[near.clamp(min=0).cpu()].masked_fill(distances.isinf().cpu(), -1)
        for n, row in enumerate(asked):
            label = int(labels[row])
            known = told[n][told[n] >= 0]
            if not len(known):
                continue
            shares = known.bincount(minlength=len(self.classes)).double() / len(known)
            both = share * texts.model.held_out[row] + (1 - share) * shares
            both[label] = -1
            proposed = int(both.argmax())
            against, apart = 1 - float(given[row]), 1 - float(shares[label])
            better = against if share >= 0.5 else apart
            suspicion = max(share * against + (1 - share) * apart, better - _ALONE)
            if suspicion >= self.setting.suspicion:
                words = float(texts.model.held_out[row, proposed])
                yield Suspected(texts.index.ids[row], label, proposed, suspicion, words, float(shares[proposed]))


def _log_odds(right: Tensor, classes: int) -> float:
    """Return the log-odds of being right against one wrong class, at least 0; one of each is added to the counts."""
    hits, size = int(right.sum()) + 1, len(right) + 2
    return max(0.0, math.log(hits * max(1, classes - 1) / (size - hits)))


def right_distances(training: Training, distances: Tensor, right: Tensor) -> Tensor:
    """Return, for each validation example, the share of the right ones whose k-th neighbour is nearer, ``(V,)``."""
    last = distances[:, -1] if distances.shape[1] else torch.zeros(len(distances))
    known = last[right & last.isfinite()].sort().values
    if not len(known):
        return torch.zeros(len(last))
    return torch.searchsorted(known, last.contiguous()).double() / len(known)
