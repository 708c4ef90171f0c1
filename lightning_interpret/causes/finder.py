"""CauseFinder: from a model, its validation and its training data to groups of bad cases with something to do."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Literal

import torch
from torch import nn

from lightning_interpret.causes.ask import Asker
from lightning_interpret.causes.case import Case
from lightning_interpret.causes.cues import Shortcut, find_shortcuts
from lightning_interpret.causes.erase import Eraser
from lightning_interpret.causes.follow import Followed
from lightning_interpret.causes.groups import Found, grouped
from lightning_interpret.causes.known import Evidence
from lightning_interpret.causes.rules import verdicts
from lightning_interpret.causes.scan import Scan, Validation, scan
from lightning_interpret.causes.setting import Setting
from lightning_interpret.causes.training import Texts, Training, read_texts, right_distances
from lightning_interpret.functional.bags import jaccard
from lightning_interpret.functional.scope import explaining
from lightning_interpret.methods import Method, method_named
from lightning_interpret.methods.describe import class_names
from lightning_interpret.methods.examples import Examples
from lightning_interpret.methods.influence import InfluenceMethod, influence_named
from lightning_interpret.names import choose
from lightning_interpret.tasks import (
    Generation,
    MultiLabelClassification,
    QuestionAnswering,
    Regression,
    Task,
    TokenClassification,
)

_NO_CLASS: dict[Any, str] = {
    TokenClassification: "a text has a tag a word, each right or wrong by itself",
    QuestionAnswering: "an answer is a part of its text, and none that other texts share",
    Generation: "a text that is written may be right in many ways, and is confused with no other",
    Regression: "a number is more or less wrong, and is confused with no other",
    MultiLabelClassification: "each label holds or does not by itself",
}


class CauseFinder:
    """Finds why validation examples go wrong.

    Every validation example is looked through once; the bad cases are explained by a saliency, by neighbours and by the
    influence of training examples on the last layer; the rules of :mod:`.rules` give each a cause.

    Args:
        setting: Thresholds and bounds.
        method: Saliency method, by name or with its options.
        influence: Influence method, by name or with its options; ``None`` for none.
        max_seconds: After which no further part is begun; ``None`` for no bound. What is left out is told.
        on_error: What becomes of an error in what is asked about a case: ``"warn"`` to tell it in the overview's notes
            and go on without the answer, ``"raise"`` to let it through.

    Raises:
        ValueError: If a name does not exist, or the seconds are not positive.
    """

    def __init__(
        self,
        setting: Setting | None = None,
        method: str | Method = "deep_lift",
        influence: str | InfluenceMethod | None = "exact",
        *,
        max_seconds: float | None = 60.0,
        on_error: Literal["warn", "raise"] = "warn",
    ) -> None:
        self.setting, self.max_seconds = setting or Setting(), max_seconds
        self.method = method_named(method) if isinstance(method, str) else method
        self.influence = None if influence is None else influence_named(influence)
        if max_seconds is not None and not max_seconds > 0:
            raise ValueError(f"`max_seconds={max_seconds!r}` must be positive, or None for no bound.")
        self.on_error = choose("on_error", on_error, ("warn", "raise"))
        self._texts: Texts | None = None
        self._read: Any = None  # what the texts were read from: they stay while weights change

    def check(self, module: nn.Module, task: Task) -> None:
        """Raise for a task of which no case is known to be bad, and for what the influence method cannot serve.

        Raises:
            ValueError: If it has not one class a text or image, with a probability.
        """
        self._need_classes(task)
        if self.influence is not None:
            self.influence.check(module, task)

    def _need_classes(self, task: Task) -> None:
        if type(task).log_probabilities is Task.log_probabilities:
            kind = type(task).__name__
            why = next(
                (why for of, why in _NO_CLASS.items() if isinstance(task, of)), "it knows no probabilities of them"
            )
            raise ValueError(
                f"BadCaseMonitor and CauseFinder look for the cause of a wrong class, one a text, and a {kind} has no "
                f"such class: {why}. Use SaliencyMonitor for what its predictions come from, and InfluenceMonitor for "
                "the training examples behind its losses."
            )

    def forget(self) -> None:
        """Let go of the training texts."""
        self._texts = self._read = None

    def find(
        self,
        module: nn.Module,
        task: Task,
        validation: Validation,
        training: Examples,
        *,
        weight_decay: float = 0.0,
        training_text: Callable[[int], str | None] | None = None,
        followed: Followed | None = None,
        step: int = 0,
        source: Any = None,
        records: int | None = None,
    ) -> Found:
        """Return the bad cases of a model in groups.

        Args:
            module: The module, left as it was.
            task: How module and batches are read.
            validation: The validation examples.
            training: The training examples.
            weight_decay: Of the training objective, for influence.
            training_text: Returns a training example's text whole, by its id; by default as its tokens spell it.
            followed: What was found before, which is added to.
            step: Step of the training run.
            source: What the training texts are read from: while it is the same object they are not read again.
            records: How many cases have a record of their own, those of highest loss; ``None`` for all.

        Raises:
            ValueError: If the task knows no probabilities of classes.
        """
        self._need_classes(task)
        begin, setting = time.perf_counter(), self.setting
        seconds = inf if self.max_seconds is None else self.max_seconds
        followed = Followed() if followed is None else followed
        notes: list[str] = []
        with explaining(module, full_precision=True):
            texts = self._training_texts(module, task, validation, training, source, begin + 0.3 * seconds)
            seen = Training.read(module, training, task, texts, setting)
            scanned = scan(module, task, validation, seen, begin + 0.6 * seconds)
            if len(scanned) < len(validation):
                notes.append(
                    f"`max_seconds` was spent: {len(scanned)} of {len(validation)} examples were looked through"
                )
            if texts is not None and len(texts.index) < len(seen):
                read = f"{len(texts.index)} of {len(seen)} training examples"
                notes.append(f"`max_seconds` was spent: the words of {read} were read")
            seen.weigh(scanned.words, scanned.answers)
            eraser = Eraser(module, task, validation)
            asker = Asker(
                module,
                task,
                validation,
                seen,
                scanned,
                eraser,
                setting,
                self.method,
                self.influence,
                weight_decay,
                begin,
                seconds,
                notes,
                self.on_error,
            )
            cases = asker.cases()
            tails, shortcuts = asker.tails(cases), list[Shortcut]()
            if texts is not None and cases and time.perf_counter() - begin > seconds:
                notes.append(f"shortcuts were not looked for: `max_seconds={seconds:g}` was spent")
            elif texts is not None and cases:
                shortcuts = _shortcuts(cases, asker)
            known = _evidence(cases, scanned, seen, setting, tails, shortcuts)
        judged = [verdicts(place, case, known) for place, case in enumerate(cases)]
        return grouped(
            cases,
            judged,
            known,
            followed,
            step,
            training_text or (lambda i: None if texts is None else texts.index.texts.get(i)),
            notes,
            begin,
            records,
            failures=len(asker.failed),
            errors=asker.errors,
        )

    def _training_texts(
        self, module: nn.Module, task: Task, validation: Validation, training: Examples, source: Any, end: float
    ) -> Texts | None:
        if source is None or source is not self._read or self._texts is None:
            with torch.no_grad():
                names = class_names(task, task.logits(module, validation.batch([0])))
            if not names:
                raise ValueError(
                    f"{type(task).__name__} knows no probabilities of classes: no case is known to be bad."
                )
            self._texts, self._read = read_texts(training, task, len(names), self.setting, end), source
        return self._texts


def _shortcuts(cases: Sequence[Case], asker: Asker) -> list[Shortcut]:
    """Return the shortcuts; none, and a note, where words cannot be taken out."""
    try:
        return find_shortcuts(cases, asker.scanned, asker.training, asker.eraser, asker.setting)
    except Exception as error:
        if asker.on_error == "raise":
            raise
        note = f"shortcuts could not be looked for ({type(error).__name__}: {error})"
        asker.notes.append(note)
        asker.errors.append(note)
        return []


def _evidence(
    cases: Sequence[Case],
    scanned: Scan,
    training: Training,
    setting: Setting,
    cut: dict[int, list[float]],
    shortcuts: Sequence[Shortcut],
) -> Evidence:
    texts = training.texts
    bags = None if texts is None else texts.index.bags_of([scanned.words[case.number] for case in cases])
    confused: dict[frozenset[int], int] = defaultdict(int)
    for case in cases:
        confused[frozenset((case.predicted, case.other))] += 1
    return Evidence(
        scanned,
        training,
        setting,
        None if bags is None or texts is None else jaccard(bags, texts.bags),
        None if bags is None or texts is None else texts.model.probabilities(bags),
        right_distances(training, scanned.answers.distances, scanned.right),
        {number: each for each in shortcuts for number in each.fixed},
        cut,
        confused,
    )
