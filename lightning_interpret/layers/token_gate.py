"""A gate over tokens: which of them a prediction is made from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_interpret.functional import gates
from lightning_interpret.names import check_positive, check_whole, choose

KINDS = ("gumbel", "hard_kumaraswamy", "reinforce", "top_k", "sparsemax")


@dataclass(frozen=True)
class Selection:
    """What a gate has decided on B texts of T tokens, in single precision.

    Attributes:
        z: What each token is multiplied by, in [0, 1], ``(B, T)``; 0 where a token may not be selected.
        probabilities: Of z ≠ 0, ``(B, T)``, without noise; tokens are ranked by them.
        rate: Expected share of the selectable tokens that are selected, ``(B,)``, with a gradient.
        transitions: Expected mean |z_t − z_{t+1}| over neighbours that are both selectable, ``(B,)``, with a gradient.
        log_prob: log p(z), ``(B,)``, of ``reinforce``.
    """

    z: Tensor
    probabilities: Tensor
    rate: Tensor
    transitions: Tensor
    log_prob: Tensor | None = None


class TokenGate(nn.Module):
    """Decides for each token whether it is selected, from its features: ``(B, T, width) → Selection``."""

    def __init__(self, width: int, kind: str = "gumbel", temperature: float = 1.0, open_bias: float = 0.0) -> None:
        super().__init__()
        check_whole(width=width)
        check_positive(temperature=temperature)
        self.width, self.kind, self.temperature = width, choose("kind", kind, KINDS), float(temperature)
        # no `nn.Linear`: whoever looks for the last linear layer of a module is looking for the head
        self.weight = nn.Parameter(torch.empty(1, width).uniform_(-(width**-0.5), width**-0.5))
        self.bias = nn.Parameter(torch.full((1,), float(open_bias)))

    def forward(self, features: Tensor, selectable: Tensor, target: float | None = None) -> Selection:
        """Select."""
        selectable = selectable.bool()
        with torch.autocast(features.device.type, enabled=False):
            features = features.float().masked_fill(~selectable[..., None], 0)
            logits = F.linear(features, self.weight.float(), self.bias.float())[..., 0]
            probabilities = torch.sigmoid(logits) * selectable
            z = gates.binary_concrete(logits, self.temperature) if self.training else (logits > 0).float()
            return Selection(
                z * selectable,
                probabilities,
                gates.share(probabilities, selectable),
                gates.expected_transitions(probabilities, selectable),
            )
