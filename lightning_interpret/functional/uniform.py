"""The input at which a prediction is undecided, by descent to the uniform distribution."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lightning_interpret.functional.baselines import entropy
from lightning_interpret.functional.passes import score_and_gradient

#: Entropy, as a share of the largest, at which the descent ends.
ENOUGH = 0.99


def most_uniform(
    log_probabilities: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    free: Tensor,
    reach: Tensor,
    *,
    steps: int = 64,
    chunk: int = 64,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return points of large entropy, the entropy there ``(N,)``, and how many gradients each row took ``(N,)``.

    What descends is the divergence D of the prediction from the uniform distribution, KL(1/C ‖ p), which is 0 where the
    entropy is largest, and steep also where the entropy is flat as one class is out of the question. The step is
    D / |∇D|², known as the smallest D is (Polyak, 1987, chapter 5.3), never longer than ``reach``; a step that does not
    lower D is tried again at a quarter of its length. Each row goes its own way, whichever rows are beside it.

    Args:
        log_probabilities: The log of the classes' probabilities ``(M, C)`` at M points of the rows ``(M,)``.
        start: Where the descent begins, ``(N, *shape)``.
        free: Bool, what may change; it broadcasts to ``start``.
        reach: Longest step of each row, ``(N,)``, in units of the points.
        steps: Most gradients that a row may take.
        chunk: Points in one pass.
    """
    free = free.expand(start.shape)

    def evaluated(points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        entropies: list[Tensor] = []

        def divergence(points: Tensor, rows: Tensor) -> Tensor:
            known = log_probabilities(points, rows)
            entropies.append(entropy(known.detach()))
            return -known.mean(dim=1) - math.log(known.shape[1])

        parts = zip(points.split(chunk), rows.split(chunk), strict=True)
        with torch.enable_grad():
            values, slopes = zip(*(score_and_gradient(divergence, *part) for part in parts), strict=True)
        return torch.cat(values), torch.where(free[rows], torch.cat(slopes), 0), torch.cat(entropies)

    points, rows = start.clone(), torch.arange(len(start), device=start.device)
    best, slope, reached = evaluated(points, rows)
    share, taken = torch.ones_like(best), torch.ones_like(rows)
    for _ in range(steps - 1):
        size = slope.flatten(1).norm(dim=1)
        rows = ((reached < ENOUGH) & (size > 0)).nonzero().flatten()
        if not len(rows):
            break
        length = share[rows] * torch.minimum(best[rows] / size[rows], reach[rows])
        tried = points[rows] - slope[rows] * (length / size[rows]).reshape(-1, *[1] * (points.dim() - 1))
        value, gradient, share_of = evaluated(tried, rows)
        taken[rows] += 1
        better = value < best[rows]
        share[rows] = torch.where(better, (2 * share[rows]).clamp(max=1), share[rows] / 4)
        fell = rows[better]
        points[fell], best[fell], slope[fell] = tried[better], value[better], gradient[better]
        reached[fell] = share_of[better]
    return points, reached, taken
