"""Scores and gradients at points, in passes; rows that have a point in common share what leads from it to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar

import torch
from torch import Tensor

#: The scalar explained: of points ``(M, *shape)`` and the rows ``(M,)`` that they belong to, ``(M,)``. Where rows share
#: points ``(P, *shape)`` it is given a third, the point that each row is at, long ``(M,)``.
Score = Callable[..., Tensor]


#: What the score that is running has called its waists, where somebody asks.
_WAISTS: ContextVar[list[Tensor] | None] = ContextVar("lightning_interpret_waists", default=None)


def waist(values: Tensor) -> Tensor:
    """Say, within a score, that what it returns for each row comes from that row of ``values`` ``(M, ...)`` alone.

    So gradients of all rows lead back to there at once, however wide what follows is: scores of a vocabulary.
    """
    met = _WAISTS.get()
    if met is not None:
        met.append(values)
    return values


def same_place(example: Tensor, *ends: Tensor) -> Tensor:
    """Return for each of S segments, of an example and between ends ``(S,)``, the first that is the same one."""
    key = torch.stack([example.double(), *ends], dim=1)
    of = key.unique(dim=0, return_inverse=True)[1]
    index = torch.arange(len(of), device=of.device)
    return torch.full_like(index, len(of)).scatter_reduce(0, of, index, "amin")[of]


def passes(same: Tensor | None, place: Tensor, chunk: int) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yield for each pass its points, what is asked there, and the point of each that is asked.

    Places ``(S, n)`` of S segments are numbered as they lie. A segment has those of the segment that is the ``same``.
    """
    every = torch.arange(place.numel(), device=place.device)
    if same is None:
        for some in every.split(chunk):
            yield some, some, None
        return
    nodes = place.shape[1]
    shared = (same[:, None] * nodes + every[:nodes]).flatten()
    for point in shared.unique().split(chunk):
        asked = torch.isin(shared, point).nonzero().flatten()
        yield point, asked, torch.searchsorted(point, shared[asked])


def scores_at(score: Score, points: Tensor, rows: Tensor, at: Tensor | None) -> Tensor:
    """Return the scores ``(M,)`` of the rows; ``at`` is the point of each, or None for one each, in their order."""
    return score(points, rows) if at is None else score(points, rows, at)


def slopes(
    score: Score, points: Tensor, rows: Tensor, at: Tensor | None, of: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the scores ``(M,)``, and what comes ``of`` their gradients and rows, ``(M, *units)``.

    One forward pass serves all rows of a point; their gradients follow one after the other.
    """
    if at is None:
        values, gradient = score_and_gradient(score, points, rows)
        return values, of(gradient, rows)
    met: list[Tensor] = []
    points = points.detach().requires_grad_()
    token = _WAISTS.set(met)
    try:
        values = _reached(score(points, rows, at))
    finally:
        _WAISTS.reset(token)
    source, seed = values, torch.ones_like(values)
    if met and met[-1].requires_grad and len(met[-1]) == len(values):
        source = met[-1]
        (seed,) = torch.autograd.grad(values.sum(), source, materialize_grads=True)
    turn = _turn(at)
    found, last = None, int(turn.max())
    for k in range(last + 1):
        mine = turn == k
        own = torch.where(mine.reshape(-1, *(1,) * (seed.dim() - 1)), seed, 0)
        (gradient,) = torch.autograd.grad(source, points, own, materialize_grads=True, retain_graph=k < last)
        part = of(gradient[at[mine]], rows[mine])
        found = part.new_empty(len(rows), *part.shape[1:]) if found is None else found
        found[mine] = part
    assert found is not None
    return values.detach(), found


def _turn(at: Tensor) -> Tensor:
    """Return how many rows before each are at the same point."""
    order = at.argsort(stable=True)
    sorted_at = at[order]
    begin = torch.searchsorted(sorted_at, sorted_at, side="left")
    return torch.empty_like(at).scatter_(0, order, torch.arange(len(at), device=at.device) - begin)


def _reached(values: Tensor) -> Tensor:
    if not values.requires_grad:
        raise ValueError(
            "No gradient of the score reaches the layer: the model runs what follows it under `no_grad` or detaches "
            "it, or uses another of its outputs than the first. Choose a layer after that place."
        )
    return values


def score_and_gradient(score: Score, points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores ``(M,)`` and their gradients ``(M, *shape)`` at M points, without a graph.

    Raises:
        ValueError: If no gradient of the score reaches the points.
    """
    points = points.detach().requires_grad_()
    values = _reached(score(points, rows))
    (gradient,) = torch.autograd.grad(values.sum(), points, materialize_grads=True)
    return values.detach(), gradient
