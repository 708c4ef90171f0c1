"""What the rules go by, beside a case: the validation examples, the training data, and what stands near to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from lightning_interpret.causes.case import Case
from lightning_interpret.causes.cues import Shortcut
from lightning_interpret.causes.scan import Scan
from lightning_interpret.causes.setting import Setting
from lightning_interpret.causes.training import Training


@dataclass(frozen=True)
class Evidence:
    """What the rules go by, beside the case.

    Attributes:
        scan: The validation examples.
        training: The training data.
        setting: The thresholds.
        alike: Jaccard similarity of each case with each training example, ``(N, n)``; ``None`` without texts.
        words: Probability of each class by the words alone, ``(N, C)``; ``None`` without texts.
        distances: For each validation example the share of right ones that are nearer to their neighbours.
        shortcuts: By number of a case, the shortcut that decides it.
        tails: By number of a case that is cut, the probabilities of the part that is not read.
        confused: By unordered pair of classes, how many bad cases are between them.
    """

    scan: Scan
    training: Training
    setting: Setting
    alike: torch.Tensor | None
    words: torch.Tensor | None
    distances: torch.Tensor
    shortcuts: Mapping[int, Shortcut]
    tails: Mapping[int, Sequence[float]]
    confused: Mapping[frozenset[int], int]


def supporters(place: int, case: Case, known: Evidence) -> tuple[list[int], list[int]]:
    """Return the training examples that speak most for a wrong prediction, and which of them are near-duplicates.

    Its near-duplicates with the predicted label, where there are any; else the nearest and the most harmful with it.
    """
    labels = known.training.labels
    alike = [i for i in near_duplicates(place, known) if labels.get(i) == case.predicted]
    if alike:
        return alike, alike
    answers, store = known.scan.answers, known.training.fitted.store
    near = [
        int(store.ids[p])
        for p, d in zip(answers.places[case.number].tolist(), answers.distances[case.number].tolist(), strict=True)
        if d < torch.inf
    ]
    harmful = [] if case.influence is None else [each.example_id for each in case.influence.harmful]
    both = dict.fromkeys([*near[: known.setting.shown], *harmful])
    return [i for i in both if labels.get(i) == case.predicted], []


def unseen_words(case: Case, known: Evidence) -> list[str]:
    """Return the words of a case that no training example has."""
    return [] if known.training.texts is None else known.training.texts.index.unseen(case.words.keys)


def near_duplicates(place: int, known: Evidence) -> list[int]:
    """Return the ids of the training examples that are nearly the same text, the most alike first."""
    texts = known.training.texts
    if known.alike is None or texts is None:
        return []
    rows = (known.alike[place] >= known.setting.near_duplicate).nonzero().flatten()
    rows = rows[known.alike[place][rows].argsort(descending=True, stable=True)]
    return [texts.index.ids[row] for row in rows.tolist()]


def same_text(example_id: int, place: int, known: Evidence) -> bool:
    """Return whether a near-duplicate is nearly the very text of a case."""
    texts = known.training.texts
    assert texts is not None
    assert known.alike is not None
    return float(known.alike[place, texts.row_of[example_id]]) >= known.setting.same_text
