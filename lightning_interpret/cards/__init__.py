"""What a record says, in words: the card of one query, which every report draws in its own way.

Texts are as they were, shortened and not yet escaped: who draws a card makes them literal.
"""

from lightning_interpret.cards.card import EXAMPLE, NAME, QUERY, Card, Label, Line, Strip, Table, percent
from lightning_interpret.cards.coloured import Aim, Coloured, Cross, Outline, Piece, Section, number_of
from lightning_interpret.cards.landmarks import sentence
from lightning_interpret.cards.maps import Maps, Panel
from lightning_interpret.cards.parts import Bar, Bars, Mark, Passage
from lightning_interpret.cards.row import card_of
from lightning_interpret.cards.tree import Branch, Tree

__all__ = [
    "EXAMPLE",
    "NAME",
    "QUERY",
    "Aim",
    "Bar",
    "Bars",
    "Branch",
    "Card",
    "Coloured",
    "Cross",
    "Label",
    "Line",
    "Maps",
    "Mark",
    "Outline",
    "Panel",
    "Passage",
    "Piece",
    "Section",
    "Strip",
    "Table",
    "Tree",
    "card_of",
    "number_of",
    "percent",
    "sentence",
]
