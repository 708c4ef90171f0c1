"""The record of a model's attention to one text: maps of its layers and heads, and what they are in numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from lightning_interpret.records.row import Rows
from lightning_interpret.records.tokens import TokensRow

#: Tokens of a text whose weights are kept in maps, and layers and heads that have one.
MOST_TOKENS, MOST_MAPS = 32, 24

Map = tuple[tuple[int, ...], ...]
"""Weights in whole per cent, a row a query; of pooling attention one row."""


@dataclass(frozen=True)
class AttentionLayer:
    """One place at which a model attends.

    Attributes:
        name: Name of the module.
        kind: ``self`` (each token to all) or ``pooling`` (one set of weights a text); of an encoder-decoder
            ``encoder``, ``decoder`` (each of its own tokens) or ``cross`` (what is written, to the source).
        entropy: Of each head, as a share of that of uniform attention: 0 to 1.
        agreement: How alike the heads attend, 1 less their mean divergence; None of a single head.
        weights: The mean over heads; none where only so many layers are kept.
    """

    name: str
    kind: str
    entropy: tuple[float, ...]
    agreement: float | None = None
    weights: Map | None = None

    @property
    def mean_entropy(self) -> float:
        """The mean over heads, as far as they have a number; NaN where none has."""
        found = _mean(self.entropy)
        return math.nan if found is None else found


@dataclass(frozen=True, kw_only=True)
class AttentionMapRow(TokensRow):
    """The attention of one text.

    Attributes:
        layers: All places at which the model attends, in the order of the forward.
        of_heads: Number of the layer whose heads are kept.
        heads: The weights of its heads.
        shown: How many tokens, the first ones, have weights in maps.
        read: Which position's attention ``token_weights`` is, in words.
        token_weights: What it weighs each token with in the last layer, the mean over heads; of an encoder-decoder
            half of that, as it weighs the tokens of either text with a sum of 1.
    """

    kind: ClassVar[str] = "attention"
    parts: ClassVar[Mapping[str, type]] = {"layers": AttentionLayer}

    layers: tuple[AttentionLayer, ...] = ()
    of_heads: int | None = None
    heads: tuple[Map, ...] = ()
    shown: int = 0
    read: str | None = None
    token_weights: tuple[float, ...] = ()

    @property
    def entropy(self) -> float | None:
        """The mean over layers."""
        return _mean([layer.mean_entropy for layer in self.layers])

    @property
    def head_agreement(self) -> float | None:
        """The mean over the layers that have several heads."""
        return _mean([layer.agreement for layer in self.layers])

    def cropped(self, most: int) -> AttentionMapRow:
        """Return the row with maps of at most so many tokens; its notes say it."""
        if self.shown <= most:
            return self
        layers = tuple(replace(layer, weights=_corner(layer.weights, most)) for layer in self.layers)
        heads = tuple(found for each in self.heads if (found := _corner(each, most)) is not None)
        said = f"Maps of attention show the first {most} of {len(self.tokens)} tokens here."
        return replace(self, layers=layers, heads=heads, shown=most, notes=(*self.notes, said))


class AttentionMap(Rows[AttentionMapRow]):
    """The attention of N texts, one row each.

    Attributes:
        rows: A row a text, in their order.
    """


def _corner(weights: Map | None, most: int) -> Map | None:
    return None if weights is None or most == 0 else tuple(row[:most] for row in weights[:most])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if known else None
