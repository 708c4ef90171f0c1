"""Expected gradients: the mean of a path attribution over a distribution of baselines, by samples.

(x − x') ⊙ ∇F(x' + α(x − x')), expected over x' ~ D and α ~ U(0, 1) (Erion, Janizek, Sturmfels, Lundberg and Lee, 2021,
equation 3; SHAP calls it GradientSHAP). Its sum is F(x) − E F(x').
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_interpret.functional.passes import Score, score_and_gradient


@dataclass(frozen=True)
class Plan:
    """Which baseline each of S samples is drawn from, where on its path, and what it counts for; each ``(S,)``."""

    baseline: Tensor
    place: Tensor
    weight: Tensor


def plan(samples: int, baselines: int, seed: int) -> Plan:
    """Return a plan of stratified samples, drawn by a generator of its own.

    Every baseline is sampled as often as every other one, but for one sample, and counts for as much; where there are
    more baselines than samples, some are drawn. The n samples of a baseline lie in n equal parts of its path, and the
    samples in one part, one a baseline, in equal parts of that. So every place is uniform in [0, 1).

    Args:
        samples: S.
        baselines: How many there are.
        seed: Of the generator.
    """
    generator = torch.Generator().manual_seed(seed)
    used = min(samples, baselines)
    drawn = torch.randperm(baselines, generator=generator)[:used]
    counts = torch.full((used,), samples // used)
    counts[: samples % used] += 1
    rounds = int(counts.max())
    finer = torch.stack([torch.randperm(used, generator=generator) for _ in range(rounds)], dim=1)
    shift = torch.rand(used, rounds, generator=generator, dtype=torch.float64)
    part = torch.arange(rounds).expand(used, rounds)
    kept = part < counts[:, None]
    place = (part + (finer + shift) / used) / counts[:, None]
    weight = (1 / (used * counts.double()))[:, None].expand(used, rounds)
    return Plan(drawn[:, None].expand(used, rounds)[kept], place[kept], weight[kept])


def expected_gradients(
    score: Score,
    inputs: Tensor,
    baselines: Tensor,
    *,
    samples: int = 128,
    seed: int = 0,
    chunk: int = 64,
    per_unit: Callable[[Tensor], Tensor] | None = None,
    order: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the contributions ``(N, *units)`` and their standard errors, of the same shape.

    The standard errors are those of neighbouring strata taken together (Cochran, *Sampling Techniques*, 1977, chapter
    5A.12): Σ (a − b)² over the pairs (a, b) of samples. They count what strata differ by, so that they are as a rule
    too large rather than too small.

    Args:
        score: The scalar explained, at points of given rows.
        inputs: x, ``(N, *shape)``.
        baselines: R baselines of each row, ``(N, R, *shape)``.
        samples: Samples of each row, an even number.
        seed: Of the samples; each row has the same.
        chunk: Points in one pass.
        per_unit: Sums values at features ``(M, *shape)`` to the units wanted; by default every feature is one.
        order: The rows ``(N,)`` in the order in which they share passes.

    Raises:
        ValueError: If ``samples`` is not even and positive.
    """
    if not isinstance(samples, int) or samples < 2 or samples % 2:
        raise ValueError(f"`samples={samples!r}` must be an even whole number of at least 2.")
    drawn, per_unit = plan(samples, baselines.shape[1], seed), per_unit or (lambda values: values)
    rows = torch.arange(len(inputs)) if order is None else order.cpu()
    row = rows.repeat_interleave(samples).to(inputs.device)
    sample = torch.arange(samples).repeat(len(rows)).to(inputs.device)
    which, place, weight = (values.to(inputs.device) for values in vars(drawn).values())
    total = squares = None
    halves = inputs.new_zeros(0)  # of a pair that a pass has cut
    pairs = row[::2]
    for r, s in zip(row.split(chunk), sample.split(chunk), strict=True):
        start = baselines[r, which[s]]
        difference = inputs[r] - start
        shape = (-1, *[1] * (inputs.dim() - 1))
        _, slope = score_and_gradient(score, start + place[s].to(inputs).reshape(shape) * difference, r)
        found = per_unit(slope * difference)
        found = found * weight[s].to(found).reshape(-1, *[1] * (found.dim() - 1))
        if total is None or squares is None:
            total, squares = (found.new_zeros(len(inputs), *found.shape[1:]) for _ in range(2))
        found = torch.cat([halves.reshape(-1, *found.shape[1:]), found])
        whole = len(found) // 2
        first, second, halves = found[: 2 * whole : 2], found[1 : 2 * whole : 2], found[2 * whole :]
        total.index_add_(0, pairs[:whole], first + second)
        squares.index_add_(0, pairs[:whole], (first - second).square())
        pairs = pairs[whole:]
    assert total is not None
    assert squares is not None
    return total, squares.sqrt()
