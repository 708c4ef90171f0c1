"""A part of a card: maps of attention side by side, as a picture has them."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_interpret.records.attention import AttentionMapRow, Map

_PANELS = 24  # of one grid


@dataclass(frozen=True)
class Panel:
    """One map: its label, and weights in per cent, a row a query."""

    label: str
    weights: Map


@dataclass(frozen=True)
class Maps:
    """Maps under one heading.

    Attributes:
        title: What they are.
        meaning: What a row and a column are.
        panels: The maps.
        largest: The weight of the strongest colour, in per cent.
    """

    title: str
    meaning: str
    panels: tuple[Panel, ...]
    largest: int

    @classmethod
    def of(cls, title: str, meaning: str, panels: list[Panel]) -> Maps:
        """Return the first maps under a heading, and their largest weight."""
        panels = [panel for panel in panels if any(map(len, panel.weights))]
        cells = [cell for panel in panels for row in panel.weights for cell in row if cell is not None]
        return cls(title, meaning, tuple(panels[:_PANELS]), max(cells, default=0) or 1)


def maps_of(row: AttentionMapRow) -> tuple[Maps, ...]:
    """Return the grid of a record's layers and that of one layer's heads, as far as it has maps."""
    layers = [Panel(f"layer {i}", layer.weights or ()) for i, layer in enumerate(row.layers)]
    heads = [Panel(f"head {i}", weights) for i, weights in enumerate(row.heads)]
    which, cut = "rows attend to columns", "" if row.shown == len(row.tokens) else f", the first {row.shown} tokens"
    found = (
        Maps.of("Layers", f"mean over heads; {which}{cut}", layers),
        Maps.of(f"Heads of layer {row.of_heads}", which + cut, heads),
    )
    return tuple(each for each in found if each.panels)
