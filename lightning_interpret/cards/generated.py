"""The card of a written explanation: what it says, and what it is worth to the model and to who reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning_interpret.cards.card import EXAMPLE, NAME, QUERY, percent
from lightning_interpret.cards.parts import Bar, Bars, Quote
from lightning_interpret.rationales import GeneratedRow
from lightning_interpret.texts import shortened

_ORDERS = {
    "predict_then_explain": "the prediction was made first, and does not depend on the words",
    "explain_then_predict": "the prediction was made from the words",
    "jointly": "prediction and words were made together",
}


def parts(row: GeneratedRow) -> dict[str, Any]:
    """Return what the card of a written explanation has of its own."""
    return {
        "origin": "generated" if row.order is None else f"generated · {shortened(row.order, NAME).replace('_', ' ')}",
        "facts": tuple(_facts(row)),
        "quotes": tuple(_quotes(row)),
        "bars": tuple(_bars(row)),
        "stated": tuple(_stated(row)),
    }


def _quotes(row: GeneratedRow) -> Iterator[Quote]:
    yield Quote(
        "Explanation", shortened(row.explanation, QUERY) if row.explanation.strip() else "(nothing was written)"
    )
    if row.gold_explanation is not None:
        yield Quote("A person's", shortened(row.gold_explanation, QUERY))


def _facts(row: GeneratedRow) -> Iterator[tuple[str, str]]:
    if row.simulated is not None:
        yield "simulator says", shortened(row.simulated, EXAMPLE) + _agrees(row, row.simulated)
    if row.simulated_without is not None:
        without = shortened(row.simulated_without, EXAMPLE) + _agrees(row, row.simulated_without)
        yield "without the explanation", without
    if row.leaks is not None:
        yield "leaks", "yes" if row.leaks else "no"
    if row.overlap is not None:
        yield "overlap", percent(row.overlap)
    if row.log_likelihood is not None:
        yield "log-likelihood", f"{row.log_likelihood:.3g} a token"


def _agrees(row: GeneratedRow, said: str) -> str:
    return "" if row.prediction is None else " (as the model)" if said == row.prediction else " (not as the model)"


def _bars(row: GeneratedRow) -> Iterator[Bars]:
    known = (("with the explanation", row.probability), ("with it erased", row.erased))
    bars = tuple(Bar.of(name, percent(value), value) for name, value in known if value is not None)
    if bars:
        of = "the predicted class" if row.target_name is None else shortened(row.target_name, NAME)
        yield Bars("Probability", f"of {of}, as the model reads the explanation", "read", "p", bars)


def _stated(row: GeneratedRow) -> Iterator[str]:
    if row.order in _ORDERS:
        yield f"Order: {_ORDERS[row.order]}."
    if row.simulated is not None or row.simulated_without is not None:
        yield "Simulator: another model that guesses the prediction from the input, with the explanation and without."
    if row.leaks is not None:
        yield "Leaks: whether the explanation alone, without the input, gives the prediction away."
    if row.overlap is not None:
        yield "Overlap: F1 of its words with the person's; it says nothing of what the prediction was made from."
