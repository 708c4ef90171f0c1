"""Records of bad cases: what went wrong in a validation run, why as far as it can be measured, and what to do.

A :class:`BadCaseRow` is one validation example with its explanations side by side and the verdicts on it, a
:class:`BadCaseGroupRow` the examples of one cause and cue with one action, a :class:`BadCasesRow` the overview of a
run. All are plain Python, JSON both ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from lightning_interpret.evidence import InfluenceRow, NeighborsRow, TrainingExample
from lightning_interpret.explanations import AttributionRow
from lightning_interpret.records import Row

#: Every cause by its key, in the order in which a case is given to one of several that hold; each in plain words.
CAUSES: dict[str, str] = {
    "truncation": "the text is cut, and what decides is in the part that is not read",
    "composition": "a negation or another word that turns the meaning is passed over",
    "shortcut": "a word or phrase that training data tie to a label decides, and should not",
    "conflicting_duplicates": "near-duplicates in the training data have conflicting labels",
    "training_label_error": "training examples that speak for the prediction are probably labelled wrongly",
    "coverage": "the text is far from all training data",
    "validation_label_error": "the validation label itself is probably wrong",
    "confusion": "two classes that lie close together are confused",
    "unexplained": "no rule finds a cause",
}

#: How a case is bad: wrong with a high probability, wrong, or right without being sure.
KINDS = ("confident", "wrong", "unsure")

#: Where a group stands beside the validation before.
STATUSES = ("new", "growing", "steady", "shrinking", "solved")

#: What an action asks for.
ACTIONS = ("relabel", "add", "balance", "deduplicate", "lengthen", "look")


@dataclass(frozen=True)
class Verdict:
    """What one rule says of one case.

    Attributes:
        cause: A key of :data:`CAUSES`.
        cue: What the group is about: a word or phrase, two classes ``"A / B"``, or ``""`` where the cause says all.
        confidence: How sure the rule is, from 0 to 1: how far its measures are past their thresholds.
        holds: Whether every threshold is met.
        measured: What was measured, by name.
        thresholds: What each has to reach to hold: a text such as ``"≥ 0.5"``.
        evidence: What speaks for it, a sentence each.
        against: What speaks against it, a sentence each.
    """

    cause: str
    cue: str = ""
    confidence: float = 0.0
    holds: bool = True
    measured: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, str] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()
    against: tuple[str, ...] = ()


@dataclass(frozen=True)
class Erasure:
    """What became of the prediction when words were taken out of the text.

    Attributes:
        words: Places of the words in the text's words.
        text: The words.
        before: Probability of the class that was predicted.
        after: The same without the words.
        prediction: What is predicted without them.
    """

    words: tuple[int, ...]
    text: str
    before: float
    after: float
    prediction: str


@dataclass(frozen=True, kw_only=True)
class BadCaseRow(Row):
    """One bad case: a validation example, its explanations side by side, and why it went wrong.

    Attributes:
        index: Where it stands in the validation data, from 0.
        badness: One of :data:`KINDS`.
        cause: The cause whose group it is in.
        cue: The cue of that group.
        verdicts: What each rule that had something to say says of it, the one that decided first.
        probabilities: The model's, by label.
        attribution: Which parts of the text the prediction comes from; ``None`` where ``reasons`` says why.
        neighbors: The nearest training examples.
        influence: The training examples that help and harm.
        erasures: What became of the prediction without some words.
        distance_rank: Share of the validation examples that are right which are nearer to their neighbours than it is.
        unseen: Share of its words that no training example has.
    """

    kind: ClassVar[str] = "bad_case"
    parts: ClassVar[Mapping[str, type]] = {
        "verdicts": Verdict,
        "attribution": AttributionRow,
        "neighbors": NeighborsRow,
        "influence": InfluenceRow,
        "erasures": Erasure,
    }

    index: int = 0
    badness: str = "wrong"
    cause: str = "unexplained"
    cue: str = ""
    verdicts: tuple[Verdict, ...] = ()
    probabilities: Mapping[str, float] = field(default_factory=dict)
    attribution: AttributionRow | None = None
    neighbors: NeighborsRow | None = None
    influence: InfluenceRow | None = None
    erasures: tuple[Erasure, ...] = ()
    distance_rank: float | None = None
    unseen: float | None = None


@dataclass(frozen=True)
class RowEdit:
    """One row of a file that an action asks to change or add.

    Attributes:
        file: ``train`` or ``val``: in which file it stands, or is to stand.
        example_id: The row to change, or the row that a new one is made from.
        label: Its label now.
        proposed: The label to give it; ``None`` where a person has to say.
        text: The text to write; of a row that keeps its text, that text.
        confidence: How sure this is, from 0 to 1; ``None`` where nothing was measured.
        why: The reason, in a sentence.
        new: Whether it is a row to add and no change of one.
    """

    file: str
    example_id: int
    label: str | None = None
    proposed: str | None = None
    text: str | None = None
    confidence: float | None = None
    why: str = ""
    new: bool = False


@dataclass(frozen=True)
class Action:
    """What to do about a group.

    Attributes:
        what: One of :data:`ACTIONS`.
        sentence: It in words.
        edits: Rows to change or add; those of ``new=False`` and a ``proposed`` label relabel, of ``new=True`` add.
        templates: Training examples to model new rows on.
        slice: Tag of the metric that follows the group's slice of the validation data, without ``interpret/<name>/``.
    """

    parts: ClassVar[Mapping[str, type]] = {"edits": RowEdit, "templates": TrainingExample}

    what: str
    sentence: str
    edits: tuple[RowEdit, ...] = ()
    templates: tuple[TrainingExample, ...] = ()
    slice: str | None = None


@dataclass(frozen=True)
class Member:
    """One case in a group, in short: its full record stands in its own place.

    Attributes:
        index: Where it stands in the validation data.
        example_id: Its id.
        text: Its text.
        gold: Its label.
        prediction: What was predicted.
        confidence: Probability of that.
        badness: One of :data:`KINDS`.
        verdict: How sure the verdict is.
        probe: Number of the case's own record in the Interpret tab; ``None`` where it has none.
    """

    index: int
    example_id: int | None = None
    text: str | None = None
    gold: str | None = None
    prediction: str | None = None
    confidence: float | None = None
    badness: str = "wrong"
    verdict: float | None = None
    probe: int | None = None


@dataclass(frozen=True, kw_only=True)
class BadCaseGroupRow(Row):
    """The bad cases of one cause and cue, the evidence, and what to do.

    Attributes:
        cause: A key of :data:`CAUSES`.
        cue: What the group is about.
        size: How many cases it has.
        explained: Of how many bad cases that were explained.
        members: The cases, the surest first.
        sure: Mean confidence of its verdicts, from 0 to 1.
        measured: Means of what was measured, by name.
        thresholds: What each had to reach.
        evidence: What speaks for the cause, a sentence each.
        against: What speaks against it.
        action: What to do.
        status: One of :data:`STATUSES`.
        sizes: Its size at each validation so far, as ``(step, size)``, the last one last.
        accuracy: Of the model on the slice that is watched; ``None`` where nothing of the data is in it.
        slice_size: Validation examples in that slice.
    """

    kind: ClassVar[str] = "bad_case_group"
    parts: ClassVar[Mapping[str, type]] = {"members": Member, "action": Action}

    cause: str = "unexplained"
    cue: str = ""
    size: int = 0
    explained: int = 0
    members: tuple[Member, ...] = ()
    sure: float = 0.0
    measured: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, str] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    action: Action | None = None
    status: str = "new"
    sizes: tuple[tuple[int, int], ...] = ()
    accuracy: float | None = None
    slice_size: int = 0

    @property
    def name(self) -> str:
        """What it is called: the cause, and the cue where there is one."""
        return f"{self.cause}: {self.cue}" if self.cue else self.cause


@dataclass(frozen=True)
class GroupSummary:
    """A group in a line of the overview.

    Attributes:
        cause: Its cause.
        cue: Its cue.
        size: How many cases it has.
        sure: Mean confidence of its verdicts.
        status: One of :data:`STATUSES`.
        action: What to do, in words.
        accuracy: Of the model on its slice.
        slice_size: Validation examples in that slice.
        probe: Number of its record in the Interpret tab.
    """

    cause: str
    cue: str = ""
    size: int = 0
    sure: float = 0.0
    status: str = "new"
    action: str | None = None
    accuracy: float | None = None
    slice_size: int = 0
    probe: int | None = None


@dataclass(frozen=True, kw_only=True)
class BadCasesRow(Row):
    """The bad cases of one validation run: how many of each kind, and the groups of causes.

    Attributes:
        validated: Validation examples that were looked through.
        accuracy: Share of those with a label that the model has right.
        wrong_cases: How many are wrong.
        confident: How many of the wrong ones have a probability of at least ``confident_from``.
        unsure: How many are right with a probability below ``unsure_below``.
        explained: How many bad cases were explained and given to a group.
        groups: The groups, the largest first; those that are solved last.
        confident_from: From which probability a wrong answer counts as confidently wrong.
        unsure_below: Below which probability a right answer counts as unsure.
        training: Training examples that were read.
        seconds: What it took; ``None`` where that is logged elsewhere.
    """

    kind: ClassVar[str] = "bad_cases"
    parts: ClassVar[Mapping[str, type]] = {"groups": GroupSummary}

    validated: int = 0
    accuracy: float | None = None
    wrong_cases: int = 0
    confident: int = 0
    unsure: int = 0
    explained: int = 0
    groups: tuple[GroupSummary, ...] = ()
    confident_from: float = 0.9
    unsure_below: float = 0.6
    training: int = 0
    seconds: float | None = None
