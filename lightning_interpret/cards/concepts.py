"""The card of concepts: what each one adds to the score, its value beside the truth, and what it all adds up to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from lightning_interpret.cards.card import NAME, percent
from lightning_interpret.cards.parts import Bar, Bars
from lightning_interpret.cards.said import subject, turns
from lightning_interpret.rationales import Concept, ConceptsRow
from lightning_interpret.texts import shortened, signed

_MOST, _NAMED = 20, 2  # concepts on the card, and in the sentence


def parts(row: ConceptsRow) -> dict[str, Any]:
    """Return what the card of concepts has of its own."""
    return {
        "origin": "concepts" if row.mode is None else f"concepts · {shortened(row.mode, NAME)}",
        "facts": tuple(_facts(row)),
        "bars": (_bars(row),),
        "sentence": sentence(row),
        "total": total(row),
        "stated": tuple(_stated(row)),
    }


def sentence(row: ConceptsRow) -> tuple[str, ...]:
    """Return which concepts speak most for and against what is explained: our words and logged texts in turn."""
    for_it = [each for each in row.concepts if (each.contribution or 0.0) > 0][:_NAMED]
    against = [each for each in row.concepts if (each.contribution or 0.0) < 0][:_NAMED]
    if not (for_it or against):
        return ()
    said, texts = subject(row)
    if row.target_name not in (None, row.prediction):
        said, texts = "Score of {}:", [shortened(str(row.target_name), NAME)]
    names = [shortened(each.name, NAME) for each in (*for_it, *against)]
    words = f"{said} for {_listed(for_it)}" if for_it else f"{said}, although nothing speaks for it"
    words += f", against {_listed(against)}" if against else ""
    return turns(words + ".", [*texts, *names])


def total(row: ConceptsRow) -> tuple[str, ...]:
    """Return what the contributions sum to, with what is not theirs: our words and logged texts in turn."""
    known = [each.contribution for each in row.concepts if each.contribution is not None]
    if row.target is None or not known:
        return ()
    words = f"Σ of {len(known)} concepts {_number(sum(known))}"
    words += "" if row.bias is None else f", bias {_number(row.bias)}"
    words += "" if row.residual is None else f", residual {_number(row.residual)}"
    name, texts = ("x", []) if row.target_name is None else ("{}", [shortened(row.target_name, NAME)])
    end = "." if row.error is None else f", error {row.error:+.1e}."
    return turns(f"{words} = F({name}) {_number(row.target)}{end}", texts)


def _facts(row: ConceptsRow) -> Iterator[tuple[str, str]]:
    if row.target is not None:
        name = "" if row.target_name is None else f" ({row.target_name})"
        yield "score", f"{_number(row.target)}{name}"
    known = [each.right for each in row.concepts if each.right is not None]
    if known:
        yield "concepts right", f"{sum(known)} of {len(known)}"
    by_hand = sum(each.intervened for each in row.concepts)
    if by_hand:
        yield "set by hand", str(by_hand)


def _bars(row: ConceptsRow) -> Bars:
    linear = any(each.contribution is not None for each in row.concepts)
    number = {True: lambda each: each.contribution or 0.0, False: lambda each: each.value}[linear]
    largest = max((abs(number(each)) for each in row.concepts), default=0.0) or 1.0
    bars = tuple(
        Bar.of(
            each.name,
            signed(number(each)),
            number(each) / largest,
            value=_value(each) if linear or each.intervened else None,
            p=None if each.probability is None else percent(each.probability),
            gold=None if each.gold is None else f"{each.gold:.3g}" + (" ✗" if each.right is False else ""),
        )
        for each in row.concepts[:_MOST]
    )
    rest, hidden = "", row.concepts[_MOST:]
    if hidden:
        rest = f"{len(hidden)} more concepts" + (f" sum to {signed(sum(map(number, hidden)))}." if linear else ".")
    meaning = "weight · value: what each one adds to the score" if linear else "what the head is given of each one"
    return Bars("Concepts", meaning, "concept", "contribution" if linear else "value", bars, "No concept.", rest)


def _stated(row: ConceptsRow) -> Iterator[str]:
    known = row.target is not None and math.isfinite(row.target)
    if known and not any(each.contribution is not None for each in row.concepts):
        yield "The head is not linear: no part of the score is one concept's."
    if row.residual is not None:
        yield "Residual: the part of the score that went past the concepts; it is explained by none of them."
    if any(each.intervened for each in row.concepts):
        yield "Set by hand: the prediction is that of a model which was told these concepts."


def _value(concept: Concept) -> str:
    return f"{concept.value:.3g}" + (" (set by hand)" if concept.intervened else "")


def _listed(concepts: list[Concept]) -> str:
    return " and ".join(f"'{{}}' ({signed(each.contribution or 0.0)})" for each in concepts)


def _number(number: float) -> str:
    return f"{number:+.4g}"
