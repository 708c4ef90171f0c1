"""The card of attention: which token the position that is read weighs most, and how each layer attends."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from lightning_interpret.cards.card import NAME, Strip, percent
from lightning_interpret.cards.maps import maps_of
from lightning_interpret.cards.parts import Bar, Bars
from lightning_interpret.cards.said import subject, turns
from lightning_interpret.records.attention import AttentionMapRow
from lightning_interpret.texts import shortened

_LAYERS = 48  # on the card


def parts(row: AttentionMapRow) -> dict[str, Any]:
    """Return what the card of attention has of its own."""
    return {
        "origin": "attention",
        "facts": tuple(_facts(row)),
        "maps": maps_of(row),
        "bars": (_layers(row),) if row.layers else (),
        "strip": Strip.of("weight of the tokens", "attention of what is read", "", row.tokens, row.token_weights),
        "sentence": sentence(row),
        "stated": tuple(_stated(row)),
    }


def sentence(row: AttentionMapRow) -> tuple[str, ...]:
    """Return which token is weighed most, and what goes to special ones: our words and logged texts in turn."""
    known = [(w, t) for w, t in zip(row.token_weights, row.tokens, strict=False) if w is not None and math.isfinite(w)]
    if not known:
        return ()
    said, texts = subject(row)
    weight, token = max(known, key=lambda pair: pair[0])
    words, special = f"{said}. The last attention weighs '{{}}' most ({percent(weight)})", _special(row)
    words += "" if not special else f", special tokens {percent(special)} in all"
    return turns(f"{words}.", [*texts, shortened(token, NAME)])


def _special(row: AttentionMapRow) -> float:
    pairs = zip(row.token_weights, row.special, strict=False)
    return sum(weight for weight, special in pairs if special and weight is not None)


def _facts(row: AttentionMapRow) -> Iterator[tuple[str, str]]:
    if row.entropy is not None:
        yield "entropy", percent(row.entropy)
    if row.head_agreement is not None:
        yield "head agreement", percent(row.head_agreement)
    if row.read is not None:
        yield "read", row.read


def _layers(row: AttentionMapRow) -> Bars:
    bars = tuple(
        Bar.of(
            f"{number} {layer.name}",
            percent(layer.mean_entropy),
            layer.mean_entropy,
            agreement=None if layer.agreement is None else percent(layer.agreement),
            heads=" ".join(map(percent, layer.entropy)) if len(layer.entropy) > 1 else None,
        )
        for number, layer in enumerate(row.layers[:_LAYERS])
    )
    rest = "" if len(row.layers) <= _LAYERS else f"{len(row.layers) - _LAYERS} more layers."
    meaning = "100 % is uniform attention, 0 % attention to one token; agreement: how alike the heads attend"
    return Bars("Entropy of attention", meaning, "layer", "entropy", bars, "No layer.", rest)


def _stated(row: AttentionMapRow) -> Iterator[str]:
    if row.layers:
        yield (
            "A weight is what a token's vector is summed with, after layers that have mixed the tokens already: it "
            "ranks, and is no share of the prediction."
        )
