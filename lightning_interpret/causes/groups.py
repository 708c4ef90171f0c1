"""The cases of a validation in groups of one cause and cue each, with what to do, and the overview of them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.bad_cases import (
    BadCaseGroupRow,
    BadCaseRow,
    BadCasesRow,
    GroupSummary,
    Member,
    RowEdit,
    Verdict,
)
from lightning_interpret.causes.actions import Grouped, action_of
from lightning_interpret.causes.case import Case
from lightning_interpret.causes.follow import Followed, Key
from lightning_interpret.causes.known import Evidence, unseen_words
from lightning_interpret.causes.scan import Scan
from lightning_interpret.causes.shared import what_they_share
from lightning_interpret.causes.training import Training
from lightning_interpret.metrics.slice import SliceAccuracy

_SENTENCES = 5  # of evidence that a group shows


@dataclass(frozen=True)
class Found:
    """What was found in one validation.

    Attributes:
        overview: How many bad cases there are, and the groups in a line each.
        groups: The groups, the largest first; those that are solved last.
        cases: The cases that were explained, those of highest loss first.
        suspects: Training rows whose labels are suspected, whether or not a case leads to them.
        predictions: Of every validation example ``index``, ``example_id``, ``gold``, ``prediction``, ``confidence`` and
            the ``cause`` and ``cue`` of its group, ``None`` for one that is in none.
        slices: By tag, accuracy and size of each slice that is watched.
        numbers: By index of a case, the number of its record; ``None`` where it has none of its own.
        failures: Cases of which something is missing because of an error.
        errors: Those of the overview's notes that tell of errors.
    """

    overview: BadCasesRow
    groups: tuple[BadCaseGroupRow, ...]
    cases: tuple[BadCaseRow, ...]
    suspects: tuple[RowEdit, ...] = ()
    predictions: tuple[dict[str, Any], ...] = ()
    slices: dict[str, tuple[float, int]] = field(default_factory=dict)
    numbers: dict[int, int | None] = field(default_factory=dict)
    failures: int = 0
    errors: tuple[str, ...] = ()


def grouped(
    cases: Sequence[Case],
    judged: Sequence[tuple[Verdict, ...]],
    known: Evidence,
    followed: Followed,
    step: int,
    text: Callable[[int], str | None],
    notes: Sequence[str],
    begin: float,
    records: int | None = None,
    *,
    failures: int = 0,
    errors: Sequence[str] = (),
) -> Found:
    """Return what was found, the cases in groups.

    Args:
        cases: The cases that were explained.
        judged: What the rules say of each.
        known: The evidence.
        followed: What was found before, which is added to.
        step: Step of the training run.
        text: Returns a training example's text whole, by its id.
        notes: What was left out or failed.
        begin: When it all began, by ``time.perf_counter``.
        records: How many cases have a record of their own, those of highest loss; ``None`` for all.
        failures: Cases of which something is missing because of an error.
        errors: Those of the notes that tell of errors.
    """
    scanned, training, setting = known.scan, known.training, known.setting
    members: dict[Key, list[int]] = defaultdict(list)
    for place, (first, *_) in enumerate(judged):
        members[first.cause, first.cue].append(place)
    for places in members.values():
        places.sort(key=lambda place: (-judged[place][0].confidence, place))
    followed.add(step, {key: [cases[place].index for place in places] for key, places in members.items()})
    rows = [case.row(scanned, training.classes, judged[place], _facts(case, known)) for place, case in enumerate(cases)]
    order = sorted(members, key=lambda key: (key[0] == "unexplained", -len(members[key]), key))
    numbers: dict[Key, int | None] = {key: followed.number(key) for key in order}
    shown = rows[:records]
    of_case = dict.fromkeys((row.index for row in rows), None) | {
        row.index: followed.number(row.index) for row in shown
    }
    slices = {key: _slice(followed, key, known) for key in followed.sizes}
    groups = [
        _group(key, members[key], cases, judged, rows, known, followed, slices[key], of_case, text) for key in order
    ]
    solved = [key for key, sizes in followed.sizes.items() if key not in members and sizes[-2][1] > 0]
    groups += [_solved(key, known, followed, slices[key], len(cases)) for key in solved]
    kinds = scanned.badness(setting)
    labelled = int((scanned.answers.gold >= 0).sum())
    wrong, right = int(scanned.wrong.sum()), int(scanned.right.sum())
    overview = BadCasesRow(
        text=f"{len(scanned)} validation examples",
        validated=len(scanned),
        accuracy=right / labelled if labelled else None,
        wrong_cases=wrong,
        confident=kinds.count("confident"),
        unsure=kinds.count("unsure"),
        explained=len(cases),
        groups=tuple(
            GroupSummary(
                group.cause,
                group.cue,
                group.size,
                group.sure,
                group.status,
                None if group.action is None else group.action.sentence,
                group.accuracy,
                group.slice_size,
                numbers.get((group.cause, group.cue), followed.number((group.cause, group.cue))),
            )
            for group in groups
        ),
        confident_from=setting.confident_from,
        unsure_below=scanned.unsure_below(setting),
        training=len(training),
        seconds=time.perf_counter() - begin,
        notes=(*notes, *_left(cases, kinds)),
        reasons={} if labelled else {"accuracy": "no validation example has a label"},
    )
    return Found(
        overview,
        tuple(groups),
        tuple(rows),
        tuple(_suspects(training, text)),
        tuple(_predictions(scanned, training, rows)),
        {followed.tags[key]: found for key, found in slices.items()},
        of_case,
        failures,
        tuple(errors),
    )


def _left(cases: Sequence[Case], kinds: Sequence[str | None]) -> list[str]:
    bad = sum(kind is not None for kind in kinds)
    return [f"{len(cases)} of {bad} bad cases were explained: ask for more with `cases`"] if len(cases) < bad else []


def _facts(case: Case, known: Evidence) -> dict[str, Any]:
    words = len(dict.fromkeys(case.words.keys))
    return {
        "distance_rank": float(known.distances[case.number]),
        "unseen": len(unseen_words(case, known)) / words if words else None,
    }


def _slice(followed: Followed, key: Key, known: Evidence) -> tuple[float, int]:
    """Return accuracy and size of the slice of a group."""
    member = followed.slice(key, known.scan, known.training.texts, known.setting)
    metric = SliceAccuracy(sync_on_compute=False)  # the processes that wait have none to add
    metric.update(known.scan.answers.predicted, known.scan.answers.gold, member)
    return (float(metric.compute()) if metric.size else torch.nan), int(metric.size)


def _group(
    key: Key,
    places: Sequence[int],
    cases: Sequence[Case],
    judged: Sequence[tuple[Verdict, ...]],
    rows: Sequence[BadCaseRow],
    known: Evidence,
    followed: Followed,
    watched: tuple[float, int],
    numbers: dict[int, int | None],
    text: Callable[[int], str | None],
) -> BadCaseGroupRow:
    cause, cue = key
    first = [judged[place][0] for place in places]
    names = dict.fromkeys(name for each in first for name in each.measured)
    shared = what_they_share([cases[place].number for place in places], cue, known.scan, known.setting)
    grouped = Grouped(cue, [cases[place] for place in places], places, known, text, followed.tags[key])
    return BadCaseGroupRow(
        text=cue or None,
        cause=cause,
        cue=cue,
        size=len(places),
        explained=len(cases),
        members=tuple(_member(rows[place], judged[place][0], numbers) for place in places),
        sure=sum(each.confidence for each in first) / len(first),
        measured={name: _mean([each.measured[name] for each in first if name in each.measured]) for name in names},
        thresholds={name: said for each in first for name, said in each.thresholds.items()},
        evidence=tuple(dict.fromkeys([*shared, *(said for each in first for said in each.evidence)]))[:_SENTENCES],
        against=tuple(dict.fromkeys(said for each in first for said in each.against))[:_SENTENCES],
        action=action_of(cause, grouped),
        status=followed.status(key),
        sizes=tuple(followed.sizes[key]),
        accuracy=None if watched[0] != watched[0] else watched[0],
        slice_size=watched[1],
    )


def _solved(
    key: Key, known: Evidence, followed: Followed, watched: tuple[float, int], explained: int
) -> BadCaseGroupRow:
    """Return the record of a group that had cases in the validation before, and has none now."""
    return BadCaseGroupRow(
        text=key[1] or None,
        cause=key[0],
        cue=key[1],
        explained=explained,
        status=followed.status(key),
        sizes=tuple(followed.sizes[key]),
        accuracy=None if watched[0] != watched[0] else watched[0],
        slice_size=watched[1],
    )


def _member(row: BadCaseRow, verdict: Verdict, numbers: dict[int, int | None]) -> Member:
    return Member(
        row.index,
        row.example_id,
        row.text,
        row.gold,
        row.prediction,
        row.confidence,
        row.badness,
        verdict.confidence,
        numbers.get(row.index),
    )


def _suspects(training: Training, text: Callable[[int], str | None]) -> list[RowEdit]:
    names = training.classes
    return [
        RowEdit("train", i, names[each.label], names[each.proposed], text(i), each.suspicion)
        for i, each in training.suspected.items()
    ]


def _predictions(scanned: Scan, training: Training, rows: Sequence[BadCaseRow]) -> list[dict[str, Any]]:
    causes = {row.index: (row.cause, row.cue) for row in rows}
    answers, names = scanned.answers, training.classes
    told = zip(
        scanned.indices,
        scanned.ids,
        answers.gold.tolist(),
        answers.predicted.tolist(),
        _listed(scanned.confidence),
        strict=True,
    )
    return [
        {
            "index": index,
            "example_id": i,
            "gold": names[gold] if gold >= 0 else None,
            "prediction": names[predicted],
            "confidence": sure,
            "cause": causes.get(index, (None, None))[0],
            "cue": causes.get(index, (None, None))[1],
        }
        for index, i, gold, predicted, sure in told
    ]


def _listed(values: Tensor) -> list[float]:
    return values.double().tolist()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
