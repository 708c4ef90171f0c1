"""Gates over the tokens of a text: how z in [0, 1] is drawn and gets a gradient, what it costs, and a budget's choice.

Shapes are ``(B, T)``: B texts, padded to T tokens. Arguments are single precision or double.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

LOW, HIGH = -0.1, 1.1  # what a Kumaraswamy variable is stretched to, before it is clamped to [0, 1]
SMALLEST, LARGEST = 1e-6, 100.0  # its parameters
_NODES = 64


@dataclass(frozen=True)
class HardKumaraswamy:
    """z = clamp(−.1 + 1.2 K, 0, 1) with K of Kumaraswamy(a, b): a point mass at 0, one at 1, a density in between.

    Bastings, Aziz and Titov, 2019 (section 4). Cumulative distribution of K: F(k) = 1 − (1 − kᵃ)ᵇ.

    Args:
        a: First parameter.
        b: Second parameter, as many.
    """

    a: Tensor
    b: Tensor

    @classmethod
    def of_logits(cls, logits: Tensor) -> HardKumaraswamy:
        """Return the distributions of ``(…, 2)`` numbers: a and b are their softplus, within [1e-6, 100]."""
        a, b = F.softplus(logits).clamp(SMALLEST, LARGEST).unbind(dim=-1)
        return cls(a, b)

    @property
    def open(self) -> Tensor:
        """P(z ≠ 0); its sum over tokens is the expected L0."""
        return self._above(0.0)

    @property
    def zero(self) -> Tensor:
        """P(z = 0)."""
        return 1 - self._above(0.0)

    @property
    def one(self) -> Tensor:
        """P(z = 1)."""
        return self._above(1.0)

    @property
    def mean(self) -> Tensor:
        """E[z] = ∫₀¹ P(z > x) dx, by quadrature; that of K itself is off by up to .04."""
        places, weights = _quadrature(self.a)
        return HardKumaraswamy(self.a[..., None], self.b[..., None])._above(places) @ weights

    @property
    def likeliest(self) -> Tensor:
        """0 or 1 where that is likelier than the other and than anything in between; E[z] elsewhere."""
        zero, one, between = self.zero, self.one, self.open - self.one
        bound = torch.where(one > zero, 1.0, 0.0).to(self.a)
        return torch.where(torch.maximum(zero, one) > between, bound, self.mean)

    def sample(self, uniform: Tensor | None = None) -> Tensor:
        """Return z drawn by inversion, with its gradient in a and b.

        Args:
            uniform: Numbers in [0, 1) to draw by; they are kept within [.001, .999].
        """
        uniform = torch.rand_like(self.a) if uniform is None else uniform
        log_upper = torch.log1p(-uniform.clamp(1e-3, 1 - 1e-3))
        drawn = torch.exp(_log_one_minus_exp(log_upper / self.b) / self.a)
        return (LOW + (HIGH - LOW) * drawn).clamp(0, 1)

    def _above(self, x: Tensor | float) -> Tensor:
        """Return P(S > x) of the stretched variable S, for x in [0, 1]."""
        log_place = torch.log((torch.as_tensor(x).to(self.a) - LOW) / (HIGH - LOW))
        return torch.exp(self.b * _log_one_minus_exp(self.a * log_place))


def _log_one_minus_exp(x: Tensor) -> Tensor:
    """Return log(1 − eˣ) for x < 0."""
    return torch.log(-torch.expm1(x))


def _quadrature(like: Tensor) -> tuple[Tensor, Tensor]:
    """Return places and weights of Fejér's first rule on [0, 1]."""
    angles = (torch.arange(_NODES, dtype=like.dtype, device=like.device) + 0.5) * (math.pi / _NODES)
    j = torch.arange(1, _NODES // 2 + 1, dtype=like.dtype, device=like.device)
    weights = 1 - 2 * (torch.cos(2 * angles[:, None] * j) / (4 * j**2 - 1)).sum(dim=1)
    return (torch.cos(angles) + 1) / 2, weights / _NODES


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """Return the values of ``hard`` with the gradient of ``soft``."""
    return hard + (soft - soft.detach())


def binary_concrete(logits: Tensor, temperature: float = 1.0, uniform: Tensor | None = None) -> Tensor:
    """Draw z in {0, 1} with P(z = 1) = σ(logit), and the gradient of its relaxation, straight through.

    Maddison et al. and Jang et al., 2017; with two classes the Gumbel noise of one less that of the other is logistic.

    Args:
        logits: Log odds.
        temperature: Of the relaxation σ((logit + noise) / temperature).
        uniform: Numbers in [0, 1) to draw by.
    """
    noisy = logits + torch.logit(_uniform(logits, uniform))
    return straight_through((noisy > 0).to(logits), torch.sigmoid(noisy / temperature))


def bernoulli(logits: Tensor, uniform: Tensor | None = None) -> Tensor:
    """Draw z in {0, 1} with P(z = 1) = σ(logit), without a gradient."""
    return (_uniform(logits, uniform) < torch.sigmoid(logits.detach())).to(logits)


def log_probability(z: Tensor, logits: Tensor) -> Tensor:
    """Return log p(z) of each z in {0, 1} that is 1 with probability σ(logit)."""
    return -F.binary_cross_entropy_with_logits(logits, z, reduction="none")


def score_function(losses: Tensor, log_prob: Tensor, baseline: Tensor | float | None = None) -> Tensor:
    """Return a scalar whose gradient is that of the expected loss in what z is drawn by (REINFORCE, Williams, 1992).

    Args:
        losses: Loss of each text, ``(B,)``; its own gradient is not touched.
        log_prob: log p(z) of each, ``(B,)``.
        baseline: What is taken off each loss, which lowers the variance; by default the mean loss of the *others* of
            the batch, which they know nothing of, and 0 for a single one.
    """
    losses = losses.detach().to(log_prob)
    if baseline is None:
        baseline = (losses.sum() - losses) / max(len(losses) - 1, 1)
    return ((losses - baseline) * log_prob).mean()


def gumbel_noise(like: Tensor, uniform: Tensor | None = None) -> Tensor:
    """Draw −log(−log u)."""
    return -torch.log(-torch.log(_uniform(like, uniform)))


def _uniform(like: Tensor, uniform: Tensor | None) -> Tensor:
    tiny = torch.finfo(like.dtype).eps
    return (torch.rand_like(like) if uniform is None else uniform).clamp(tiny, 1 - tiny)


def top_k(scores: Tensor, selectable: Tensor, share: float, temperature: float = 1.0) -> Tensor:
    """Return z in {0, 1}, ``(B, T)``: what :func:`select` selects, with the gradient of a sigmoid, straight through.

    The sigmoid is of how far a score lies above the budget's edge, over the temperature: its gradient is there where a
    little more would have changed the selection, wherever the scores as a whole have got to. The edge gets none: with
    one, tokens were traded at the edge to tell the label by which were chosen, and fewer were the planted ones.
    """
    soft = torch.sigmoid((scores - edge(scores, selectable, share).detach()) / temperature) * selectable
    return straight_through(select(scores, selectable, share).to(scores), soft)


def edge(scores: Tensor, selectable: Tensor, share: float) -> Tensor:
    """Return the middle between the last score within the budget of each row and the next, ``(B, 1)``.

    It is the last one where there is no next, and 0 in rows of which nothing may be selected.
    """
    count, budget = selectable.sum(dim=1, keepdim=True), budgets(selectable, share)[:, None]
    ordered = scores.masked_fill(~selectable, -torch.inf).sort(dim=1, descending=True).values
    last = ordered.gather(1, (budget - 1).clamp(min=0))
    following = ordered.gather(1, budget.minimum(count - 1).clamp(min=0))
    return ((last + following) / 2).masked_fill(count == 0, 0)


def share(values: Tensor, selectable: Tensor) -> Tensor:
    """Return the mean of values over the selectable tokens of each row, ``(B,)``; 0 where there are none."""
    return (values * selectable).sum(dim=1) / selectable.sum(dim=1).clamp(min=1)


def expected_transitions(probabilities: Tensor, selectable: Tensor) -> Tensor:
    """Return the expected mean |z_t − z_{t+1}| of independent z in {0, 1}, ``(B,)``, over selectable neighbours."""
    p, q = probabilities[:, :-1], probabilities[:, 1:]
    return share(p * (1 - q) + (1 - p) * q, _neighbours(selectable))


def transitions(z: Tensor, selectable: Tensor) -> Tensor:
    """Return the mean |z_t − z_{t+1}|, ``(B,)``, over neighbours that are both selectable; 0 where there are none."""
    return share((z[:, 1:] - z[:, :-1]).abs(), _neighbours(selectable))


def _neighbours(selectable: Tensor) -> Tensor:
    return selectable[:, 1:] & selectable[:, :-1]


def budgets(selectable: Tensor, share: float) -> Tensor:
    """Return how many tokens of each row a share is, long ``(B,)``: one at least, where one may be selected.

    Raises:
        ValueError: If the share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"`share={share!r}` must be above 0 and at most 1: it is the share of tokens to select.")
    count = selectable.sum(dim=1)
    wide = torch.float32 if count.device.type == "mps" else torch.float64  # what Python's own round() sees
    return (count.to(wide) * share).round().long().clamp(min=1).minimum(count)


def select(scores: Tensor, selectable: Tensor, share: float, words: Tensor | None = None) -> Tensor:
    """Select the best max(1, round(share · n)) of the n selectable tokens of each row, bool ``(B, T)``.

    Of equal scores the first is taken; NaN is the worst. With words, whole ones are taken, each as good as its best
    token, the best first, as many as come nearest to the budget, one at least; of two that are as near, the fewer.

    Args:
        scores: Scores of the tokens, ``(B, T)``.
        selectable: Which may be selected, bool ``(B, T)``.
        share: The share to select, above 0 and at most 1.
        words: For each token which word it belongs to, long ``(B, T)``: neighbours with the same number are one word;
            a negative number is none, and its token stands alone.

    Raises:
        ValueError: If the share is none.
    """
    budget = budgets(selectable, share)
    scores = scores.detach()
    scores = scores if scores.dtype == torch.float64 else scores.float()
    lowest = torch.finfo(scores.dtype).min
    scores = scores.nan_to_num(lowest, neginf=lowest).masked_fill(~selectable, -torch.inf)
    if words is None:
        return (_ranks(scores) < budget[:, None]) & selectable
    starts = torch.ones_like(selectable)
    starts[:, 1:] = (words[:, 1:] != words[:, :-1]) | (words[:, 1:] < 0)
    word = starts.cumsum(dim=1) - 1
    best = torch.full_like(scores, -torch.inf).scatter_reduce(1, word, scores, "amax")
    size = torch.zeros_like(word).scatter_add(1, word, selectable.long())
    ranks = _ranks(best)
    taken = torch.zeros_like(size).scatter(1, ranks, size).cumsum(dim=1)
    count = (taken - budget[:, None]).abs().argmin(dim=1, keepdim=True) + 1
    return (ranks < count).gather(1, word) & selectable


def _ranks(scores: Tensor) -> Tensor:
    """Return each token's place among those of its row, the best first, equal ones in order."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)
