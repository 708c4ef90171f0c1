"""Which examples become the landmarks of a Nyström approximation; in the space of the kernel, seeded."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from lightning_interpret.functional.kernels import KernelMatrix
from lightning_interpret.names import check_seed, check_whole, choose

#: Examples that leverage scores are made of; past it they are those of a random sample, carried over to the others.
LEVERAGE_SAMPLE = 2000
#: Examples that ``greedy`` chooses among, and examples whose error it looks at: a random sample of more.
GREEDY_POOL, GREEDY_SAMPLE = 10_000, 1000

_SAME = 1e-10  # of k(x, x) + k(y, y): at this squared distance two examples are one


def choose_landmarks(
    matrix: KernelMatrix, count: int, method: str = "greedy", *, labels: Tensor | None = None, seed: int = 0
) -> Tensor:
    """Return the positions of the landmarks, long ``(count,)``, in the order in which they were chosen.

    An example that is equal to one that was chosen (by the kernel's own distance) is taken only where no others are
    left, and a warning says so.

    Args:
        matrix: The kernel matrix of the examples to choose from.
        count: How many landmarks.
        method: ``random``; ``balanced``, random with as many of each class as it has and the others need;
            ``k_means++``, with a probability that grows with the squared distance to the nearest one chosen (Arthur &
            Vassilvitskii, 2007); ``leverage``, by ridge leverage scores (Alaoui & Mahoney, 2015; Musco & Musco, 2017);
            ``greedy``, one after the other the example that takes most from the projection error of all (Farahat et
            al., 2011), O(n · count) products of a sample of 1,000, out of a sample of 10,000. (The example that is
            spanned least itself, the pivot of a Cholesky decomposition, is an outlier, and does worse than random.)
        labels: The classes, ``(n,)``; for ``balanced``.
        seed: Seed of what is drawn; the global random state is left alone.

    Raises:
        ValueError: If there are fewer examples than landmarks, fewer landmarks than classes, no labels for
            ``balanced``, or no such method.
    """
    check_whole(count=count)
    check_seed(seed)
    choose("method", method, METHODS)
    if matrix.size < count:
        raise ValueError(f"`count={count}`: there are only {matrix.size} examples to choose landmarks from.")
    if labels is not None and len(labels) != matrix.size:
        raise ValueError(f"There are {matrix.size} examples, but {len(labels)} labels.")
    generator = torch.Generator().manual_seed(seed)
    if method == "balanced":
        return _first_distinct(matrix, _balanced_order(labels, count, generator), count)
    return METHODS[method](matrix, count, generator)


def leverage_scores(matrix: KernelMatrix, ridge: float, sample: Tensor) -> Tensor:
    """Return the ridge leverage scores of all examples, ``(n,)``, or their estimate by a sample of them.

    τ_i = (k_ii − k_iS (K_SS + λ (s/n) I)⁻¹ k_Si) / λ, which is [K (K + λI)⁻¹]_ii where the sample S is everything
    (Musco & Musco, 2017).

    Args:
        matrix: K.
        ridge: λ, above 0.
        sample: Positions of the sample.
    """
    square = matrix.square(sample)
    square = square + ridge * len(sample) / matrix.size * torch.eye(len(sample))
    lower = torch.linalg.cholesky(square)
    solved = torch.linalg.solve_triangular(lower, matrix.columns(sample).T, upper=False)
    return ((matrix.diagonal() - solved.square().sum(dim=0)) / ridge).clamp(min=0)


def _random(matrix: KernelMatrix, count: int, generator: torch.Generator) -> Tensor:
    return _first_distinct(matrix, torch.randperm(matrix.size, generator=generator), count)


def _balanced_order(labels: Tensor | None, count: int, generator: torch.Generator) -> Tensor:
    """Return all examples in random order, one of each class at a time."""
    if labels is None:
        raise ValueError("`method='balanced'` needs the `labels` of the examples.")
    order = torch.randperm(len(labels), generator=generator)
    classes, own, sizes = labels.cpu()[order].unique(return_inverse=True, return_counts=True)
    if count < len(classes):
        raise ValueError(
            f"`count={count}` landmarks cannot stand for {len(classes)} classes: take at least one a class, or another "
            "`method`."
        )
    by_class = own.argsort(stable=True)
    starts = sizes.cumsum(0) - sizes
    turn = torch.empty_like(own)
    turn[by_class] = torch.arange(len(own)) - starts[own[by_class]]
    return order[turn.argsort(stable=True)]


def _leverage(matrix: KernelMatrix, count: int, generator: torch.Generator) -> Tensor:
    sample = torch.randperm(matrix.size, generator=generator)[:LEVERAGE_SAMPLE]
    ridge = float(matrix.diagonal().sum()) / count  # no landmark has to stand for more than its part of the trace
    scores = leverage_scores(matrix, ridge, sample) if ridge > 0 else torch.ones(matrix.size)
    keys = torch.rand(matrix.size, generator=generator, dtype=torch.float64).log() / scores.clamp(min=1e-300)
    return _first_distinct(matrix, keys.argsort(descending=True), count)  # drawn without putting back


def _k_means(matrix: KernelMatrix, count: int, generator: torch.Generator) -> Tensor:
    diagonal = matrix.diagonal()
    chosen = [int(torch.randint(matrix.size, (), generator=generator))]
    nearest = torch.full_like(diagonal, torch.inf)
    while True:
        place = torch.tensor(chosen[-1:])
        own = diagonal[chosen[-1]]
        distances = diagonal - 2 * matrix.columns(place)[:, 0] + own
        nearest = nearest.minimum(distances.where(distances > _SAME * (diagonal + own), 0.0))
        total = nearest.cumsum(0)
        if len(chosen) == count or total[-1] <= 0:
            return _filled(matrix, torch.tensor(chosen), count, generator)
        drawn = torch.rand(1, generator=generator, dtype=total.dtype) * total[-1]
        chosen.append(int(_drawn(total, nearest, drawn)))


def _drawn(total: Tensor, weights: Tensor, drawn: Tensor) -> Tensor:
    """Return the place that a number between 0 and the last of the running sums falls on, one of positive weight."""
    place = torch.searchsorted(total, drawn, right=True).clamp(max=len(total) - 1)
    return place if bool(weights[place] > 0) else weights.argmax()


def _greedy(matrix: KernelMatrix, count: int, generator: torch.Generator) -> Tensor:
    order = torch.randperm(matrix.size, generator=generator)
    pool, sample = order[:GREEDY_POOL].sort().values, order[:GREEDY_SAMPLE].sort().values
    missed = matrix(pool, sample)  # K less what the landmarks so far span, of which the squares are made small
    residual = matrix.diagonal(pool)
    least = 1e-10 * float(residual.max())
    columns = residual.new_zeros(len(pool), count)
    chosen: list[int] = []
    while len(chosen) < min(count, len(pool)):
        gain = torch.linalg.vector_norm(missed, dim=1).square() / residual
        place = int(gain.where(residual > least, -1.0).argmax())
        if float(residual[place]) <= least:  # the rest is in the span of those chosen
            break
        done, root = columns[:, : len(chosen)], residual[place].sqrt()
        column = (matrix(pool, pool[place : place + 1])[:, 0] - done @ done[place]) / root
        missed.addr_(column, missed[place] / root, alpha=-1)
        columns[:, len(chosen)] = column
        residual = residual - column.square()
        residual[place] = 0
        chosen.append(place)
    return _filled(matrix, pool[torch.tensor(chosen, dtype=torch.long)], count, generator)


def _filled(matrix: KernelMatrix, chosen: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return those chosen and, where they are too few, others at random."""
    if len(chosen) == count:
        return chosen
    order = torch.randperm(matrix.size, generator=generator)
    return _first_distinct(matrix, torch.cat([chosen, order[~torch.isin(order, chosen)]]), count)


def _first_distinct(matrix: KernelMatrix, order: Tensor, count: int) -> Tensor:
    """Return the first ``count`` of an order that are no duplicates of one before; what is left of these comes last."""
    chosen, passed, at = order[:0], order[:0], 0
    while len(chosen) < count and at < len(order):
        new = order[at : at + max(count - len(chosen), min(count, 64))]
        at += len(new)
        places = torch.cat([chosen, new])
        square = matrix.square(places)
        own = square.diagonal()
        lengths = own[:, None] + own
        same = ((lengths - 2 * square) <= _SAME * lengths).tril(-1).any(dim=1)
        same[: len(chosen)] = False
        chosen, passed = places[~same], torch.cat([passed, places[same]])
    if len(chosen) < count:
        warnings.warn(
            f"Only {len(chosen)} of the {matrix.size} examples differ by the kernel: the other "
            f"{count - len(chosen)} landmarks are duplicates, which add nothing.",
            stacklevel=4,
        )
    return torch.cat([chosen, passed])[:count]


METHODS: dict[str, Callable[[KernelMatrix, int, torch.Generator], Tensor]] = {
    "random": _random,
    "balanced": _random,
    "k_means++": _k_means,
    "leverage": _leverage,
    "greedy": _greedy,
}
