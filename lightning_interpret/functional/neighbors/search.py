"""Exact nearest neighbours in memory that grows neither with the queries nor with what is searched.

Candidates are found by one matrix product a chunk, which loses digits where vectors are long and near each other; so
the mean is taken off first, and a few more candidates than asked for are kept and measured again as differences.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_interpret.names import check_whole, choose

METRICS = ("euclidean", "cosine")
MARGIN = 16  # candidates that are measured again beside the k
CHUNK = 2**24  # numbers of one chunk: 64 MB in single precision


def nearest(
    queries: Tensor,
    features: Tensor,
    ids: Tensor,
    k: int,
    *,
    metric: str = "euclidean",
    exclude: Tensor | None = None,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """Return the distances ``(N, k)`` and the positions ``(N, k)`` of the k nearest features, the nearest first.

    Of equally near ones the smaller id comes first. Where there are fewer than k, all are returned (with ``exclude``,
    all but one).

    Args:
        queries: ``(N, d)``; searched on their device, in single precision.
        features: ``(n, d)``, all finite; may be memory-mapped: it is read a chunk at a time.
        ids: Long ``(n,)``, the id of each row of ``features``, each once.
        k: Neighbours of each query.
        metric: ``euclidean``, or ``cosine`` for 1 − cosine; without a direction (norm 0) the distance is 1.
        exclude: Long ``(N,)``, an id that is no neighbour of this query: its own.
        chunk: Numbers held at once.

    Raises:
        ValueError: If ``k`` is no positive whole number, there is no such metric, or the widths differ.
    """
    check_search(queries, features, k, metric)
    k = min(k, len(features) - (exclude is not None))
    if not len(queries) or k < 1:
        none = queries.new_zeros(len(queries), max(0, k))
        return none.float(), none.long()
    size = max(1, min(256, chunk // ((k + MARGIN) * max(1, queries.shape[1]))))
    found = [
        _nearest(part, features, ids, k, metric, None if exclude is None else exclude[rows], chunk)
        for rows, part in _parts(queries, size)
    ]
    return torch.cat([distances for distances, _ in found]), torch.cat([places for _, places in found])


def rank(
    queries: Tensor, features: Tensor, ids: Tensor, places: Tensor, k: int, *, metric: str = "euclidean"
) -> tuple[Tensor, Tensor]:
    """Return the k nearest of each query's candidates, ``(N, k)`` distances and positions, measured exactly.

    Args:
        queries: ``(N, d)``.
        features: ``(n, d)``.
        ids: ``(n,)``.
        places: Long ``(N, c)``, positions of the candidates; −1 where there is none: its distance is infinite.
        k: Neighbours of each query.
        metric: ``euclidean`` or ``cosine``.
    """
    read = features[places.clamp(min=0).cpu()].to(queries)
    return _first(measured(queries[:, None], read, metric).masked_fill(places < 0, torch.inf), places, ids, k)


def measured(a: Tensor, b: Tensor, metric: str) -> Tensor:
    """Return the distance between vectors along the last dimension."""
    if metric == "cosine":
        return 1 - (F.normalize(a, dim=-1) * F.normalize(b, dim=-1)).sum(dim=-1)
    return torch.linalg.vector_norm(a - b, dim=-1)


def check_search(queries: Tensor, features: Tensor, k: int, metric: str) -> None:
    """Raise a ``ValueError`` for what cannot be searched."""
    choose("metric", metric, METRICS)
    check_whole(k=k)
    if queries.dim() != 2 or queries.shape[1:] != features.shape[1:]:
        raise ValueError(
            f"The queries have shape {tuple(queries.shape)}, but what is searched {tuple(features.shape)}: both must "
            "be (vectors, width), of one layer."
        )


def _nearest(
    queries: Tensor, features: Tensor, ids: Tensor, k: int, metric: str, exclude: Tensor | None, chunk: int
) -> tuple[Tensor, Tensor]:
    queries = queries.float()
    product = _product(queries, metric)
    width = max(1, chunk // max(len(queries), features.shape[1], 1))
    kept = queries.new_zeros(len(queries), 0), queries.new_zeros(len(queries), 0, dtype=torch.long)
    for rows, part in _parts(features, width):
        own, part = ids[rows].to(queries.device), part.to(queries)
        order = None if bool((own[1:] > own[:-1]).all()) else own.argsort(stable=True)
        if order is not None:  # ties go to the earlier column, which has to be the smaller id
            own, part = own[order], part[order]
        values = product(part)
        if exclude is not None:
            values = values.masked_fill(own == exclude.to(own.device)[:, None], torch.inf)
        columns = _smallest(values, k + MARGIN)
        far = values.gather(1, columns).isinf()
        exact = measured(queries[:, None], part[columns], metric).masked_fill(far, torch.inf)
        places = (columns if order is None else order[columns]) + rows.start
        kept = _first(torch.cat([kept[0], exact], dim=1), torch.cat([kept[1], places], dim=1), ids, k)
    return kept


def _product(queries: Tensor, metric: str) -> Callable[[Tensor], Tensor]:
    """Return what gives, for a chunk of features, values that are ordered as the distances are."""
    if metric == "cosine":
        unit = F.normalize(queries, dim=1)
        return lambda part: -(unit @ F.normalize(part, dim=1).T)
    centre = queries.mean(dim=0)  # features have much in common, which would cost the digits that tell them apart
    moved = queries - centre

    def squared(part: Tensor) -> Tensor:  # less the query's own square, which orders nothing
        part = part - centre
        return torch.addmm(part.square().sum(dim=1), moved, part.T, alpha=-2)

    return squared


def _smallest(values: Tensor, count: int) -> Tensor:
    """Return the columns ``(N, count)`` of the smallest values of each row, of equal ones the first, in any order."""
    count = min(count, values.shape[1])
    found = values.topk(min(count + 1, values.shape[1]), dim=1, largest=False)
    last = found.values[:, count - 1 : count]
    if bool((found.values[:, count:] > last).all()):
        return found.indices[:, :count]
    below, tied = values < last, values == last  # `topk` picks of these as it likes
    room = count - below.sum(dim=1, keepdim=True)
    chosen = below | (tied & (tied.cumsum(dim=1, dtype=torch.int32) <= room))
    return chosen.nonzero()[:, 1].reshape(len(values), count)


def _first(distances: Tensor, places: Tensor, ids: Tensor, k: int) -> tuple[Tensor, Tensor]:
    by_id = ids[places.cpu()].to(places.device).argsort(dim=1, stable=True)
    distances, places = distances.gather(1, by_id), places.gather(1, by_id)
    order = distances.argsort(dim=1, stable=True)[:, :k]
    return distances.gather(1, order), places.gather(1, order)


def _parts(values: Tensor, size: int) -> list[tuple[slice, Tensor]]:
    starts = range(0, len(values), size)
    return [(slice(i, min(i + size, len(values))), values[i : i + size]) for i in starts]
