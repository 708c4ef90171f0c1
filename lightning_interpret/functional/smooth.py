"""Gradients around a point: their mean, their mean square and their variance, with standard errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_interpret.functional.passes import Score, score_and_gradient
from lightning_interpret.names import choose

MODES = ("mean", "squared", "variance")


@dataclass
class Moments:
    """Mean and central moments up to the fourth of values seen one after another; no value is kept.

    Welford (1962) for the first two, Pébay (2008, equation 2.1) for all; sums over the ``count`` values seen, float64.
    """

    mean: Tensor
    second: Tensor
    third: Tensor
    fourth: Tensor
    count: int = 0

    @classmethod
    def like(cls, values: Tensor) -> Moments:
        """Return the moments of no values of this shape."""
        mean, second, third, fourth = (torch.zeros_like(values, dtype=torch.float64) for _ in range(4))
        return cls(mean, second, third, fourth)

    @classmethod
    def join(cls, parts: Sequence[Moments], places: Tensor) -> Moments:
        """Return the moments of the rows of several parts, which saw as many values each, gathered at ``places``."""

        def rows(name: str) -> Tensor:
            return torch.cat([getattr(part, name) for part in parts])[places]

        return cls(rows("mean"), rows("second"), rows("third"), rows("fourth"), parts[0].count)

    def add(self, value: Tensor) -> None:
        """See one more value."""
        before, self.count = self.count, self.count + 1
        n, delta = self.count, value.double() - self.mean
        step = delta / n
        square = delta * step * before
        self.mean += step
        self.fourth += square * step**2 * (n * n - 3 * n + 3) + 6 * step**2 * self.second - 4 * step * self.third
        self.third += square * step * (n - 2) - 3 * step * self.second
        self.second += square

    def estimate(self, mode: str) -> tuple[Tensor, Tensor]:
        """Return the mean, the mean square or the variance, and its standard error (NaN of a single value).

        Raises:
            ValueError: If ``mode`` does not exist.
        """
        n, mean = self.count, self.mean
        variance = self.second / (n - 1) if n > 1 else torch.full_like(mean, torch.nan)
        if choose("mode", mode, MODES) == "mean":
            return mean, (variance / n).sqrt()
        m2, m3, m4 = self.second / n, self.third / n, self.fourth / n
        if mode == "variance":
            return variance, ((m4 - variance**2 * (n - 3) / (n - 1)) / n).sqrt() if n > 1 else variance
        spread = m4 + 4 * mean * m3 + 4 * mean**2 * m2 - m2**2  # the variance of the squares
        error = (spread.clamp(min=0) / (n - 1)).sqrt() if n > 1 else torch.full_like(mean, torch.nan)
        return mean**2 + m2, error


def smoothed(
    score: Score,
    inputs: Tensor,
    scale: Tensor,
    noisy: Tensor,
    *,
    samples: int,
    seed: int,
    chunk: int = 64,
    order: Tensor | None = None,
    of: Callable[[Tensor, Tensor], Tensor] = lambda gradient, rows: gradient,
) -> Moments:
    """Return the moments over samples of the gradient at x + ε, ε ~ N(0, scale²) (Smilkov et al., 2017).

    Each row has a generator of its own and as many draws as it has noisy features: neither its place in the batch nor
    how the batch is padded changes its noise. Rows with as many share it.

    Args:
        score: The scalar explained, at points of given rows.
        inputs: x, ``(N, *shape)``.
        scale: Standard deviation of the noise of each row, ``(N,)``.
        noisy: Where there is noise, bool ``(N, *shape)``.
        samples: Points for each row.
        seed: Where each generator starts.
        chunk: Points in one pass.
        order: The rows ``(N,)`` in the order in which they share passes.
        of: What is taken of the gradients ``(M, *shape)`` of rows ``(M,)``.
    """
    rows = torch.arange(len(inputs), device=inputs.device) if order is None else order.to(inputs.device)
    counts, everything = noisy.flatten(1).sum(dim=1).tolist(), []
    for part in rows.split(chunk):
        generators = [torch.Generator(inputs.device).manual_seed(seed) for _ in part]
        moments, together = None, max(1, chunk // len(part))
        for begin in range(0, samples, together):
            times = min(together, samples - begin)
            points = inputs[part].repeat(times, *(1,) * (inputs.dim() - 1))
            for i, place in enumerate(part.tolist() * times):
                noise = torch.randn(
                    counts[place], generator=generators[i % len(part)], dtype=inputs.dtype, device=inputs.device
                )
                points[i, noisy[place]] += scale[place] * noise
            many = part.repeat(times)
            found = of(score_and_gradient(score, points, many)[1], many)
            moments = Moments.like(found[: len(part)]) if moments is None else moments
            for value in found.split(len(part)):
                moments.add(value)
        assert moments is not None
        everything.append(moments)
    return Moments.join(everything, rows.argsort())
