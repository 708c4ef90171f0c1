"""What a record says, in words: the card of one query, which every report draws in its own way.

Texts are as they were, shortened and not yet escaped: who draws a card makes them literal.
"""

from lightning_interpret.cards.card import EXAMPLE, NAME, QUERY, Card, Label, Line, Strip, Table, percent
from lightning_interpret.cards.landmarks import sentence
from lightning_interpret.cards.maps import Maps, Panel
from lightning_interpret.cards.parts import Bar, Bars, Mark, Passage
from lightning_interpret.cards.row import card_of
from lightning_interpret.cards.tree import Branch, Tree

__all__ = [
    "EXAMPLE",
    "NAME",
    "QUERY",
    "Bar",
    "Bars",
    "Branch",
    "Card",
    "Label",
    "Line",
    "Maps",
    "Mark",
    "Panel",
    "Passage",
    "Strip",
    "Table",
    "Tree",
    "card_of",
    "percent",
    "sentence",
]
