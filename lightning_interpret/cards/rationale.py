"""The card of a rationale: the text with what was selected of it, and what the prediction is from that alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning_interpret.cards.card import NAME, percent
from lightning_interpret.cards.parts import Bar, Bars, Passage
from lightning_interpret.cards.said import subject, turns
from lightning_interpret.rationales import RationaleRow
from lightning_interpret.texts import shortened

_TEXT, _MOST = 70, 3  # characters of a stretch in the sentence, and stretches that are named


def parts(row: RationaleRow) -> dict[str, Any]:
    """Return what the card of a rationale has of its own."""
    passage = Passage.of(row)
    return {
        "origin": "rationale" if row.gate is None else f"rationale · {shortened(row.gate, NAME)} gate",
        "facts": tuple(_facts(row)),
        "passage": passage,
        "bars": tuple(_bars(row)),
        "sentence": sentence(row),
        "stated": tuple(_stated(row, passage)),
    }


def sentence(row: RationaleRow) -> tuple[str, ...]:
    """Return what the model said, from what alone: our words and logged texts in turn."""
    said, texts = subject(row)
    passage = Passage.of(row)
    found = [] if passage is None else passage.marked("selected")
    if not found:
        return ()
    named = ["'{}'"] * min(len(found), _MOST)
    more = [f"{len(found) - _MOST} more stretches"] if len(found) > _MOST + 1 else ["'{}'"] * (len(found) > _MOST)
    named += more
    shown = found[: sum(name == "'{}'" for name in named)]
    listed = " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))
    return turns(f"{said} from {listed} alone.", [*texts, *(shortened(text, _TEXT) for text in shown)])


def _facts(row: RationaleRow) -> Iterator[tuple[str, str]]:
    if row.rate is not None:
        asked = "" if row.budget is None else f" (budget {percent(row.budget)})"
        yield "selected", percent(row.rate) + asked
    if row.sufficiency is not None:
        yield "sufficiency", f"{row.sufficiency:+.2f}"
    if row.comprehensiveness is not None:
        yield "comprehensiveness", f"{row.comprehensiveness:+.2f}"


def _bars(row: RationaleRow) -> Iterator[Bars]:
    known = (
        ("the selection", row.probability),
        ("the whole text", row.full),
        ("the rest alone", row.complement),
        ("as many words at random", row.control),
        ("the rest of that draw", row.control_complement),
    )
    bars = tuple(Bar.of(name, percent(value), value) for name, value in known if value is not None)
    if bars:
        yield Bars("Probability", "of the predicted class, made from", "made from", "p", bars)


def _stated(row: RationaleRow, passage: Passage | None) -> Iterator[str]:
    if row.sufficiency is not None:
        yield "Sufficiency: p(whole text) − p(selection). Near 0 or below, the selection is enough."
    if row.comprehensiveness is not None:
        yield "Comprehensiveness: p(whole text) − p(the rest). High, what was left out does not give the same."
    if passage is not None and passage.agreement is not None:
        gold, both, selected = passage.agreement
        yield f"People selected {gold} words, and the model {selected}: {both} are the same."
