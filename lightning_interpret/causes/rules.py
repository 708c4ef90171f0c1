"""The rules: each looks at one case and says whether its cause holds, by measures beside stated thresholds.

A rule that holds says what speaks for it and what against; one that nearly holds says so too. Of several that hold the
first in the order of :data:`~lightning_interpret.bad_cases.CAUSES` decides: what was shown by changing the input or by
looking at single examples goes before what is only likely.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from lightning_interpret.bad_cases import CAUSES, Verdict
from lightning_interpret.causes.case import Case
from lightning_interpret.causes.known import Evidence, near_duplicates, same_text, supporters, unseen_words
from lightning_interpret.causes.negations import Negated, negated

__all__ = ["Evidence", "passed_over", "verdicts"]

_NEARLY = 0.35  # confidence from which a verdict that does not hold is told
_TOLD = 3  # how many of those
_EDGES = re.compile(r"^\W+|\W+$")  # what a tokenizer that parts at spaces leaves on a word


def verdicts(place: int, case: Case, known: Evidence) -> tuple[Verdict, ...]:
    """Return what the rules say of a case, the one that decides first.

    Args:
        place: Which row of the evidence it is.
        case: The case.
        known: The evidence.
    """
    found = [verdict for rule in _RULES for verdict in rule(place, case, known)]
    order = list(CAUSES)
    holding = sorted((each for each in found if each.holds), key=lambda each: order.index(each.cause))
    nearly = sorted((each for each in found if not each.holds and each.confidence >= _NEARLY), key=_sure)[:_TOLD]
    if not holding:
        tried = ", ".join(dict.fromkeys(each.cause for each in nearly)) or "none comes near"
        first = Verdict("unexplained", "", 0.0, evidence=(f"No rule holds; nearest to it: {tried}.",))
        return (first, *nearly)
    first, *others = holding
    also = tuple(f"The rule of {_said(each)} holds too." for each in others)
    return (replace(first, against=(*first.against, *also)), *others, *nearly)


def _truncation(place: int, case: Case, known: Evidence) -> Iterator[Verdict]:
    cut = known.scan.cut(case.number)
    if cut is None:
        return
    read, whole = cut
    measured, tail = {"share not read": 1 - read / whole}, known.tails.get(case.number)
    evidence = [f"The model reads {read} of {whole} tokens."]
    if tail is None:
        yield _judged(
            "truncation",
            "",
            measured,
            {"share not read": 0.1},
            evidence,
            ["What is cut is not known here, so it was not asked what it says."],
            most=0.5,
        )
        return
    label = known.training.classes[case.other]
    measured["tail"] = tail[case.other]
    evidence.append(f"Given the last part alone it says {label} with {tail[case.other]:.0%}.")
    yield _judged("truncation", "", measured, {"share not read": 0.0, "tail": known.setting.tail}, evidence)


def _conflicting_duplicates(place: int, case: Case, known: Evidence) -> Iterator[Verdict]:
    near, pair = near_duplicates(place, known), (case.predicted, case.other)
    if len(near) < 2:
        return
    copies = {label: [i for i in near if known.training.labels.get(i) == label] for label in pair}
    # where each copy with one of the labels is suspected, it is an error and no matter of two labels; of as many copies
    # with each label it is anyone's guess
    tie = len({len(ids) for ids in copies.values()}) == 1
    counts = {
        label: len(ids) if tie or any(i not in known.training.suspected for i in ids) else 0
        for label, ids in copies.items()
    }
    # one other label among texts that are only alike may be an error, or said of what differs
    verbatim = all(any(same_text(i, place, known) for i in ids) for ids in copies.values())
    share = min(counts.values()) / len(near)
    names = known.training.classes
    told = " and ".join(f"{count} {names[label]}" for label, count in counts.items())
    yield _judged(
        "conflicting_duplicates",
        "",
        {"near-duplicates": float(len(near)), "of the rarer label": float(min(counts.values())), "share of it": share},
        {"near-duplicates": 2.0, "of the rarer label": 1.0 if verbatim else 2.0, "share of it": 0.2},
        [f"{len(near)} training examples are near-duplicates of it, {told}: ids {_ids(near)}."],
        best={"near-duplicates": 4.0, "of the rarer label": 3.0, "share of it": 0.5},
    )


def _training_label_error(place: int, case: Case, known: Evidence) -> Iterator[Verdict]:
    if not case.wrong:
        return
    speaking, alike = supporters(place, case, known)
    if not speaking:
        return
    suspected = [i for i in speaking if i in known.training.suspected]
    share, least = len(suspected) / len(speaking), 1.0 if alike else 2.0
    measured = {"suspected": float(len(suspected)), "suspected share": share}
    thresholds = {"suspected": least, "suspected share": known.setting.suspects}
    if not alike and known.words is not None:  # else what stands near need not be what it was learnt from
        measured["words"] = _words_say(case.other, case.predicted, place, known)
        thresholds["words"] = known.setting.right_words
        measured["confidence"] = case.before
        thresholds["confidence"] = known.setting.label_error_confidence
    name = known.training.classes[case.predicted]
    kind = "near-duplicates" if alike else "training examples that speak most for it"
    against = [] if not alike else [f"{len(alike)} near-duplicates say the same: together they are hard to doubt."]
    yield _judged(
        "training_label_error",
        "",
        measured,
        thresholds,
        [
            f"Of {len(speaking)} {kind}, labelled {name}, {len(suspected)} are probably labelled wrongly"
            + (f": ids {_ids(suspected)}." if suspected else ".")
        ],
        against if len(alike) > 1 else (),
        best={"suspected": 4.0, "suspected share": 1.0},
    )


def _shortcut(place: int, case: Case, known: Evidence) -> Iterator[Verdict]:
    found = known.shortcuts.get(case.number)
    if found is None:
        return
    name, setting = known.training.classes[found.label], known.setting
    against = [f"Of {found.right} right examples with it {found.broken} turn wrong without it."] if found.broken else []
    if found.validation_rows and found.validation_share >= found.share - 0.1:
        against.append(f"In the validation data too {found.validation_share:.0%} of those with it are {name}.")
    evidence = [
        f"Of {found.rows} training examples with '{found.text}' {found.share:.0%} are {name}; of all {found.base:.0%}.",
        f"Without it {len(found.fixed)} of {len(found.wrong)} wrong cases with it turn right.",
    ]
    if found.validation_rows:
        evidence.append(f"Of {found.validation_rows} validation examples with it {found.validation_share:.0%} are.")
    yield _judged(
        "shortcut",
        found.text,
        {
            "training share": found.share,
            "training rows": float(found.rows),
            "fixed share": found.fixed_share,
            "broken share, at most": -found.broken_share,
        },
        {
            "training share": setting.cue_share,
            "training rows": float(setting.cue_rows),
            "fixed share": setting.cue_fixed,
            "broken share, at most": -setting.cue_broken * found.fixed_share,
        },
        evidence,
        against,
        best={"training rows": 5.0 * setting.cue_rows, "broken share, at most": 0.0},
    )


def _composition(place: int, case: Case, known: Evidence) -> Iterator[Verdict]:
    if not case.wrong:
        return
    found = [passed_over(phrase, case, known) for phrase in negated(case)]
    best = max(
        (each for each in found if each is not None), key=lambda each: (each.holds, each.confidence), default=None
    )
    if best is not None:
        yield best


def passed_over(found: Negated, case: Case, known: Evidence) -> Verdict | None:
    """Return what the rule of composition says of one negation of a case; ``None`` where it was not asked about."""
    trigger, phrase = found.negations, found.places
    if case.after(trigger) is None or case.after(phrase) is None:
        return None
    setting, name = known.setting, known.training.classes[case.predicted]
    word, alone, whole = case.said(trigger[:1]), case.fall(trigger), case.fall(phrase)
    said, tied = case.said(phrase), _tied_to_prediction(found, case)
    measured = {"fall without the negation, at most": -alone}
    thresholds = {"fall without the negation, at most": -setting.composition}
    evidence = [
        f"Without '{word}' its probability changes by {round(-alone, 2) + 0.0:+.2f} alone, although the meaning turns."
    ]
    if whole < setting.turned and tied is not None:  # a class that is said where nothing is said does not fall
        measured["training share of the word, above all"] = tied
        thresholds["training share of the word, above all"] = setting.tied
        evidence.insert(
            0, f"In '{said}' training data tie the negated word to {name}: {tied:+.0%} beside all examples."
        )
    else:
        measured["fall without the phrase"] = whole
        thresholds["fall without the phrase"] = setting.turned
        evidence.insert(0, f"'{said}' speaks for {name}: without it its probability falls by {whole:.2f}.")
    return _judged(
        "composition",
        _EDGES.sub("", word.lower()),
        measured,
        thresholds,
        evidence,
        ["It was right to stay as it is, if the word does not turn the phrase."],
        best={"fall without the negation, at most": 0.0, "training share of the word, above all": 0.5},
    )


def _tied_to_prediction(found: Negated, case: Case) -> float | None:
    """Return the least tie of the negated words to the prediction; ``None`` where it is not known of one."""
    ties = [case.ties.get(case.words.keys[case.words.at.index(head)]) for head in found.heads]
    return None if None in ties else min(tie for tie in ties if tie is not None)


def _coverage(place: int, case: Case, known: Evidence) -> Iterator[Verdict]:
    unseen, rank = unseen_words(case, known), float(known.distances[case.number])
    words = len(dict.fromkeys(case.words.keys))
    share = len(unseen) / words if words else 0.0
    shown = ", ".join(f"'{word}'" for word in unseen[:6])
    far = f"It is farther from its neighbours than {rank:.0%} of the validation examples that are right."
    if words:
        yield _judged(
            "coverage",
            "",
            {"unseen words": share},
            {"unseen words": known.setting.unseen},
            [f"{len(unseen)} of its {words} words are in no training example" + (f": {shown}." if shown else "."), far],
            [] if rank >= 0.5 else ["To the model it lies among training examples all the same."],
            best={"unseen words": 2 * known.setting.unseen},
        )
        return
    yield _judged("coverage", "", {"distance": rank}, {"distance": known.setting.distance}, [far])


def _validation_label_error(place: int, case: Case, known: Evidence) -> Iterator[Verdict]:
    if not case.wrong:
        return
    setting, names = known.setting, known.training.classes
    labels = known.scan.answers.labels[case.number]
    there = labels[labels >= 0]
    share = float((there == case.predicted).double().mean()) if len(there) else 0.0
    measured = {"confidence": case.before, "neighbours": share}
    thresholds = {"confidence": setting.label_error_confidence, "neighbours": setting.label_error_neighbors}
    said = names[case.predicted]
    evidence = [f"The model says {said} with {case.before:.0%}, as {share:.0%} of {len(there)} neighbours do."]
    if known.words is not None:
        measured["words"] = _words_say(case.predicted, case.other, place, known)
        thresholds["words"] = setting.label_error_words
        against = names[case.other]
        evidence.append(f"The words alone say {said} with {measured['words']:.0%}, of the two, and not {against}.")
    yield _judged(
        "validation_label_error",
        "",
        measured,
        thresholds,
        evidence,
        ["All three learnt from the same training data: an error that those share would look the same."],
    )


def _confusion(place: int, case: Case, known: Evidence) -> Iterator[Verdict]:
    labels = known.scan.answers.labels[case.number]
    there = labels[labels >= 0]
    if not len(there):
        return
    predicted, other = (float((there == label).double().mean()) for label in (case.predicted, case.other))
    names, pair = known.training.classes, frozenset((case.predicted, case.other))
    first, second = sorted(pair) if len(pair) == 2 else (case.predicted, case.other)
    # the model's own margin is a second witness of a border: neighbours are few
    close = 1 - (case.before - float(known.scan.answers.probabilities[case.number, case.other]))
    count = float(known.confused.get(pair, 0))
    mixed = max(min(predicted, other), 0.0 if known.words is None else _words_mixed(place, case, known))
    yield _judged(
        "confusion",
        f"{names[first]} / {names[second]}",
        {"mixed": max(mixed, close / 2 if close >= 0.6 else 0.0), "cases of the pair": count},
        {"mixed": known.setting.mixed, "cases of the pair": float(known.setting.confused)},
        [
            f"Of {len(there)} neighbours {predicted:.0%} are {names[case.predicted]}, {other:.0%} {names[case.other]}.",
            f"{count:.0f} bad cases are between these two classes.",
        ],
        best={"mixed": 0.5, "cases of the pair": 10.0},
    )


def _words_say(label: int, against: int, place: int, known: Evidence) -> float:
    """Return the share of one of two classes in what the words alone say of both."""
    assert known.words is not None
    first, second = float(known.words[place, label]), float(known.words[place, against])
    return first / max(first + second, 1e-9)


def _words_mixed(place: int, case: Case, known: Evidence) -> float:
    assert known.words is not None
    return min(float(known.words[place, case.predicted]), float(known.words[place, case.other]))


_RULES: tuple[Callable[[int, Case, Evidence], Iterator[Verdict]], ...] = (
    _truncation,
    _conflicting_duplicates,
    _training_label_error,
    _shortcut,
    _composition,
    _coverage,
    _validation_label_error,
    _confusion,
)


def _judged(
    cause: str,
    cue: str,
    measured: Mapping[str, float],
    thresholds: Mapping[str, float],
    evidence: Sequence[str],
    against: Sequence[str] = (),
    *,
    best: Mapping[str, float] | None = None,
    most: float = 1.0,
) -> Verdict:
    """Return the verdict of measures that each have to reach a threshold; those named "at most" are their negatives.

    Its confidence is 1/2 at the thresholds and rises evenly to ``most`` where every measure is at its best (1, or
    what ``best`` says); below a threshold it is half of the least measure's share of it.
    """
    best = best or {}
    holds = all(measured[name] >= least for name, least in thresholds.items())
    past = [
        min(1.0, (measured[name] - least) / (best.get(name, 1.0) - least)) if best.get(name, 1.0) > least else 1.0
        for name, least in thresholds.items()
    ]
    short = [
        measured[name] / least if least > 0 else float(measured[name] >= least) for name, least in thresholds.items()
    ]
    sure = (0.5 + (most - 0.5) * sum(past) / len(past)) if holds else 0.5 * max(0.0, min([1.0, *short]))
    return Verdict(
        cause,
        cue,
        min(most, sure),
        holds,
        {name: abs(value) if "at most" in name else value for name, value in measured.items()},
        {name: f"{'≤' if 'at most' in name else '≥'} {abs(least):.3g}" for name, least in thresholds.items()},
        tuple(evidence),
        tuple(against),
    )


def _sure(verdict: Verdict) -> float:
    return -verdict.confidence


def _said(verdict: Verdict) -> str:
    name = verdict.cause.replace("_", " ")
    return f"{name} ('{verdict.cue}')" if verdict.cue else name


def _ids(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:6])) + (", …" if len(ids) > 6 else "")
