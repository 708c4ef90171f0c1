"""The card of concept vectors: what each concept does to a score, beside what random concepts do."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from lightning_interpret.cards.card import NAME, percent
from lightning_interpret.cards.parts import Bar, Bars
from lightning_interpret.cards.said import subject, turns
from lightning_interpret.records.concept_test import AGAINST, FOR, UNTESTED, ConceptTest, ConceptTestRow
from lightning_interpret.texts import shortened, signed

_MOST, _NAMED = 30, 3  # concepts under one heading, and in the sentence


def parts(row: ConceptTestRow) -> dict[str, Any]:
    """Return what the card of concept vectors has of its own."""
    own = {
        "origin": f"concept vectors · {shortened(row.solver, NAME)}",
        "facts": tuple(_facts(row)),
        "bars": tuple(_bars(row)),
        "sentence": sentence(row),
        "stated": tuple(_stated(row)),
    }
    if row.of_all:
        tested = f"{row.tested:,} example{'s' * (row.tested != 1)}"
        own |= {"title": f"Concepts in {tested}", "text": f"no single query: the derivatives of {tested} were counted"}
    return own


def sentence(row: ConceptTestRow) -> tuple[str, ...]:
    """Return what was told apart from random concepts: our words and logged texts in turn."""
    if row.of_all:
        found = [test for test in row.tests if test.significant]
        if not found:
            return ("No concept was told apart from random ones.",) if any(t.p is not None for t in row.tests) else ()
        said = [f"'{{}}' {test.verdict.removesuffix(' the class')} {{}}" for test in found[:_NAMED]]
        names = [shortened(text, NAME) for test in found[:_NAMED] for text in (test.concept, test.target_name)]
        more = f", and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        return turns(f"Of {len(row.tests)} tests, {len(found)} told apart: {'; '.join(said)}{more}.", names)
    known = [test for test in row.tests if test.significant and test.own is not None]
    if not known:
        return ()
    words, texts = subject(row)
    most = sorted(known, key=lambda test: -abs(test.own or 0.0))[:_NAMED]
    said = [f"'{{}}' would {'raise' if (test.own or 0.0) > 0 else 'lower'} it" for test in most]
    return turns(f"{words}; more of {', of '.join(said)}.", [*texts, *(shortened(test.concept, NAME) for test in most)])


def _facts(row: ConceptTestRow) -> Iterator[tuple[str, str]]:
    if row.target is not None:
        name = "" if row.target_name in (None, row.prediction) else f" ({row.target_name})"
        yield "score", f"{row.target:+.4g}{name}"
    tested = [test for test in row.tests if test.p is not None]
    if tested:
        yield "told apart", f"{sum(test.significant for test in tested)} of {len(tested)}"


def _bars(row: ConceptTestRow) -> Iterator[Bars]:
    meaning = (
        "more of the concept would raise the score of so many"
        if row.of_all
        else "above 0: more of the concept would raise the score"
    )
    for (layer, name), group in groupby(row.tests, key=lambda test: (test.layer, test.target_name)):
        tests = list(group)
        largest = max((abs(test.own) for test in tests if test.own is not None), default=0.0) or 1.0
        hidden = len(tests) - _MOST
        yield Bars(
            title=f"{shortened(name, NAME)}, at {shortened(layer, NAME)}",
            meaning=meaning,
            what="concept",
            column="TCAV" if row.of_all else "derivative",
            bars=tuple(_bar(test, row.of_all, largest) for test in tests[:_MOST]),
            none="No concept.",
            rest=f"{hidden} more concepts." if hidden > 0 else "",
        )


def _bar(test: ConceptTest, of_all: bool, largest: float) -> Bar:
    known = test.score is not None
    beside = {
        "verdict": _short(test),
        "p": _p(test.corrected_p),
        "TCAV": None if of_all or not known else percent(test.score),
        "interval": f"{percent(test.low)}–{percent(test.high)}" if of_all and test.low is not None else None,
        "effect": signed(test.effect) if test.effect is not None else None,
        "random": percent(test.random_score) if test.random_score is not None else None,
        "accuracy": _beside(test.accuracy, test.random_accuracy),
        "stability": _beside(test.stability, test.random_stability),
        "n": f"{test.positives} · {test.examples}" if of_all and test.positives else None,
    }
    if of_all:
        number, share = percent(test.score), None if test.score is None else 2 * test.score - 1
    else:
        number, share = "–" if test.own is None else signed(test.own), (test.own or 0.0) / largest
    return Bar.of(test.concept, number, share, **beside)


def _short(test: ConceptTest) -> str:
    if test.verdict == UNTESTED:
        return f"{UNTESTED}: {test.reason}" if test.reason else UNTESTED
    return {FOR: "for", AGAINST: "against"}.get(test.verdict, "as random")


def _p(p: float | None) -> str | None:
    return None if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def _beside(value: float | None, random: float | None) -> str | None:
    """Return a share with that of random concepts."""
    if value is None:
        return None
    return f"{value:.2f}" + ("" if random is None else f" (random {random:.2f})")


def _stated(row: ConceptTestRow) -> Iterator[str]:
    beside = "one vector of each" if row.test == "paper" else "their means"
    yield (
        f"Each concept: {row.vectors} vectors against random examples; tested by its mean {row.statistic} beside "
        f"{beside} of {row.random_concepts} random concepts. p is corrected ({row.correction.replace('_', ' ')}); told "
        f"apart below {row.level:g}. Features of many places (tokens, of an image its grid): their {row.pooling}."
    )
    if row.test == "paper":
        yield "This test takes a concept's vectors for independent, and finds too much: 'random_concepts' does not."
    if row.of_all:
        yield "TCAV: share of the class's examples whose derivative along the concept is positive; bars are from 50%."
    yield "Effect: mean derivative × how far apart along it examples with and without the concept lie."
    yield "Beside each: the accuracy of its vector on held-out examples, and how alike its vectors are (cosine)."
