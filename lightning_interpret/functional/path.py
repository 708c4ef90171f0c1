"""Integrals of the gradient along the straight path from a baseline to an input, to a stated error.

Integrated gradients (Sundararajan, Taly and Yan, 2017, equation 1): (x − x') ⊙ ∫₀¹ ∇F(x' + α(x − x')) dα, whose sum is
F(x) − F(x'). The difference between the two is the error of the quadrature and is known for each example, so that work
goes where the error is: an example above its tolerance has the segments of its path with the largest errors split where
F moves, and only those are integrated anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from lightning_interpret.names import choose

RULES = ("gauss_legendre", "midpoint", "left", "right")

#: The scalar explained, for each of M points ``(M, *shape)`` of the rows ``(M,)`` that they belong to: ``(M,)``.
Score = Callable[[Tensor, Tensor], Tensor]


@lru_cache(maxsize=64)
def quadrature(rule: str, nodes: int) -> tuple[Tensor, Tensor]:
    """Return nodes in [0, 1] and weights that sum to 1, both float64 ``(nodes,)``.

    ``left`` and ``right`` are the Riemann sums that other tools use; ``gauss_legendre`` is exact for polynomials of
    degree 2·nodes − 1 (nodes and weights by Golub and Welsch, 1969).

    Raises:
        ValueError: If ``rule`` does not exist or ``nodes`` is not positive.
    """
    choose("rule", rule, RULES)
    if not isinstance(nodes, int) or nodes < 1:
        raise ValueError(f"`steps={nodes!r}` must be a whole number of at least 1.")
    if rule == "gauss_legendre":
        k = torch.arange(1, nodes, dtype=torch.float64)
        off_diagonal = k / (4 * k * k - 1).sqrt()
        roots, vectors = torch.linalg.eigh(torch.diag(off_diagonal, 1) + torch.diag(off_diagonal, -1))
        weights = vectors[0] ** 2
        return (roots + 1) / 2, weights / weights.sum()
    shift = {"left": 0.0, "midpoint": 0.5, "right": 1.0}[rule]
    places = (torch.arange(nodes, dtype=torch.float64) + shift) / nodes
    return places, torch.full((nodes,), 1 / nodes, dtype=torch.float64)


@dataclass(frozen=True)
class PathIntegral:
    """The result of :func:`integrate` for N rows.

    Attributes:
        contributions: ``(N, *shape)``, (x − x') ⊙ the mean gradient on the path.
        steps: ``(N,)``, nodes that the result stands on.
        gradients: ``(N,)``, gradients computed, those of segments split later included.
        forwards: ``(N,)``, forward passes without a gradient.
    """

    contributions: Tensor
    steps: Tensor
    gradients: Tensor
    forwards: Tensor


def score_and_gradient(score: Score, points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores ``(M,)`` and their gradients ``(M, *shape)`` at M points, without a graph.

    Raises:
        ValueError: If no gradient of the score reaches the points.
    """
    points = points.detach().requires_grad_()
    values = score(points, rows)
    if not values.requires_grad:
        raise ValueError(
            "No gradient of the score reaches the layer: the model runs what follows it under `no_grad` or detaches "
            "it, or uses another of its outputs than the first. Choose a layer after that place."
        )
    (gradient,) = torch.autograd.grad(values.sum(), points, materialize_grads=True)
    return values.detach(), gradient


def relative_error(error: Tensor, target: Tensor, baseline_target: Tensor, floor: float) -> Tensor:
    """Return |error| / max(|target − baseline_target|, floor)."""
    return error.abs() / (target - baseline_target).abs().clamp(min=floor)


def integrate(
    score: Score,
    inputs: Tensor,
    baselines: Tensor,
    *,
    target: Tensor,
    baseline_target: Tensor,
    steps: int = 16,
    rule: str = "gauss_legendre",
    tolerance: float | None = 0.01,
    max_steps: int = 256,
    error_floor: float = 0.01,
    chunk: int = 64,
) -> PathIntegral:
    """Integrate the gradient of ``score`` from ``baselines`` to ``inputs``.

    Args:
        score: The scalar explained, at points of given rows.
        inputs: x, ``(N, *shape)``.
        baselines: x', ``(N, *shape)``.
        target: F(x), ``(N,)``.
        baseline_target: F(x'), ``(N,)``.
        steps: Nodes of the rule on the whole path, and on each segment of one that is split.
        rule: Name of the quadrature rule.
        tolerance: Relative error above which a row is refined; ``None`` for fixed steps.
        max_steps: Cap on the nodes a row's result stands on.
        error_floor: Floor of the relative error's denominator, in units of the score.
        chunk: Points in one pass.

    Raises:
        ValueError: If ``rule`` does not exist, or ``steps`` is not positive.
    """
    difference = inputs - baselines
    path = _Path(score, baselines, difference, quadrature(rule, steps), chunk)
    count = len(inputs)
    everything = torch.arange(count, device=inputs.device)
    zero = torch.zeros(count, dtype=torch.float64, device=inputs.device)
    segments = path.segments(everything, zero, zero + 1, baseline_target.double(), target.double())
    forwards = torch.zeros(count, dtype=torch.long, device=inputs.device)
    gradients = torch.full_like(forwards, steps)

    while tolerance is not None:
        allowed = tolerance * (target - baseline_target).double().abs().clamp(min=error_floor)
        pieces = segments.count(count)
        off = segments.total_error(count).abs() > allowed
        # split is what holds more than its share of the error, as the largest segment of a row that is off always does
        split = off[segments.row] & (segments.error.abs() > (allowed / pieces)[segments.row])
        split &= segments.error.isfinite()
        split = _within(split, segments, max_steps // steps - pieces)
        if not split.any():
            break
        forwards += torch.bincount(segments.row[split], minlength=count)
        gradients += 2 * steps * torch.bincount(segments.row[split], minlength=count)
        segments = segments.keep(~split).join(path.halves(segments.keep(split)))

    contributions = torch.zeros_like(difference).index_add_(0, segments.row, segments.contribution)
    return PathIntegral(contributions, steps * segments.count(count), gradients, forwards)


@dataclass(frozen=True)
class _Segments:
    """S segments of the paths of N rows, with what each contributes and by how much it misses its part of ΔF."""

    row: Tensor
    low: Tensor
    high: Tensor
    low_value: Tensor
    high_value: Tensor
    middle: Tensor
    error: Tensor
    contribution: Tensor

    def keep(self, mask: Tensor) -> _Segments:
        return _Segments(*(values[mask] for values in vars(self).values()))

    def join(self, other: _Segments) -> _Segments:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Segments(*(torch.cat(pair) for pair in pairs))

    def count(self, rows: int) -> Tensor:
        return torch.bincount(self.row, minlength=rows)

    def total_error(self, rows: int) -> Tensor:
        return torch.zeros(rows, dtype=torch.float64, device=self.row.device).index_add_(0, self.row, self.error)


@dataclass(frozen=True)
class _Path:
    """The straight paths of N rows, and the rule by which a segment of them is integrated."""

    score: Score
    start: Tensor
    difference: Tensor
    rule: tuple[Tensor, Tensor]
    chunk: int

    def points(self, row: Tensor, place: Tensor) -> Tensor:
        shape = (-1,) + (1,) * (self.difference.dim() - 1)
        return self.start[row] + place.to(self.difference).reshape(shape) * self.difference[row]

    def segments(self, row: Tensor, low: Tensor, high: Tensor, low_value: Tensor, high_value: Tensor) -> _Segments:
        """Integrate S segments, all their nodes in passes of at most ``chunk`` points."""
        nodes, weights = (part.to(low.device) for part in self.rule)
        places = low[:, None] + (high - low)[:, None] * nodes
        values = torch.empty_like(places).flatten()
        mean = torch.zeros_like(self.difference[row])
        segment = torch.arange(len(row), device=row.device).repeat_interleave(len(nodes))
        weight = weights.repeat(len(row)).to(mean)
        for part in torch.arange(len(segment), device=row.device).split(self.chunk):
            of = segment[part]
            points = self.points(row[of], places.flatten()[part])
            values[part], gradient = _as_double(*score_and_gradient(self.score, points, row[of]))
            mean.index_add_(0, of, gradient * weight[part].reshape((-1,) + (1,) * (gradient.dim() - 1)))
        share = (high - low).to(mean).reshape((-1,) + (1,) * (mean.dim() - 1))
        contribution = mean * share * self.difference[row]
        error = contribution.flatten(1).double().sum(1) - (high_value - low_value)
        values = torch.cat([low_value[:, None], values.reshape(places.shape), high_value[:, None]], dim=1)
        places = torch.cat([low[:, None], places, high[:, None]], dim=1)
        return _Segments(row, low, high, low_value, high_value, _half_way(places, values), error, contribution)

    def halves(self, parents: _Segments) -> _Segments:
        """Integrate both halves of each segment, split where F has moved half of what it moves there."""
        row, middle = parents.row, parents.middle
        with torch.no_grad():
            parts = torch.arange(len(row), device=row.device).split(self.chunk)
            at_middle = torch.cat([self.score(self.points(row[p], middle[p]), row[p]).double() for p in parts])
        return self.segments(
            torch.cat([row, row]),
            torch.cat([parents.low, middle]),
            torch.cat([middle, parents.high]),
            torch.cat([parents.low_value, at_middle]),
            torch.cat([at_middle, parents.high_value]),
        )


def _half_way(places: Tensor, values: Tensor) -> Tensor:
    """Return for each segment the place where half of Σ|ΔF| is reached, kept off the ends."""
    moved = values.diff(dim=1).abs().nan_to_num().cumsum(dim=1)
    moved = torch.cat([torch.zeros_like(moved[:, :1]), moved], dim=1)
    half = moved[:, -1:] / 2
    right = torch.searchsorted(moved, half).clamp(1, moved.shape[1] - 1)
    left = right - 1
    span = (moved.gather(1, right) - moved.gather(1, left)).clamp(min=1e-300)
    inside = ((half - moved.gather(1, left)) / span).clamp(0, 1)
    place = places.gather(1, left) + inside * (places.gather(1, right) - places.gather(1, left))
    low, width = places[:, :1], places[:, -1:] - places[:, :1]
    still = moved[:, -1:] == 0
    place = torch.where(still, low + width / 2, place)
    return place.clamp(low + 0.1 * width, low + 0.9 * width).squeeze(1)


def _within(split: Tensor, segments: _Segments, room: Tensor) -> Tensor:
    """Keep of the segments to be split the ones with the largest errors, as many as each row has room for."""
    order = segments.error.abs().masked_fill(~split, -1).argsort(descending=True, stable=True)
    order = order[segments.row[order].argsort(stable=True)]  # by row, the largest error first
    row = segments.row[order]
    begin = torch.searchsorted(row, row, side="left")
    rank = torch.arange(len(row), device=row.device) - begin
    kept = torch.zeros_like(split)
    kept[order] = rank < room[row]
    return split & kept


def _as_double(values: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    return values.double(), gradient
