"""Other attention with the same answer: permuted weights and adversarial ones (Jain and Wallace, 2019).

A model is known here by its answers alone: ``respond(weights (M, D, T), rows (M,))`` returns the probabilities
``(M, C)`` of the rows ``(M,)`` when their attention is ``weights``: D distributions of each row over T places, one
where a text is pooled, one a head and position in a transformer. A distribution stays on its places: those of weight
above 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_interpret.functional.attention.distances import jensen_shannon, kullback_leibler, total_variation

Respond = Callable[[Tensor, Tensor], Tensor]


def answers(weights: Tensor, rows: Tensor, respond: Respond, chunk: int) -> Tensor:
    """Return the answers to ``weights`` ``(M, D, T)`` of given rows, so many in one call, without gradients."""
    parts = zip(weights.split(chunk), rows.split(chunk), strict=True)
    with torch.no_grad():
        return torch.cat([respond(some, of) for some, of in parts])


def permuted(
    weights: Tensor,
    respond: Respond,
    *,
    permutations: int = 100,
    generator: torch.Generator | None = None,
    chunk: int = 256,
) -> Tensor:
    """Return how much the answer changes when the weights are shuffled, ``(N,)``: median of the total variation.

    Each distribution is shuffled among its own places (Jain and Wallace, 2019, algorithm 1, whose change of the one
    output of a binary model is the total variation of two). 0 says that it does not matter where attention lies.

    Args:
        weights: ``(N, D, T)``.
        respond: The model.
        permutations: Shuffles of each row.
        generator: Where they are drawn from, on the CPU.
        chunk: Distributions in one call of the model.
    """
    if len(weights) == 0:
        return weights.new_zeros(0)
    rows = torch.arange(len(weights), device=weights.device)
    base = answers(weights, rows, respond, chunk)
    found = []
    for some in rows.repeat_interleave(permutations).split(chunk):
        drawn = torch.rand((len(some), *weights.shape[1:]), generator=generator).to(weights.device)
        shuffled = _shuffled(weights[some], drawn)
        found.append(total_variation(answers(shuffled, some, respond, chunk), base[some]))
    changes = torch.cat(found).view(len(weights), permutations).double().sort(dim=1).values
    return (changes[:, (permutations - 1) // 2] + changes[:, permutations // 2]) / 2


def _shuffled(weights: Tensor, drawn: Tensor) -> Tensor:
    """Return the weights above 0 of each distribution in the order of numbers that were drawn."""
    places = weights > 0
    to = (~places).byte().argsort(dim=-1, stable=True)  # its places first, as they lie
    of = drawn.masked_fill(~places, 2.0).argsort(dim=-1)  # its places first, in an order of chance
    return torch.zeros_like(weights).scatter(-1, to, weights.gather(-1, of))


@dataclass(frozen=True)
class Adversary:
    """The attention farthest from a model's own that was found to give the same answer.

    Attributes:
        weights: ``(N, D, T)``.
        divergence: Jensen-Shannon divergence from the model's own attention, in nats, ``(N,)``: at most ln 2.
        change: Total variation between the two answers, ``(N,)``.
    """

    weights: Tensor
    divergence: Tensor
    change: Tensor


def adversarial(
    weights: Tensor,
    respond: Respond,
    *,
    share: Tensor | None = None,
    candidates: int = 5,
    steps: int = 500,
    learning_rate: float = 0.01,
    allowed: float = 0.01,
    kept: float = 0.05,
    penalty: float = 500.0,
    generator: torch.Generator | None = None,
    chunk: int = 256,
) -> Adversary:
    """Return attention as far from the model's own, and with the same answer, as gradient ascent finds.

    Several distributions of each row, drawn at random (softmax of normal numbers of deviation 3), are moved away from
    the original and from one another by Adam with AMSGrad: they maximise Σᵢ JSD(αᵢ, α) + Σ_{i<j} JSD(αᵢ, αⱼ) / k(k−1)
    − λ/k Σᵢ max(0, TVD(ŷᵢ, ŷ) − ``allowed``) (Jain and Wallace, 2019, algorithm 2 and section 4.2.2). Of those whose
    answer is then within ``kept`` the farthest is returned, and the original if there is none. Rows have nothing to do
    with one another.

    Args:
        weights: ``(N, D, T)``.
        respond: The model; its answers have gradients in the weights.
        share: What each distribution counts for in the divergence, ``(N, D)``, sums of 1; equally by default.
        candidates: k, distributions of each row.
        steps: Steps of Adam.
        learning_rate: Of Adam, in the logits of the distributions.
        allowed: Change of the answer that costs nothing while they move.
        kept: Change of the answer up to which one counts.
        penalty: λ.
        generator: Where the starts are drawn from, on the CPU.
        chunk: Distributions in one call of the model.
    """
    if len(weights) == 0:
        return Adversary(weights, weights.new_zeros(0), weights.new_zeros(0))
    if share is None:
        share = weights.new_full(weights.shape[:2], 1 / max(1, weights.shape[1]))
    drawn = 3 * torch.randn((len(weights), candidates, *weights.shape[1:]), generator=generator).to(weights)
    pairs = torch.triu_indices(candidates, candidates, 1, device=weights.device)
    found = []
    for rows in torch.arange(len(weights), device=weights.device).split(max(1, chunk // candidates)):
        own, counts = weights[rows, None], share[rows, None]
        repeated = rows.repeat_interleave(candidates)
        with torch.no_grad():
            base = respond(weights[rows], rows)[:, None]

        def candidate(logits: Tensor, own: Tensor = own) -> Tensor:
            places = (own > 0) | ~(own > 0).any(dim=-1, keepdim=True)  # a distribution of nothing stays out of NaN
            return logits.masked_fill(~places, -torch.inf).softmax(dim=-1) * (own > 0)

        def changes(tried: Tensor, repeated: Tensor = repeated, base: Tensor = base) -> Tensor:
            answered = respond(tried.flatten(0, 1), repeated).unflatten(0, tried.shape[:2])
            return total_variation(answered, base)

        logits = drawn[rows].clone().requires_grad_()
        optimizer = torch.optim.Adam([logits], lr=learning_rate, amsgrad=True)
        for _ in range(steps):
            tried = candidate(logits)
            away = (jensen_shannon(tried, own) * counts).sum(dim=(1, 2))
            apart = (jensen_shannon(tried[:, pairs[0]], tried[:, pairs[1]]) * counts).sum(dim=(1, 2))
            over = (changes(tried) - allowed).clamp(min=0).mean(dim=1)
            gain = away + apart / max(1, candidates * (candidates - 1)) - penalty * over
            (logits.grad,) = torch.autograd.grad(-gain.sum(), logits)
            optimizer.step()
        with torch.no_grad():
            found.append(_farthest(candidate(logits), own, counts, changes, kept))
    return Adversary(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _farthest(
    tried: Tensor, own: Tensor, counts: Tensor, changes: Callable[[Tensor], Tensor], kept: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return weights, divergence and change of the farthest candidate that answers alike, the original among them."""
    change = changes(tried)
    away = (jensen_shannon(tried, own) * counts).sum(dim=2)
    every = torch.cat([own, tried], dim=1)
    change, away = (torch.cat([each.new_zeros(len(each), 1), each], dim=1) for each in (change, away))
    best = away.masked_fill(change > kept, -torch.inf).argmax(dim=1, keepdim=True)
    rows = torch.arange(len(own), device=own.device)
    return every[rows, best[:, 0]], away.gather(1, best)[:, 0], change.gather(1, best)[:, 0]


def uniform(weights: Tensor) -> Tensor:
    """Return each distribution ``(..., T)`` spread evenly over its places: attention that says nothing."""
    places = (weights > 0).to(weights)
    return places / places.sum(dim=-1, keepdim=True).clamp(min=1)


def adversary_loss(
    answer: Tensor,
    weights: Tensor,
    base_answer: Tensor,
    base_weights: Tensor,
    *,
    strength: float,
    share: Tensor | None = None,
) -> Tensor:
    """Return TVD(ŷ, ŷ_base) − λ KL(α ‖ α_base) of each row, ``(N,)``: what an adversary is trained on.

    One model is trained for a whole data set, so that it has to answer as the base does with other attention wherever
    it is asked (Wiegreffe and Pinter, 2019, equation 1, whose TVD of one score is here of any number of classes).

    Args:
        answer: Probabilities of the adversary, ``(N, C)``.
        weights: Its attention, ``(N, D, T)``.
        base_answer: Probabilities of the base model.
        base_weights: Its attention.
        strength: λ, how much another attention is worth.
        share: What each distribution counts for in the divergence, ``(N, D)``, sums of 1; equally by default.
    """
    apart = kullback_leibler(weights, base_weights)
    apart = apart.mean(dim=-1) if share is None else (apart * share).sum(dim=-1)
    return total_variation(answer, base_answer) - strength * apart
