"""What to do about each cause: rows to relabel, rows to add, what to read again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from lightning_interpret.bad_cases import Action, RowEdit
from lightning_interpret.causes.case import Case
from lightning_interpret.causes.cues import Shortcut, spelled
from lightning_interpret.causes.known import Evidence, supporters, unseen_words
from lightning_interpret.causes.negations import negated
from lightning_interpret.causes.rules import passed_over
from lightning_interpret.causes.training import Training
from lightning_interpret.causes.words import pattern_of, words_of
from lightning_interpret.evidence import TrainingExample

_TEMPLATES = 5
_NEW_ROWS = 40  # rows that are written out for one group

Text = Callable[[int], str | None]


@dataclass(frozen=True)
class Grouped:
    """The cases of a group with where each stands in the evidence.

    Attributes:
        cue: The group's cue.
        cases: The cases, the surest first.
        places: Their rows of the evidence.
        known: The evidence.
        text: Returns the text of a training example whole.
        slice: Tag of the group's slice.
    """

    cue: str
    cases: Sequence[Case]
    places: Sequence[int]
    known: Evidence
    text: Text
    slice: str | None

    @property
    def training(self) -> Training:
        """The training data."""
        return self.known.training

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.training.classes

    @property
    def templates(self) -> tuple[TrainingExample, ...]:
        """Training examples that are nearest to the cases, each once."""
        near = (each for case in self.cases if case.neighbors is not None for each in case.neighbors.neighbors[:2])
        return tuple({each.example_id: each for each in near}.values())[:_TEMPLATES]


def action_of(cause: str, group: Grouped) -> Action:
    """Return what to do about the cases of one cause and cue."""
    return _ACTIONS[cause](group)


def _training_label_error(group: Grouped) -> Action:
    suspected, training = group.training.suspected, group.training
    near = dict.fromkeys(
        i
        for place, case in zip(group.places, group.cases, strict=True)
        for i in supporters(place, case, group.known)[0]
        if i in suspected
    )
    # the same error may stand in rows that no case of today leads to
    ids = list(dict.fromkeys([*near, *suspected]))[: group.known.setting.edits]
    edits = []
    for i in ids:
        found = suspected[i]
        given, proposed = training.classes[found.label], training.classes[found.proposed]
        why = f"The words of other rows say {proposed} with {found.words:.0%}, {found.neighbors:.0%} of its neighbours."
        edits.append(RowEdit("train", i, given, proposed, group.text(i), found.suspicion, why))
    sentence = (
        f"Read {_counted(len(edits), 'training row')} again, whose labels are probably wrong: {len(near)} of them "
        "stand behind these cases."
    )
    return Action("relabel", sentence, tuple(edits), slice=group.slice)


def _validation_label_error(group: Grouped) -> Action:
    scan, edits = group.known.scan, []
    for case in group.cases[: group.known.setting.edits]:
        i = scan.ids[case.number]
        why = f"The model says {group.names[case.predicted]} with {case.before:.0%}, as its neighbours do."
        edits.append(
            RowEdit(
                "val",
                case.index if i is None else i,
                group.names[case.other],
                group.names[case.predicted],
                scan.texts[case.number],
                case.before,
                why,
            )
        )
    sentence = f"Read {_counted(len(edits), 'validation row')} again: the label itself is probably wrong there."
    return Action("relabel", sentence, tuple(edits), slice=group.slice)


def _conflicting_duplicates(group: Grouped) -> Action:
    texts = group.training.texts
    assert texts is not None
    found: dict[int, RowEdit] = {}
    for place in group.places:
        assert group.known.alike is not None
        rows = (group.known.alike[place] >= group.known.setting.near_duplicate).nonzero().flatten().tolist()
        labels = [texts.index.labels[row] for row in rows]
        counts = {label: labels.count(label) for label in set(labels) if label >= 0}
        most = max(counts, key=lambda label: (counts[label], -label))
        clear = 2 * counts[most] > sum(counts.values())
        for row, label in zip(rows, labels, strict=True):
            if label >= 0 and (label != most or not clear):
                proposed = group.names[most] if clear else None
                why = f"Of {len(rows)} near-duplicates {counts[most]} are {group.names[most]}."
                sure = counts[most] / len(rows) if clear else None
                i = texts.index.ids[row]
                found.setdefault(i, RowEdit("train", i, group.names[label], proposed, group.text(i), sure, why))
    edits = tuple(found.values())[: group.known.setting.edits]
    sentence = f"Give {_counted(len(edits), 'training row')} and their near-duplicates one label, or drop them."
    return Action("deduplicate", sentence, edits, slice=group.slice)


def _shortcut(group: Grouped) -> Action:
    shortcut: Shortcut = group.known.shortcuts[group.cases[0].number]
    training, name = group.training, group.names[shortcut.label]
    assert training.texts is not None
    with_cue = training.texts.index.with_cue(shortcut.cue)
    have = set(with_cue)
    others = [i for i, label in training.labels.items() if label not in (shortcut.label, -1) and i not in have]
    # as many rows of the other labels as would leave the cue without a say, up to what a person will read
    missing = round(shortcut.rows * (shortcut.share - shortcut.base))
    count = max(1, min(_NEW_ROWS, missing) // 2)
    edits = [
        *_with_cue(group, shortcut, _spread(others, count)),
        *_without_cue(group, shortcut, _spread(with_cue, count)),
    ]
    sentence = (
        f"Add rows with '{shortcut.text}' that are not {name}, about {max(1, missing)} of them, so that it says "
        f"nothing of the label: {len(edits)} are suggested, as counterfactual pairs of rows that are there."
    )
    return Action("balance", sentence, tuple(edits), group.templates, group.slice)


def _with_cue(group: Grouped, shortcut: Shortcut, ids: Iterable[int]) -> Iterator[RowEdit]:
    for i in ids:
        text = group.text(i)
        if text:
            label = group.names[group.training.labels[i]]
            why = f"Row {i} with '{shortcut.text}' put in: its label stays."
            yield RowEdit("train", i, label, label, put_in(text, shortcut.text), None, why, new=True)


def _without_cue(group: Grouped, shortcut: Shortcut, ids: Iterable[int]) -> Iterator[RowEdit]:
    for i in ids:
        text, label = group.text(i), group.training.labels.get(i, -1)
        shorter = None if text is None else taken_out(text, shortcut.cue)
        if shorter and label >= 0:
            why = f"Row {i} without '{shortcut.text}': its label stays."
            yield RowEdit("train", i, group.names[label], group.names[label], shorter, None, why, new=True)


def _composition(group: Grouped) -> Action:
    training, edits = group.training, list[RowEdit]()
    assert training.texts is not None
    heads = dict.fromkeys(
        (case.words.keys[case.words.at.index(head)], case.predicted)
        for case in group.cases
        for found in negated(case)
        if (verdict := passed_over(found, case, group.known)) is not None and verdict.holds
        for head in found.heads
    )
    for head, predicted in heads:
        rows = [i for i in training.texts.index.with_cue((head,)) if training.labels.get(i) == predicted]
        for i in _spread(rows, max(1, _NEW_ROWS // max(1, len(heads)) // 2)):
            text = group.text(i)
            turned = None if text is None else turned_by(text, group.cue, head)
            if turned is None:
                continue
            label = group.names[1 - predicted] if len(group.names) == 2 else None
            why = f"Row {i} with '{group.cue}' before '{head}': a person should say whether its label turns."
            edits.append(RowEdit("train", i, group.names[predicted], label, turned, None, why, new=True))
    suggested = (
        f"{len(edits[:_NEW_ROWS])} are suggested, each the other side of a row that is there; read their labels first."
        if edits
        else "the nearest rows there are shown."
    )
    sentence = f"Add rows in which '{group.cue}' turns the meaning: {suggested}"
    return Action("add", sentence, tuple(edits[:_NEW_ROWS]), group.templates, group.slice)


def _coverage(group: Grouped) -> Action:
    often: dict[str, int] = {}
    for case in group.cases:
        for word in unseen_words(case, group.known):
            often[word] = often.get(word, 0) + 1
    words = ", ".join(f"'{word}'" for word in sorted(often, key=lambda word: (-often[word], word))[:8])
    what = f" with words such as {words}" if words else ""
    sentence = f"Add labelled rows of this kind{what}: training data have none. The nearest rows there are shown."
    return Action("add", sentence, (), group.templates, group.slice)


def _confusion(group: Grouped) -> Action:
    sentence = (
        f"Write down what tells {group.cue.replace(' / ', ' from ')}, then look whether the rows shown are labelled by "
        "it; add rows near the border."
    )
    return Action("look", sentence, (), group.templates, group.slice)


def _truncation(group: Grouped) -> Action:
    sentence = (
        "Let the model read more (a larger `max_length`, or a model that takes more tokens), or split these texts and "
        "join the answers: what decides them is cut."
    )
    return Action("lengthen", sentence, (), (), group.slice)


def _unexplained(group: Grouped) -> Action:
    return Action("look", "Look at these yourself: no rule has found a cause.", (), group.templates, group.slice)


_ACTIONS: dict[str, Callable[[Grouped], Action]] = {
    "truncation": _truncation,
    "conflicting_duplicates": _conflicting_duplicates,
    "training_label_error": _training_label_error,
    "shortcut": _shortcut,
    "composition": _composition,
    "coverage": _coverage,
    "validation_label_error": _validation_label_error,
    "confusion": _confusion,
    "unexplained": _unexplained,
}


def put_in(text: str, cue: str) -> str:
    """Return a text with a cue in it, at the space after its first third."""
    spaces = [i for i, character in enumerate(text) if character == " "]
    if not spaces:
        return f"{cue} {text}"
    at = spaces[len(spaces) // 3]
    return f"{text[:at]} {cue}{text[at:]}"


def turned_by(text: str, negation: str, head: str) -> str | None:
    """Return a text with a negation before the first ``head``; ``None`` where that is not found."""
    negation = "not" if words_of(negation)[-1:] == ["t"] else negation  # no word of its own: "n't", "don't"
    found = re.search(pattern_of((head,)), text, flags=re.IGNORECASE)
    return found and f"{text[: found.start()]}{spelled((negation, found[0]))}{text[found.end() :]}"


def taken_out(text: str, cue: Sequence[str]) -> str | None:
    """Return a text without a cue, however it is written there; ``None`` where it is not found, or is all there is."""
    shorter = re.sub(rf"{pattern_of(tuple(cue))}\s?", "", text, flags=re.IGNORECASE).strip()
    return shorter if shorter != text.strip() and words_of(shorter) else None


def _spread(items: Sequence[int], count: int) -> list[int]:
    return [items[i * len(items) // count] for i in range(count)] if len(items) > count else list(items)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("s" if count != 1 else "")
