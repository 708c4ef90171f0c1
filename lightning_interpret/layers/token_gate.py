"""A gate over tokens: which of them a prediction is made from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_interpret.functional import gates
from lightning_interpret.functional.simplex import capped_simplex
from lightning_interpret.names import check_finite, check_positive, check_whole, choose

KINDS = ("gumbel", "hard_kumaraswamy", "reinforce", "top_k", "sparsemax")
BUDGETED = ("top_k", "sparsemax")  # those that select a target share by construction
_TEMPERED = ("gumbel", *BUDGETED)


@dataclass(frozen=True)
class Selection:
    """What a gate has decided on B texts of T tokens, in single precision, or double where the features are.

    Attributes:
        z: What each token is multiplied by, in [0, 1], ``(B, T)``; 0 where a token may not be selected.
        probabilities: Without noise, ``(B, T)``: what tokens are ranked by, and what supervision can be put on. P(z ≠
            0) for a gate that draws each token by itself; for one with a budget, above 1/2 for what is selected.
        rate: Expected share of the selectable tokens that are selected, ``(B,)``; it has a gradient, except where it is
            the budget, and is 0 for a text of which nothing may be selected.
        transitions: Expected mean |z_t − z_{t+1}| over neighbours that are both selectable, ``(B,)``, with a gradient.
        log_prob: log p(z), ``(B,)``, for ``reinforce``.
    """

    z: Tensor
    probabilities: Tensor
    rate: Tensor
    transitions: Tensor
    log_prob: Tensor | None = None


class TokenGate(nn.Module):
    """Decides for each token whether it is selected, by a linear score of its features: ``(B, T, width) → Selection``.

    - ``gumbel``: z in {0, 1} is drawn, P(z = 1) = σ(score), with the gradient of the binary concrete relaxation
      (Maddison et al.; Jang et al., 2017).
    - ``hard_kumaraswamy``: z in [0, 1] is drawn, with mass at 0 and at 1, and its own gradient (Bastings et al., 2019).
      Transitions are those between z = 0 and z ≠ 0.
    - ``reinforce``: z in {0, 1} is drawn without a gradient; :func:`score_function` makes one of ``log_prob`` (Lei et
      al., 2016).
    - ``top_k``: the best ``target`` share of the scores, with Gumbel noise in training (a sample without replacement,
      Kool et al., 2019); the gradient is that of the sigmoid of each score's distance from the budget's edge.
    - ``sparsemax``: z in [0, 1] that sum to the ``target`` share, the capped simplex: constrained sparsemax (Malaviya
      et al., 2018) times the budget, which is SPECTRA's budget factor (Guerreiro and Martins, 2021). There is Gumbel
      noise in training: without it z settles between 0 and 1, and more tokens are read than the budget says.

    In evaluation mode nothing is drawn: z is the likelier of 0 and 1, of ``hard_kumaraswamy`` E[z] where anything in
    between is likelier still. All is computed in single precision at least, whatever autocast says.

    Args:
        width: Width of the features.
        kind: One of the above.
        temperature: Of the relaxation; scores are divided by it in ``gumbel``, ``top_k`` and ``sparsemax``.
        open_bias: What scores start from. Above 0 a gate starts dense, so that a predictor learns from whole texts
            before tokens are taken from it; of no effect on a gate with a budget.

    Raises:
        ValueError: If an option does not exist, makes no sense, or is not one of this kind.
    """

    def __init__(self, width: int, kind: str = "gumbel", temperature: float = 1.0, open_bias: float = 1.0) -> None:
        super().__init__()
        check_whole(width=width)
        check_positive(temperature=temperature)
        check_finite(open_bias=open_bias)
        if temperature != 1 and choose("kind", kind, KINDS) not in _TEMPERED:
            raise ValueError(f"`temperature={temperature!r}`: a gate of `kind={kind!r}` has none.")
        self.width, self.kind, self.temperature = width, choose("kind", kind, KINDS), float(temperature)
        signs = torch.tensor([1.0, -1.0] if kind == "hard_kumaraswamy" else [1.0])  # of a and b: b closes
        # no `nn.Linear`: whoever looks for the last linear layer of a module is looking for the head
        self.weight = nn.Parameter(torch.empty(len(signs), width).uniform_(-(width**-0.5), width**-0.5))
        self.bias = nn.Parameter(open_bias * signs)

    def forward(self, features: Tensor, selectable: Tensor, target: float | None = None) -> Selection:
        """Return what is selected.

        Args:
            features: Of each token, ``(B, T, width)``.
            selectable: Which may be selected, bool ``(B, T)``: no padding, and no special tokens. What the features of
                the others are makes no difference.
            target: The share to select, for ``top_k`` and ``sparsemax``, above 0 and at most 1.

        Raises:
            ValueError: If shapes do not agree, or a target is missing.
        """
        if features.dim() != 3 or features.shape[2] != self.width or features.shape[:2] != selectable.shape:
            raise ValueError(
                f"A token gate takes `features` (B, T, {self.width}) and `selectable` (B, T), not "
                f"{tuple(features.shape)} and {tuple(selectable.shape)}."
            )
        selectable = selectable.bool()
        dtype = torch.promote_types(features.dtype, torch.float32)
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(dtype).masked_fill(~selectable[..., None], 0)
            scores = F.linear(features, self.weight.to(dtype), self.bias.to(dtype))
            if self.kind in BUDGETED:
                return self._budgeted(scores[..., 0], selectable, target)
            z, probabilities, log_prob = self._drawn(scores)
            probabilities = probabilities * selectable
            return Selection(
                z * selectable,
                probabilities,
                gates.share(probabilities, selectable),
                gates.expected_transitions(probabilities, selectable),
                None if log_prob is None else (log_prob * selectable).sum(dim=1),
            )

    def extra_repr(self) -> str:
        """Return the options."""
        return f"width={self.width}, kind={self.kind!r}, temperature={self.temperature}"

    def _drawn(self, scores: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return z, P(z ≠ 0) and log p(z) of each token drawn by itself, from scores ``(B, T, 1 or 2)``."""
        if self.kind == "hard_kumaraswamy":
            drawn = gates.HardKumaraswamy.of_logits(scores)
            return drawn.sample() if self.training else drawn.likeliest, drawn.open, None
        logits = scores[..., 0]
        if self.kind == "gumbel":
            z = gates.binary_concrete(logits, self.temperature) if self.training else (logits > 0).to(logits)
            return z, torch.sigmoid(logits), None
        z = gates.bernoulli(logits) if self.training else (logits > 0).to(logits)
        return z, torch.sigmoid(logits), gates.log_probability(z, logits)

    def _budgeted(self, scores: Tensor, selectable: Tensor, target: float | None) -> Selection:
        if target is None:
            raise ValueError(f"A gate of `kind={self.kind!r}` selects a share of the tokens: give it, `target=0.2`.")
        noisy = scores + gates.gumbel_noise(scores) if self.training else scores
        if self.kind == "sparsemax":
            budget = gates.budgets(selectable, target).to(scores)
            z = capped_simplex(noisy / self.temperature, budget, selectable)
        else:
            z = gates.top_k(noisy, selectable, target, self.temperature)
        probabilities = torch.sigmoid(scores - gates.edge(scores, selectable, target)) * selectable
        rate = gates.share(z.detach(), selectable)
        return Selection(z, probabilities, rate, gates.transitions(z, selectable))
