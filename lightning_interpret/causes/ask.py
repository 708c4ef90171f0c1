"""What is asked about each bad case: its saliency, neighbours, influence, and the prediction without some words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from lightning_interpret.causes.case import Case
from lightning_interpret.causes.erase import Eraser, Words
from lightning_interpret.causes.negations import negated
from lightning_interpret.causes.scan import Scan, Validation
from lightning_interpret.causes.setting import Setting
from lightning_interpret.causes.training import Training
from lightning_interpret.causes.words import NEGATORS
from lightning_interpret.methods import Method
from lightning_interpret.methods.influence import InfluenceMethod
from lightning_interpret.methods.influence.measures import LossOfPrediction
from lightning_interpret.tasks import Task, batches

_AT_ONCE = 16


@dataclass
class Asker:
    """Asks about bad cases, called inside the explaining scope; what fails is missing, and its reason is told.

    Attributes:
        module: The module.
        task: How batches are read.
        validation: The validation examples.
        training: The training data.
        scanned: What the validation examples are to the model.
        eraser: Takes words out.
        setting: Bounds.
        method: The saliency method.
        influence: The influence method, or ``None``.
        weight_decay: Of the training objective.
        begin: When it all began, by ``time.perf_counter``.
        seconds: Seconds it may take.
        notes: What was left out or failed, and why.
        on_error: ``"raise"`` to let an error through, ``"warn"`` to tell it in the notes.
        failed: By number of a case of which something is missing because of an error, that error.
        errors: Those of the notes that tell of errors.
    """

    module: nn.Module
    task: Task
    validation: Validation
    training: Training
    scanned: Scan
    eraser: Eraser
    setting: Setting
    method: Method
    influence: InfluenceMethod | None
    weight_decay: float
    begin: float
    seconds: float
    notes: list[str]
    on_error: str = "warn"
    failed: dict[int, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def cases(self) -> list[Case]:
        """Return the bad cases with what was asked about them."""
        scanned, numbers = self.scanned, self.scanned.chosen(self.setting)
        kinds, sure = scanned.badness(self.setting), scanned.confidence.tolist()
        predicted, wrong = scanned.answers.predicted.tolist(), scanned.wrong.tolist()
        text = bool(numbers) and scanned.texts[numbers[0]] is not None
        words = self.eraser.words(numbers) if text else {}
        nothing = Words((), (), ())
        cases = [
            Case(
                n,
                scanned.indices[n],
                str(kinds[n]),
                predicted[n],
                scanned.other(n),
                wrong[n],
                sure[n],
                words.get(n, nothing),
            )
            for n in numbers
        ]
        self._tie(cases)
        self._each("neighbors", cases, 0.7, self._neighbors)
        self._each("attribution", cases, 0.8, self._attribute)
        if self.influence is not None and cases:
            self._each("influence", cases, 0.8, self._influence, len(cases))
        if text:
            self._each("erasures", cases, 0.9, self._erase)
        return cases

    def _tie(self, cases: Sequence[Case]) -> None:
        """Look up how training data tie the words of cases with a negation to what is predicted."""
        texts, negated = self.training.texts, [case for case in cases if NEGATORS.intersection(case.words.keys)]
        words = list(dict.fromkeys(key for case in negated for key in case.words.keys))
        if texts is None or not words:
            return
        counts = texts.index.counts([(word,) for word in words], len(self.training.classes))
        base = texts.labels[texts.labels >= 0].bincount(minlength=counts.shape[1]).double()
        rows = counts.sum(dim=1)
        lifts = counts / rows[:, None].clamp(min=1) - base / base.sum().clamp(min=1)
        often = (rows >= self.setting.cue_rows).tolist()
        known = {word: lift for word, lift, there in zip(words, lifts.tolist(), often, strict=True) if there}
        for case in negated:
            case.ties = {word: known[word][case.predicted] for word in case.words.keys if word in known}

    def tails(self, cases: Sequence[Case]) -> dict[int, list[float]]:
        """Return what is said of the last part of each case that is cut, given alone; by number."""
        found: dict[int, list[float]] = {}
        for case in cases:
            cut = self.scanned.cut(case.number)
            whole = None if cut is None else self.validation.text(case.number)
            if cut is None or whole is None or self._spent(1.0):
                continue
            read = max(1, len(whole) * cut[0] // cut[1])
            part = whole[max(read, len(whole) - read) :]  # as much as is read at once, and nothing that was read
            try:
                known = self._said_of(part)
            except Exception as error:
                if self.on_error == "raise":
                    raise
                self.failed[case.number] = f"{type(error).__name__}: {error}"
                note = f"the cut part of some cases was not asked about: {self.failed[case.number]}"
                if note not in self.notes:
                    self.notes.append(note)
                    self.errors.append(note)
                continue
            if known is not None:
                found[case.number] = known
        return found

    @torch.no_grad()
    def _said_of(self, text: str) -> list[float] | None:
        """Return the probabilities of another text; ``None`` where there is no way to encode it."""
        batch = self.validation.encoded([text]) if text.strip() else None
        if batch is None:
            return None
        known = self.task.log_probabilities(self.task.logits(self.module, batches.to_full_precision(batch)))
        assert known is not None
        return known[0].exp().tolist()

    def _each(
        self, name: str, cases: list[Case], share: float, ask: Callable[[list[Case]], None], at_once: int = _AT_ONCE
    ) -> None:
        """Ask about some cases at a time, while there is time; of some that fail each is asked about alone."""
        for some in _parts(cases, at_once):
            if self._spent(share):
                for case in some:
                    case.reasons[name] = f"`max_seconds={self.seconds:g}` was spent"
                continue
            try:
                ask(some)
            except Exception as error:
                if self.on_error == "raise":
                    raise
                if len(some) > 1 and name != "influence":  # which is fitted once for all
                    self._each(name, some, share, ask, 1)
                    continue
                for case in some:
                    case.reasons[name] = self.failed[case.number] = f"{type(error).__name__}: {error}"
        if at_once > 1:
            told = {case.reasons[name]: case.number in self.failed for case in cases if name in case.reasons}
            notes = {f"{name} of some cases is missing: {why}": failed for why, failed in told.items()}
            self.notes += notes
            self.errors += [note for note, failed in notes.items() if failed]

    def _spent(self, share: float) -> bool:
        return time.perf_counter() - self.begin > share * self.seconds

    def _batch(self, cases: Sequence[Case]) -> Any:
        return batches.to_full_precision(batches.clone(self.validation.batch([case.number for case in cases])))

    def _neighbors(self, cases: list[Case]) -> None:
        rows = self.training.fitted.find(self._batch(cases), show=self.setting.shown)
        for case, row in zip(cases, rows, strict=True):
            case.neighbors = row

    def _attribute(self, cases: list[Case]) -> None:
        rows = self.method(self.module, self._batch(cases), self.task, which="predicted", output="margin")
        for case, row in zip(cases, rows, strict=True):
            case.attribution = row

    def _influence(self, cases: list[Case]) -> None:
        assert self.influence is not None
        examples = self.training.fitted.examples
        fitted = self.influence.fit(self.module, examples, self.task, weight_decay=self.weight_decay)
        queries = (self._batch(some) for some in _parts(cases, _AT_ONCE))
        labelled = bool((self.scanned.answers.gold[[case.number for case in cases]] >= 0).all())
        measure = None if labelled or not self.influence.of_loss else LossOfPrediction(self.task)
        for case, row in zip(cases, fitted.scores(queries, self.setting.shown, measure=measure), strict=True):
            case.influence = row

    def _erase(self, cases: list[Case]) -> None:
        """Ask without each of the strongest words, and without each negation and what it acts on."""
        asked: list[tuple[Case, tuple[int, ...]]] = []
        for case in cases:
            single = [(place,) for place in case.strongest(self.setting.words)]
            phrases = negated(case) if case.wrong else []
            parts = [part for each in phrases for part in (each.places, each.negations)]
            wanted = dict.fromkeys([*single, *parts])
            asked += [(case, places) for places in wanted]
        after = self.eraser.without([(case.number, places) for case, places in asked])
        for (case, places), row in zip(asked, after.tolist(), strict=True):
            case.erased[places] = row


def _parts(cases: Sequence[Case], size: int) -> Iterator[list[Case]]:
    for start in range(0, len(cases), size):
        yield list(cases[start : start + size])
