"""The cards of bad cases: one with its explanations side by side, a group with what to do, the overview of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

from lightning_interpret.bad_cases import (
    CAUSES,
    Action,
    BadCaseGroupRow,
    BadCaseRow,
    BadCasesRow,
    GroupSummary,
    Member,
    RowEdit,
    Verdict,
)
from lightning_interpret.cards import influence, neighbors
from lightning_interpret.cards.card import EXAMPLE, NAME, QUERY, Line, Strip, Table, percent
from lightning_interpret.cards.parts import Bar, Bars
from lightning_interpret.cards.said import subject, turns
from lightning_interpret.explanations import AttributionRow
from lightning_interpret.texts import shortened

_MOST = 30  # entries under one heading
_STEPS = 12  # validations whose sizes are shown
_TOKENS = 200  # words of a long text that are shown, around the strongest
_BADNESS = {"confident": "confidently wrong", "wrong": "wrong", "unsure": "right without being sure"}


def case(row: BadCaseRow) -> dict[str, Any]:
    """Return what the card of one bad case has of its own."""
    near, found = row.neighbors, row.influence
    tables = [*(influence.tables(found) if found else ()), *([neighbors.table(near)] if near else [])]
    stated = [*(_explained(row.attribution) if row.attribution else ()), *(influence.stated(found) if found else ())]
    return {
        "origin": f"bad case · {shortened(row.cause, NAME)}",
        "facts": tuple(_case_facts(row)),
        "sentence": _because(row),
        "strip": None if row.attribution is None else _strip(row.attribution),
        "bars": tuple(_case_bars(row)),
        "tables": tuple(tables),
        "labels": () if near is None else neighbors.labels(near),
        "stated": (*stated, *([neighbors.searched(near)] if near else [])),
        "notes": tuple(_arguments(row.verdicts)),
    }


def group(row: BadCaseGroupRow) -> dict[str, Any]:
    """Return what the card of a group has of its own."""
    return {
        "origin": "bad cases · group",
        "title": f"{_cases(row.size)}: {shortened(row.name, NAME)}",
        "text": CAUSES.get(row.cause, shortened(row.cause, QUERY)),
        "facts": tuple(_group_facts(row)),
        "sentence": ("", shortened(row.action.sentence, QUERY)) if row.action else (),
        "bars": tuple(_group_bars(row)),
        "tables": tuple(_group_tables(row)),
        "notes": (*(f"For it: {each}" for each in row.evidence), *(f"Against it: {each}" for each in row.against)),
    }


def overview(row: BadCasesRow) -> dict[str, Any]:
    """Return what the card of a run's bad cases has of its own."""
    return {
        "origin": "bad cases",
        "title": f"{row.wrong_cases:,} of {row.validated:,} wrong",
        "text": shortened(row.text, QUERY) if row.text else f"{row.validated:,} validation examples",
        "facts": tuple(_overview_facts(row)),
        "sentence": _foremost(row),
        "bars": (_groups(row.groups),),
    }


def _because(row: BadCaseRow) -> tuple[str, ...]:
    """Return the case in a sentence: what was said, and the cause of its group with the first evidence."""
    words, texts = subject(row)
    verdict = next((each for each in row.verdicts if (each.cause, each.cue) == (row.cause, row.cue)), None)
    if row.cause == "unexplained" or verdict is None:
        return turns(f"{words}; {CAUSES['unexplained']}.", texts)
    why, named = (CAUSES[row.cause], []) if row.cause in CAUSES else ("{}", [shortened(row.cause, NAME)])
    named += [shortened(row.cue, NAME)] if row.cue else []
    said = [shortened(verdict.evidence[0], EXAMPLE)] if verdict.evidence else []
    words += f"; probable cause ({percent(verdict.confidence)} sure): {why}" + (": '{}'." if row.cue else ".")
    return turns(words + " {}" * len(said), [*texts, *named, *said])


def _case_facts(row: BadCaseRow) -> Iterator[tuple[str, str]]:
    yield "bad as", _BADNESS.get(row.badness, row.badness)
    yield "place", str(row.index)
    if row.distance_rank is not None:
        yield "right ones nearer to training", percent(row.distance_rank)
    if row.unseen is not None:
        yield "words not in training", percent(row.unseen)


def _case_bars(row: BadCaseRow) -> Iterator[Bars]:
    yield Bars(
        "Causes",
        "what each rule says, the one that decided first",
        "cause",
        "sure",
        tuple(_verdict(each) for each in row.verdicts[:_MOST]),
        "No rule had something to say.",
    )
    if row.verdicts:
        first = row.verdicts[0]
        yield from _measures(
            first.measured, first.thresholds, "by the rule that decided, beside what each has to reach"
        )
    if row.erasures:
        bars = tuple(
            Bar.of(
                each.text,
                f"{each.after - each.before:+.2f}",
                each.after - each.before,
                before=percent(each.before),
                after=percent(each.after),
                then_predicted=shortened(each.prediction, NAME),
            )
            for each in row.erasures[:_MOST]
        )
        yield Bars("Without words", "what becomes of the probability of what was predicted", "words", "change", bars)
    if row.probabilities:
        ranked = sorted(row.probabilities.items(), key=lambda item: -_number(item[1]))
        bars = tuple(Bar.of(name, percent(share), share) for name, share in ranked[:_MOST])
        yield Bars("Probabilities", "the model's", "label", "probability", bars, rest=_rest(ranked, "labels"))


def _verdict(each: Verdict) -> Bar:
    name = f"{each.cause}: {each.cue}" if each.cue else each.cause
    return Bar.of(name, percent(each.confidence), each.confidence, holds="yes" if each.holds else "no")


def _measures(measured: Mapping[str, float], thresholds: Mapping[str, str], meaning: str) -> Iterator[Bars]:
    """Yield what was measured beside what each has to reach."""
    if measured:
        found = list(measured.items())[:_MOST]
        bars = tuple(Bar.of(name, _figure(value), None, needed=thresholds.get(name)) for name, value in found)
        yield Bars("Measured", meaning, "measure", "value", bars, rest=_rest(measured, "measures"))


def _arguments(verdicts: Iterable[Verdict]) -> Iterator[str]:
    for each in verdicts:
        name = f"{each.cause}: {each.cue}" if each.cue else each.cause
        yield from (f"For {shortened(name, NAME)}: {said}" for said in each.evidence)
        yield from (f"Against {shortened(name, NAME)}: {said}" for said in each.against)


def _strip(row: AttributionRow) -> Strip | None:
    """Return the words of a text with their scores: of a long one those around the strongest."""
    words = row.merged()
    if not words:
        return None
    sizes = [0.0 if word.special or not math.isfinite(word.score) else abs(word.score) for word in words]
    start = max(0, min(sizes.index(max(sizes)) - _TOKENS // 2, len(words) - _TOKENS))
    shown = words[start : start + _TOKENS]
    target = shortened(row.target_name, NAME)
    name = f"{shortened(row.method, NAME)} of {target}" + (f", from word {start + 1}" if start else "")
    texts, scores = [word.text for word in shown], [word.score for word in shown]
    return Strip.of(name, "for the class that is explained", "against it", texts, scores)


def _explained(row: AttributionRow) -> Iterator[str]:
    yield f"Attribution: {shortened(row.summary(), QUERY)}."


def _group_facts(row: BadCaseGroupRow) -> Iterator[tuple[str, str]]:
    yield "explained", f"{row.size:,} of {row.explained:,}"
    yield "sure", percent(row.sure)
    yield "status", row.status
    if row.accuracy is not None:
        yield "accuracy on its slice", f"{percent(row.accuracy)} of {row.slice_size:,}"
    if row.action is not None:
        yield "to do", row.action.what
        yield from [("followed as", row.action.slice)] if row.action.slice else []


def _group_bars(row: BadCaseGroupRow) -> Iterator[Bars]:
    yield from _measures(row.measured, row.thresholds, "means over the cases, beside what each had to reach")
    if row.action is not None:
        yield from _edits(row.action)
    if len(row.sizes) > 1:
        largest = max(size for _, size in row.sizes) or 1
        bars = tuple(Bar.of(f"step {step:,}", f"{size:,}", size / largest) for step, size in row.sizes[-_STEPS:])
        yield Bars("Over training", "cases at each validation, the last one last", "step", "cases", bars)


def _edits(action: Action) -> Iterator[Bars]:
    """Yield the rows to change and those to add, each under its own heading."""
    for new, title, meaning in (
        (False, "Rows to change", "rows of the files, with the label that each probably should have"),
        (True, "Rows to add", "texts to write, by the row that each is made from"),
    ):
        edits = [each for each in action.edits if each.new is new]
        if edits:
            bars = tuple(_edit(each) for each in edits[:_MOST])
            yield Bars(title, meaning, "text", "row", bars, rest=_rest(edits, "rows"))


def _edit(each: RowEdit) -> Bar:
    known = {
        "file": each.file,
        "label": each.label if not each.new else None,
        "proposed": each.proposed,
        "sure": None if each.confidence is None else percent(each.confidence),
        "why": each.why or None,
    }
    beside = tuple((name, shortened(value, EXAMPLE)) for name, value in known.items() if value is not None)
    text = shortened(each.text, EXAMPLE) if each.text and each.text.strip() else "(no text)"
    return Bar(text, f"#{each.example_id}", 0.0, beside)


def _group_tables(row: BadCaseGroupRow) -> Iterator[Table]:
    lines = tuple(_member(each) for each in row.members[:_MOST])
    left_out = row.size - len(lines)
    meaning = "the surest first" + (f"; {left_out:,} more are not listed" if left_out > 0 and lines else "")
    yield Table("Cases", meaning, "sure", lines, "No case is left." if not row.size else "No case is listed.")
    if row.action is not None and row.action.templates:
        found = row.action.templates[:_MOST]
        lines = tuple(Line.of(each, "–" if each.distance is None else f"{each.distance:.3g}") for each in found)
        yield Table("Templates", "training examples to model new rows on", "distance", lines)


def _member(each: Member) -> Line:
    """Return the line of a case; one of data without ids is named by its place."""
    wrong = each.gold is not None and each.prediction not in (None, each.gold)
    return Line(
        example_id=each.index if each.example_id is None else each.example_id,
        number=percent(each.verdict),
        strength=0.0,
        gold=None if each.gold is None else shortened(each.gold, NAME),
        prediction=shortened(str(each.prediction), NAME) if wrong or each.gold is None else None,
        text=shortened(each.text, EXAMPLE) if each.text else None,
        loss=None,
        disagreement=None,
        similarity=None,
    )


def _overview_facts(row: BadCasesRow) -> Iterator[tuple[str, str]]:
    yield "accuracy", percent(row.accuracy)
    yield "confidently wrong", f"{row.confident:,} (from {percent(row.confident_from)})"
    yield "right without being sure", f"{row.unsure:,} (below {percent(row.unsure_below)})"
    yield "explained", f"{row.explained:,}"
    yield "training examples read", f"{row.training:,}"
    yield "took", "–" if row.seconds is None else f"{row.seconds:.2g} s"


def _foremost(row: BadCasesRow) -> tuple[str, ...]:
    largest = next((each for each in row.groups if each.size), None)
    if largest is None:
        return ("No bad case was found.",) if not row.wrong_cases + row.unsure else ()
    words = f"The largest group has {largest.size:,} of {row.explained:,} cases that were explained: "
    return turns(words + "{}, {}.", [shortened(_name(largest), NAME), shortened(largest.status, NAME)])


def _groups(groups: Sequence[GroupSummary]) -> Bars:
    largest = max((each.size for each in groups), default=0) or 1
    bars = tuple(
        Bar.of(
            _name(each),
            f"{each.size:,}",
            each.size / largest,
            sure=percent(each.sure) if each.size else None,
            status=each.status,
            accuracy_on_its_slice=None if each.accuracy is None else f"{percent(each.accuracy)} of {each.slice_size:,}",
            to_do=shortened(each.action, EXAMPLE) if each.action else None,
        )
        for each in groups[:_MOST]
    )
    meaning = "the bad cases by cause, the largest first"
    return Bars("Groups", meaning, "group", "cases", bars, "No group.", _rest(groups, "groups"))


def _name(each: GroupSummary) -> str:
    return f"{each.cause}: {each.cue}" if each.cue else each.cause


def _cases(count: int) -> str:
    return f"{count:,} bad case{'s' * (count != 1)}"


def _rest(of: Sized, what: str) -> str:
    hidden = len(of) - _MOST
    return f"{hidden:,} more {what}." if hidden > 0 else ""


def _number(value: float | None) -> float:
    """Return a number to sort by: a record may come from anywhere."""
    return value if value is not None and math.isfinite(value) else -math.inf


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
