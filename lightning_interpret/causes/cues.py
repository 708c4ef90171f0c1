"""Shortcuts: words and phrases that training data tie to a label, that decide cases, and that do more harm than good.

A word that is tied to a label may be one that rightly says it. Three measures tell a shortcut apart, none of which
knows a language: how the training examples with it are labelled; whether wrong cases turn right without it; and whether
examples that are right stay so without it, as they would not if it was what they are about.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from lightning_interpret.causes.case import Case
from lightning_interpret.causes.erase import Eraser
from lightning_interpret.causes.scan import Scan
from lightning_interpret.causes.setting import Setting
from lightning_interpret.causes.training import Training
from lightning_interpret.causes.words import Cue, cues_of, places_of
from lightning_interpret.functional.count_tests import binomial_p_value, fisher_p_value

_TRIED = 40  # cues of a label whose cases are asked without them
_RIGHT = 32  # right examples that are asked without a cue


@dataclass(frozen=True)
class Shortcut:
    """A cue and what was measured of it.

    Attributes:
        cue: The word or phrase.
        label: The class that training data tie it to.
        rows: Training examples that have it.
        share: Share of them with that label.
        base: Share of that label among all training examples.
        p: P-value of that share, corrected.
        wrong: Numbers of the wrong cases that have it and are predicted as that label.
        fixed: Those of them that turn right without it.
        right: Right examples with it that were asked without it: of the validation data, or also of the training data
            where those have few.
        broken: How many of those turn wrong.
        validation_rows: Validation examples with a label that have it.
        validation_share: Share of them with that label.
    """

    cue: Cue
    label: int
    rows: int
    share: float
    base: float
    p: float
    wrong: tuple[int, ...]
    fixed: tuple[int, ...]
    right: int
    broken: int
    validation_rows: int
    validation_share: float

    @property
    def text(self) -> str:
        """The cue as a text."""
        return spelled(self.cue)

    @property
    def fixed_share(self) -> float:
        """Share of the wrong cases with it that turn right without it."""
        return len(self.fixed) / max(1, len(self.wrong))

    @property
    def broken_share(self) -> float:
        """Share of the right examples with it that turn wrong without it."""
        return self.broken / max(1, self.right)


def spelled(cue: Cue) -> str:
    """Return a cue as a text: characters of scripts without spaces close up."""
    return ("" if all(len(word) == 1 and ord(word) > 0xE00 for word in cue) else " ").join(cue)


def find_shortcuts(
    cases: Sequence[Case], scan: Scan, training: Training, eraser: Eraser, setting: Setting
) -> list[Shortcut]:
    """Return the shortcuts that decide cases, those of most cases first; each case is counted for one of them."""
    found: list[Shortcut] = []
    for label in sorted({case.predicted for case in cases if case.wrong}):
        mine = {case.number: case for case in cases if case.wrong and case.predicted == label}
        found += _of_label(label, mine, scan, training, eraser, setting)
    return sorted(found, key=lambda each: (-len(each.fixed), each.cue))


def _of_label(
    label: int, cases: dict[int, Case], scan: Scan, training: Training, eraser: Eraser, setting: Setting
) -> Iterator[Shortcut]:
    tied = _tied(label, cases, training, setting)
    if not tied:
        return
    has = {cue: tuple(n for n, case in cases.items() if places_of(cue, case.words.keys)) for cue in tied}
    asked = [(number, cases[number].words.places(cue)) for cue in tied for number in has[cue]]
    for (number, places), after in zip(asked, eraser.without(asked).tolist(), strict=True):
        cases[number].erased[tuple(sorted(places))] = after
    fixed = {cue: {n for n in has[cue] if _fixed(cases[n], cue)} for cue in tied}
    left = set(cases)
    refused = set[Cue]()
    while True:
        # of cues that turn as many cases the shorter one: what stands around it adds nothing
        open_cues = [
            cue
            for cue in tied
            if cue not in refused
            and len(fixed[cue] & left) >= setting.cue_cases
            and len(fixed[cue]) >= setting.cue_fixed * len(has[cue])
        ]
        if not open_cues:
            return
        best = max(open_cues, key=lambda cue: (len(fixed[cue] & left) - 0.1 * len(cue), cue))
        refused.add(best)
        shortcut = _measured(best, label, has[best], fixed[best] & left, tied[best], scan, eraser, training)
        certain = fisher_p_value(len(fixed[best]), len(has[best]), shortcut.broken, shortcut.right) <= 0.05
        if certain and shortcut.broken_share <= setting.cue_broken * shortcut.fixed_share:
            left -= fixed[best]
            yield shortcut


def _tied(
    label: int, cases: dict[int, Case], training: Training, setting: Setting
) -> dict[Cue, tuple[int, float, float, float]]:
    """Return the cues of several cases that training data tie to the label: rows, share, the label's own, p-value."""
    texts = training.texts
    if texts is None:
        return {}
    often: dict[Cue, int] = defaultdict(int)
    for case in cases.values():
        for cue in cues_of(case.words.keys):
            often[cue] += 1
    common = sorted((cue for cue, count in often.items() if count >= setting.cue_cases), key=lambda c: (-often[c], c))
    labelled = texts.labels[texts.labels >= 0]
    if not common or not len(labelled):
        return {}
    base = float((labelled == label).double().mean())
    counts = texts.index.counts(common, len(training.classes))
    found: dict[Cue, tuple[int, float, float, float]] = {}
    for cue, row in zip(common, counts.tolist(), strict=True):
        rows, hits = round(sum(row)), round(row[label])
        if rows < setting.cue_rows or hits < setting.cue_share * rows:
            continue
        p = min(1.0, binomial_p_value(hits, rows, base) * len(common))
        if p <= setting.cue_p:
            found[cue] = (rows, hits / rows, base, p)
    return dict(list(found.items())[:_TRIED])


def _fixed(case: Case, cue: Cue) -> bool:
    after = case.after(case.words.places(cue))
    return after is not None and max(range(len(after)), key=after.__getitem__) == case.other


def _measured(
    cue: Cue,
    label: int,
    wrong: tuple[int, ...],
    fixed: set[int],
    tied: tuple[int, float, float, float],
    scan: Scan,
    eraser: Eraser,
    training: Training,
) -> Shortcut:
    gold = scan.answers.gold.tolist()
    has = [number for number, words in enumerate(scan.words) if gold[number] >= 0 and places_of(cue, words)]
    right = _some([number for number in has if bool(scan.right[number]) and gold[number] == label])
    words = eraser.words(right)
    asked = [(number, words[number].places(cue)) for number in right]
    after = eraser.without([(number, places) for number, places in asked if places])
    if len(after) < _RIGHT // 4 and training.texts is not None:  # validation data may have hardly any
        ids = [i for i in training.texts.index.with_cue(cue) if training.labels.get(i) == label]
        more = eraser.training(training.fitted.examples, _some(ids), cue)
        after = torch.cat([each for each in (after, more) if len(each)] or [after])
    after = after[after.isfinite().all(dim=1)]
    broken = int((after.argmax(dim=1) != label).sum()) if len(after) else 0
    share = sum(gold[number] == label for number in has) / max(1, len(has))
    return Shortcut(cue, label, *tied, wrong, tuple(sorted(fixed)), len(after), broken, len(has), share)


def _some(numbers: list[int]) -> list[int]:
    """Return so many of them, spread evenly."""
    return [numbers[i * len(numbers) // _RIGHT] for i in range(_RIGHT)] if len(numbers) > _RIGHT else numbers
