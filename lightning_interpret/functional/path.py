"""Integrals of the gradient along the straight path from a baseline to an input, to a stated error.

Integrated gradients (Sundararajan, Taly and Yan, 2017, equation 1): (x − x') ⊙ ∫₀¹ ∇F(x' + α(x − x')) dα, whose sum is
F(x) − F(x'). What a network does on the path it does in a short part of it, elsewhere for each example; so each row has
a path parameter of its own, α(t), that goes slowly where a few forward passes saw F move. In t a nested rule is used
(Fejér's second): its nodes are all kept when their number is doubled.

Two errors of the quadrature are known at no cost, and rows that miss one of them are refined. The sum over the whole
path misses F(x) − F(x'): the attribution error. And the sum over the path up to each node misses F there, which is
known too: a unit's share that is wrong on one part of the path and made up for on another shows only in the second.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self

import torch
from torch import Tensor

from lightning_interpret.functional.passes import Score, passes, same_place, scores_at, slopes
from lightning_interpret.names import check_whole, choose

RULES = ("fejer", "gauss_legendre", "midpoint", "left", "right")

#: How the path parameter is made (``docs/integration.md`` has the figures): parts of the path whose ends are seen by a
#: forward pass, width of the kernel that smooths what is seen, and share of the density of nodes that is even.
PARTS, WIDTH, EVEN = 10, 0.16, 0.1


@lru_cache(maxsize=64)
def quadrature(rule: str, nodes: int) -> tuple[Tensor, Tensor]:
    """Return nodes in [0, 1] and weights that sum to 1, both float64 ``(nodes,)``.

    ``fejer`` is Fejér's second rule: every other one of 2n + 1 nodes is one of n. ``gauss_legendre`` is exact for
    polynomials of degree 2·nodes − 1 (nodes and weights by Golub and Welsch, 1969). ``left``, ``right`` and
    ``midpoint`` are the Riemann sums that other tools use.

    Raises:
        ValueError: If ``rule`` does not exist or ``nodes`` is not positive.
    """
    choose("rule", rule, RULES)
    check_whole(steps=nodes)
    if rule == "fejer":
        return (1 - _angles(nodes).cos()) / 2, running_weights(nodes)[-1]
    if rule == "gauss_legendre":
        k = torch.arange(1, nodes, dtype=torch.float64)
        off_diagonal = k / (4 * k * k - 1).sqrt()
        roots, vectors = torch.linalg.eigh(torch.diag(off_diagonal, 1) + torch.diag(off_diagonal, -1))
        weights = vectors[0] ** 2
        return (roots + 1) / 2, weights / weights.sum()
    shift = {"left": 0.0, "midpoint": 0.5, "right": 1.0}[rule]
    places = (torch.arange(nodes, dtype=torch.float64) + shift) / nodes
    return places, torch.full((nodes,), 1 / nodes, dtype=torch.float64)


@lru_cache(maxsize=16)
def running_weights(nodes: int) -> Tensor:
    """Return ``(nodes + 1, nodes)``: the weights of the integrals from 0 to each node of ``fejer``, and to 1.

    The integrals of the polynomial through the values, by its expansion in Chebyshev polynomials of the second kind
    (Waldvogel, 2006): with t = (1 − cos θ)/2, ∫₀ᵗ sin jθ / sin θ dt = (1 − cos jθ) / 2j.
    """
    angles, order = _angles(nodes), torch.arange(1, nodes + 1, dtype=torch.float64)
    expansion = torch.sin(order[:, None] * angles) * angles.sin() * (2 / (nodes + 1))
    ends = torch.cat([angles, torch.full((1,), math.pi, dtype=torch.float64)])
    return (1 - torch.cos(ends[:, None] * order)) / (2 * order) @ expansion


def _angles(nodes: int) -> Tensor:
    return torch.arange(1, nodes + 1, dtype=torch.float64) * (math.pi / (nodes + 1))


@dataclass(frozen=True)
class PathIntegral:
    """The result of :func:`integrate` for N rows.

    Attributes:
        contributions: ``(N, *units)``, (x − x') ⊙ the mean gradient on the path, as ``per_unit`` sums it.
        steps: ``(N,)``, nodes that the result stands on.
        gradients: ``(N,)``, gradients computed, those of segments split later included.
        forwards: ``(N,)``, forward passes without a gradient.
        partial_error: ``(N,)``, by how much the sums up to a node miss F there: the root mean square over nodes, as a
            share of Σ|contributions|. NaN for a rule other than ``fejer``.
    """

    contributions: Tensor
    steps: Tensor
    gradients: Tensor
    forwards: Tensor
    partial_error: Tensor


def relative_error(error: Tensor, attribution_target: Tensor, floor: float | Tensor) -> Tensor:
    """Return |error| / max(|attribution_target|, floor); the floor may be one a row."""
    return error.abs() / attribution_target.abs().clamp(min=floor)


def integrate(
    score: Score,
    inputs: Tensor,
    baselines: Tensor,
    *,
    target: Tensor,
    baseline_target: Tensor,
    steps: int = 16,
    rule: str = "fejer",
    tolerance: float | None = 0.01,
    max_steps: int = 256,
    error_floor: float | Tensor = 0.01,
    chunk: int = 64,
    per_unit: Callable[[Tensor], Tensor] | None = None,
    order: Tensor | None = None,
    example: Tensor | None = None,
) -> PathIntegral:
    """Integrate the gradient of ``score`` from ``baselines`` to ``inputs``.

    A row above the tolerance has its n nodes completed to 2n + 1; where that does not do, as at a kink, the segments
    of its path with the largest errors are halved, and the halves integrated anew with n nodes each.

    Args:
        score: The scalar explained, at points of given rows.
        inputs: x, ``(N, *shape)``.
        baselines: x', ``(N, *shape)``.
        target: F(x), ``(N,)``.
        baseline_target: F(x'), ``(N,)``.
        steps: Nodes of the rule, n.
        rule: Name of the quadrature rule; those other than ``fejer`` are along α itself, and are not refined.
        tolerance: Attribution error, and partial error, above which a row is refined; ``None`` for fixed steps.
        max_steps: Cap on the nodes a row's result stands on.
        error_floor: Floor of the errors' denominators, in units of the score: one, or ``(N,)``.
        chunk: Points in one pass.
        per_unit: Sums what is given for points, ``(M, *shape)``, to the units wanted; by default every feature is one.
            Its values at the nodes are held, ``(N, 2n + 1, *units)`` at most.
        order: The rows ``(N,)`` in the order in which they share passes.
        example: Long ``(N,)``, where rows of one number have one path, x and x' alike: they share its points, for which
            ``score`` is called once.

    Raises:
        ValueError: If ``rule`` does not exist or is not refined, or ``steps`` is not positive.
    """
    quadrature(rule, steps)
    if tolerance is not None and rule != "fejer":
        raise ValueError(f"`rule={rule!r}` has fixed steps: set `tolerance=None` with it, or use rule='fejer'.")
    count, start, end = len(inputs), baseline_target.double(), target.double()
    rows = torch.arange(count, device=inputs.device) if order is None else order.to(inputs.device)
    zero, forwards = torch.zeros_like(end), torch.zeros_like(rows)
    path = _Path(score, baselines, inputs - baselines, chunk, per_unit or (lambda values: values), rule, example)
    if rule == "fejer":
        places = torch.arange(1, PARTS, dtype=torch.float64, device=inputs.device) / PARTS
        seen = path.values(rows, places.expand(count, -1))[rows.argsort()]
        moved = torch.cat([start[:, None], seen, end[:, None]], dim=1).diff(dim=1).abs()
        path, forwards = replace(path, moved=path.shared(moved)), forwards + len(places)
    sample = path.sample(rows, zero, zero + 1, steps)
    segments = path.segments(rows, zero, zero + 1, start[rows], end[rows], sample)
    gradients, finer = torch.full_like(rows, steps), 2 * steps + 1

    if tolerance is not None and finer <= max_steps:
        allowed = tolerance * (end - start).abs().clamp(min=error_floor)
        off = segments.wanting(allowed, tolerance, error_floor)
        gradients += (finer - steps) * segments.total(off.long(), count)
        if off.any():
            segments = segments.keep(~off).join(path.doubled(segments.keep(off), sample.keep(off)))
        while True:
            room = (max_steps - segments.total(segments.nodes, count)) // steps
            split = _within(segments.wanting(allowed, tolerance, error_floor), segments, room)
            if not split.any():
                break
            gradients += 2 * steps * segments.total(split.long(), count)
            forwards = forwards + segments.total(split.long(), count)
            segments = segments.keep(~split).join(path.halves(segments.keep(split), steps))

    return PathIntegral(
        segments.total(segments.contribution, count),
        segments.total(segments.nodes, count),
        gradients,
        forwards,
        segments.partial_error(count, error_floor),
    )


@dataclass(frozen=True)
class _Parts:
    """Tensors of S rows that are kept and joined together."""

    def keep(self, mask: Tensor) -> Self:
        return type(self)(*(values[mask] for values in vars(self).values()))

    def join(self, other: Self) -> Self:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return type(self)(*(torch.cat(pair) for pair in pairs))


@dataclass(frozen=True)
class _Sample(_Parts):
    """What is found at n nodes of S segments: what each node counts for without its weight, F, and each unit's dF/dα.

    ``ends`` are the α of the segments' ends ``(S, 2)``, ``slope`` is ``(S, n, *units)``.
    """

    ends: Tensor
    speed: Tensor
    value: Tensor
    slope: Tensor

    def interleave(self, new: _Sample) -> _Sample:
        """Return the sample at 2n + 1 nodes, of which ``new`` has the first and every other one."""
        merged = [new.ends]
        for old, added in zip(list(vars(self).values())[1:], list(vars(new).values())[1:], strict=True):
            both = added.new_empty(len(old), old.shape[1] + added.shape[1], *old.shape[2:])
            both[:, 1::2], both[:, ::2] = old, added
            merged.append(both)
        return _Sample(*merged)


@dataclass(frozen=True)
class _Segments(_Parts):
    """S segments of the paths of N rows, by t: what each contributes, by how much it misses its part of ΔF (``error``).

    ``missed`` is the mean square over its nodes of what the sum up to a node misses.
    """

    row: Tensor
    low: Tensor
    high: Tensor
    low_value: Tensor
    high_value: Tensor
    nodes: Tensor
    contribution: Tensor
    error: Tensor
    missed: Tensor

    def total(self, values: Tensor, rows: int) -> Tensor:
        """Return the sum of the segments' values over each of N rows."""
        return values.new_zeros(rows, *values.shape[1:]).index_add_(0, self.row, values)

    def size(self, rows: int, floor: float | Tensor) -> Tensor:
        return self.total(self.contribution, rows).double().flatten(1).abs().sum(dim=1).clamp(min=floor)

    def partial_error(self, rows: int, floor: float | Tensor) -> Tensor:
        return self.total(self.missed * (self.high - self.low), rows).sqrt() / self.size(rows, floor)

    def wanting(self, allowed: Tensor, tolerance: float, floor: float | Tensor) -> Tensor:
        """Return which segments hold more than their share of an error of their row that is too large."""
        rows = len(allowed)
        off = self.total(self.error, rows).abs() > allowed
        share = (allowed / self.total(torch.ones_like(self.row), rows))[self.row]
        wrong = off[self.row] & (self.error.abs() > share)
        uneven = self.partial_error(rows, floor) > tolerance
        wrong |= uneven[self.row] & (self.missed.sqrt() > tolerance * self.size(rows, floor)[self.row])
        return wrong & self.error.isfinite()


@dataclass(frozen=True)
class _Path:
    """The straight paths of N rows, the rule on them, and how much F moves on each part, or None for t = α.

    Rows of one ``example`` have one path and one parameter, so that their segments share points.
    """

    score: Score
    start: Tensor
    difference: Tensor
    chunk: int
    per_unit: Callable[[Tensor], Tensor]
    rule: str
    example: Tensor | None = None
    moved: Tensor | None = None

    def shared(self, moved: Tensor) -> Tensor:
        """Return how much F moves on each part, the mean of the shares of the rows of each example."""
        if self.example is None:
            return moved
        share = moved / moved.sum(dim=1, keepdim=True).clamp(min=1e-300)
        return share.new_zeros(share.shape).index_add_(0, self.example, share.nan_to_num(nan=0))[self.example]

    def same(self, row: Tensor, *ends: Tensor) -> Tensor | None:
        """Return for each of S segments the first that has the same points; None where each has its own."""
        return None if self.example is None else same_place(self.example[row], *ends)

    def parameter(self, row: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return (t, torch.ones_like(t)) if self.moved is None else parameter(t, self.moved[row])

    def points(self, row: Tensor, place: Tensor) -> Tensor:
        shape = (-1,) + (1,) * (self.difference.dim() - 1)
        return self.start[row] + place.to(self.difference).reshape(shape) * self.difference[row]

    def values(self, row: Tensor, place: Tensor, *ends: Tensor) -> Tensor:
        """Return F at α ``(S, n)`` of S rows, without gradients; those of the same ``ends`` have the same α."""
        of, flat = row.repeat_interleave(place.shape[1]), place.flatten()
        found = flat.new_empty(len(flat))
        with torch.no_grad():
            for point, asked, at in passes(self.same(row, *ends), place, self.chunk):
                points = self.points(of[point], flat[point])
                found[asked] = scores_at(self.score, points, of[asked], at).double()
        return found.reshape(place.shape)

    def sample(self, row: Tensor, low: Tensor, high: Tensor, nodes: int, *, new: bool = False) -> _Sample:
        """Compute values and slopes at the nodes of S segments, or at those ``new`` since n; in passes of ``chunk``."""
        t = quadrature(self.rule, nodes)[0].to(low)[:: 2 if new else 1]
        t = torch.cat([t, t.new_tensor([0, 1])])
        place, speed = self.parameter(row, low[:, None] + (high - low)[:, None] * t)
        place, ends, value, slope = place[:, :-2], place[:, -2:], place.new_empty(place[:, :-2].numel()), None
        of, flat = row.repeat_interleave(place.shape[1]), place.flatten()
        for point, asked, at in passes(self.same(row, low, high), place, self.chunk):
            rows, points = of[asked], self.points(of[point], flat[point])
            found = slopes(
                self.score, points, rows, at, lambda gradient, r: self.per_unit(gradient * self.difference[r])
            )
            slope = found[1].new_empty(len(flat), *found[1].shape[1:]) if slope is None else slope
            value[asked], slope[asked] = found[0].double(), found[1]
        assert slope is not None
        return _Sample(ends, speed[:, :-2], value.reshape(place.shape), slope.reshape(*place.shape, *slope.shape[1:]))

    def segments(
        self, row: Tensor, low: Tensor, high: Tensor, low_value: Tensor, high_value: Tensor, sample: _Sample
    ) -> _Segments:
        """Integrate S segments; the weights of each sum to its length, so that a constant slope has no error."""
        nodes = sample.value.shape[1]
        weights = quadrature(self.rule, nodes)[1].to(sample.speed) * sample.speed
        scale = (sample.ends[:, 1] - sample.ends[:, 0])[:, None] / weights.sum(dim=1, keepdim=True)
        slope = sample.slope.flatten(2)
        found = torch.einsum("sn,snu->su", (weights * scale).to(slope), slope)
        error = found.double().sum(dim=1) - (high_value - low_value)
        missed = torch.full_like(error, math.nan)
        if self.rule == "fejer":
            change = slope.double().sum(dim=2) * sample.speed * scale
            upto = change @ running_weights(nodes)[:-1].T.to(change)
            missed = (upto - (sample.value - low_value[:, None])).square().mean(dim=1)
        contribution = found.reshape(-1, *sample.slope.shape[2:])
        counted = torch.full_like(row, nodes)
        return _Segments(row, low, high, low_value, high_value, counted, contribution, error, missed)

    def doubled(self, old: _Segments, sample: _Sample) -> _Segments:
        """Return segments of n nodes with 2n + 1, the n among them."""
        nodes = 2 * sample.value.shape[1] + 1
        added = self.sample(old.row, old.low, old.high, nodes, new=True)
        ends = old.row, old.low, old.high, old.low_value, old.high_value
        return self.segments(*ends, sample.interleave(added))

    def halves(self, old: _Segments, nodes: int) -> _Segments:
        """Return both halves of segments."""
        middle = (old.low + old.high) / 2
        at_middle = self.values(old.row, self.parameter(old.row, middle[:, None])[0], old.low, old.high)[:, 0]
        row, low, high = torch.cat([old.row] * 2), torch.cat([old.low, middle]), torch.cat([middle, old.high])
        low_value = torch.cat([old.low_value, at_middle])
        high_value = torch.cat([at_middle, old.high_value])
        return self.segments(row, low, high, low_value, high_value, self.sample(row, low, high, nodes))


def parameter(t: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Return α(t) and dα/dt, float64 ``(R, n)``, for t ``(R, n)``: slow where F moves.

    dt/dα is the density of nodes: an even share, and a share by what F moves, smoothed by the heat kernel of [0, 1]. As
    a cosine series it is exactly even where F moves evenly, and analytic, so that the nested rule keeps its rate of
    convergence.

    Args:
        t: Values in (0, 1).
        moved: |ΔF| on each part of the path, ``(R, parts)``; where it is nothing, or no number, α is t.
    """
    parts = moved.shape[1]
    share = moved.nan_to_num(nan=0, posinf=0)
    share = (1 - EVEN) * share / share.sum(dim=1, keepdim=True).clamp(min=1e-300)
    frequency = math.pi * torch.arange(1, parts, dtype=torch.float64, device=t.device)
    middle = (torch.arange(parts, dtype=torch.float64, device=t.device) + 0.5) / parts
    series = share @ torch.cos(middle[:, None] * frequency) * 2 * torch.exp(-((frequency * WIDTH) ** 2) / 2)

    def density_to(place: Tensor) -> Tensor:
        return place + (torch.sin(place[..., None] * frequency) / frequency * series[:, None]).sum(dim=-1)

    low, high = torch.zeros_like(t), torch.ones_like(t)
    for _ in range(50):  # by halves: no start to choose, and no step that could leave the interval
        place = (low + high) / 2
        short = density_to(place) < t
        low, high = torch.where(short, place, low), torch.where(short, high, place)
    density = 1 + (torch.cos(place[..., None] * frequency) * series[:, None]).sum(dim=-1)
    return place, 1 / density


def _within(split: Tensor, segments: _Segments, room: Tensor) -> Tensor:
    """Keep of the segments to be split the ones with the largest errors, as many as each row has room for."""
    largest = torch.maximum(segments.error.abs(), segments.missed.sqrt())
    order = largest.masked_fill(~split, -1).argsort(descending=True, stable=True)
    order = order[segments.row[order].argsort(stable=True)]  # by row, the largest error first
    row = segments.row[order]
    begin = torch.searchsorted(row, row, side="left")
    rank = torch.arange(len(row), device=row.device) - begin
    kept = torch.zeros_like(split)
    kept[order] = rank < room[row]
    return split & kept
