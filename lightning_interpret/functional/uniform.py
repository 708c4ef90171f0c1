"""The input at which a prediction is undecided, by ascent on its entropy."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_interpret.functional.path import Score, score_and_gradient

#: Entropy, as a share of the largest, at which the ascent ends.
ENOUGH = 0.99


def most_uniform(
    entropy: Score, start: Tensor, free: Tensor, reach: Tensor, *, steps: int = 64, chunk: int = 64
) -> tuple[Tensor, Tensor, Tensor]:
    """Return points of large entropy, the entropy there ``(N,)``, and how many gradients each row took ``(N,)``.

    Gradient ascent with the step (1 − H) / |∇H|², which is known as the largest entropy is (Polyak, 1987, chapter 5.3),
    never longer than ``reach``; a step that does not raise the entropy is tried again at a quarter of its length. Each
    row goes its own way, the same whichever rows are beside it.

    Args:
        entropy: The entropy as a share of the largest, at points of given rows.
        start: Where the ascent begins, ``(N, *shape)``.
        free: Bool, what may change; it broadcasts to ``start``.
        reach: Longest step of each row, ``(N,)``, in units of the points.
        steps: Most gradients that a row may take.
        chunk: Points in one pass.
    """

    def evaluated(points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        parts = zip(points.split(chunk), rows.split(chunk), strict=True)
        with torch.enable_grad():
            values, slopes = zip(*(score_and_gradient(entropy, *part) for part in parts), strict=True)
        return torch.cat(values), torch.where(free[rows], torch.cat(slopes), 0)

    free = free.expand(start.shape)
    points, rows = start.clone(), torch.arange(len(start), device=start.device)
    best, slope = evaluated(points, rows)
    share, taken = torch.ones_like(best), torch.ones_like(rows)
    for _ in range(steps - 1):
        size = slope.flatten(1).norm(dim=1)
        rows = ((best < ENOUGH) & (size > 0)).nonzero().flatten()
        if not len(rows):
            break
        length = share[rows] * torch.minimum((1 - best[rows]) / size[rows], reach[rows])
        tried = points[rows] + slope[rows] * (length / size[rows]).reshape(-1, *[1] * (points.dim() - 1))
        value, gradient = evaluated(tried, rows)
        taken[rows] += 1
        better = value > best[rows]
        share[rows] = torch.where(better, (2 * share[rows]).clamp(max=1), share[rows] / 4)
        rose = rows[better]
        points[rose], best[rose], slope[rose] = tried[better], value[better], gradient[better]
    return points, best, taken
