"""Attention as an order of importance: what happens to a decision when weights are erased (Serrano and Smith, 2019).

The model is known by its answers, as in :mod:`~lightning_interpret.functional.attention.debate`. What is left after
erasing is renormalised, so that the values are weighed as before; a distribution of which nothing is left is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_interpret.functional.attention.debate import Respond, answers
from lightning_interpret.functional.attention.distances import jensen_shannon


def attention_gradient(weights: Tensor, respond: Respond, *, chunk: int = 256) -> Tensor:
    """Return the gradient of the probability of each row's decision in its weights, ``(N, D, T)``."""
    found = []
    for rows in torch.arange(len(weights), device=weights.device).split(chunk):
        point = weights[rows].detach().clone().requires_grad_()
        found.append(torch.autograd.grad(respond(point, rows).amax(dim=1).sum(), point)[0])
    return torch.cat(found) if found else torch.zeros_like(weights)


def erased(weights: Tensor, kept: Tensor) -> Tensor:
    """Return the weights ``(M, D, T)`` with those not in ``kept`` ``(M, T)`` at 0 and the others of sum 1."""
    left = weights * kept[:, None].to(weights)
    total = left.sum(dim=-1, keepdim=True)
    return left / total.where(total > 0, torch.ones_like(total))


def without_one(weights: Tensor, places: Tensor, respond: Respond, *, chunk: int = 256) -> tuple[Tensor, Tensor]:
    """Return what erasing one place of each row does: divergence of the answers in nats, and if the decision flips.

    Each is ``(N,)`` (Serrano and Smith, 2019, section 4).

    Args:
        weights: ``(N, D, T)``.
        places: The place of each row, ``(N,)``.
        respond: The model.
        chunk: Distributions in one call of the model.
    """
    rows = torch.arange(len(weights), device=weights.device)
    kept = torch.ones_like(weights[:, 0], dtype=torch.bool).scatter(1, places[:, None], False)
    before, after = (answers(each, rows, respond, chunk) for each in (weights, erased(weights, kept)))
    return jensen_shannon(before, after), before.argmax(dim=1) != after.argmax(dim=1)


def until_flip(weights: Tensor, scores: Tensor, counts: Tensor, respond: Respond, *, chunk: int = 256) -> Tensor:
    """Return how many weights are erased, the highest scores first, until the decision flips, long ``(N,)``.

    0 where it never does, up to the last place that counts, which stays. Of equal scores the first in the text goes
    first (Serrano and Smith, 2019, section 5).

    Args:
        weights: ``(N, D, T)``.
        scores: The order, ``(N, T)``.
        counts: Bool ``(N, T)``, the places that may be erased.
        respond: The model.
        chunk: Distributions in one call of the model.
    """
    rows = torch.arange(len(weights), device=weights.device)
    decided = answers(weights, rows, respond, chunk).argmax(dim=1)
    order = scores.masked_fill(~counts, -torch.inf).argsort(dim=1, descending=True, stable=True)
    order = order.gather(1, (~counts).gather(1, order).byte().argsort(dim=1, stable=True))  # a score may be −∞ too
    place = order.argsort(dim=1)
    first = torch.zeros_like(rows)
    taken = torch.arange(1, weights.shape[-1] + 1, device=weights.device)
    of, which = (taken < counts.sum(dim=1, keepdim=True)).nonzero(as_tuple=True)
    if len(of) == 0:
        return first
    flipped = torch.zeros(len(weights), weights.shape[-1], dtype=torch.bool, device=weights.device)
    for some, count in zip(of.split(chunk), taken[which].split(chunk), strict=True):
        kept = (place[some] >= count[:, None]) | ~counts[some]
        flipped[some, count - 1] = (
            answers(erased(weights[some], kept), some, respond, chunk).argmax(dim=1) != decided[some]
        )
    found = flipped.any(dim=1)
    return torch.where(found, flipped.byte().argmax(dim=1) + 1, first)
