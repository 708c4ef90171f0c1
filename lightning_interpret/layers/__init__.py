"""nn.Modules of the joint methods: what they learn and what they remember."""

from lightning_interpret.layers.nystroem import Landmark, NystroemLayer
from lightning_interpret.layers.selection_control import SelectionControl
from lightning_interpret.layers.spans import SpanPool
from lightning_interpret.layers.token_gate import Selection, TokenGate
from lightning_interpret.layers.token_scorer import TokenScorer
from lightning_interpret.layers.turn_over_dropout import TurnOverDropout

__all__ = [
    "Landmark",
    "NystroemLayer",
    "Selection",
    "SelectionControl",
    "SpanPool",
    "TokenGate",
    "TokenScorer",
    "TurnOverDropout",
]
