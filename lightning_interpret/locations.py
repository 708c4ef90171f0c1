"""The scores of an image as they lie on it: a grid of locations, and what has no location."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

FINEST = 28  # locations a side in HTML and in the Interpret tab: more are neither seen nor read


@dataclass(frozen=True)
class Location:
    """One location: its row and column, counted from 1, and its score."""

    row: int
    column: int
    score: float


@dataclass(frozen=True)
class Grid:
    """Scores of an image, row by row, and those of units that have no location (CLS, registers).

    Attributes:
        shape: Rows and columns.
        scores: Scores row by row.
        outside: Scores of the units of no location.
        full: Rows and columns before any pooling.
        pooled: How many rows and columns of ``full`` each location stands for; fewer at the lower and right edge.
    """

    shape: tuple[int, int]
    scores: tuple[float, ...]
    outside: tuple[float, ...]
    full: tuple[int, int]
    pooled: tuple[int, int] = (1, 1)

    @classmethod
    def of(cls, scores: Sequence[float], special: Sequence[bool], shape: tuple[int, int] | None) -> Grid:
        """Return the grid of scores of which some are ``special``, of no location.

        Raises:
            ValueError: If there is not one score a location.
        """
        special = special or (False,) * len(scores)
        inside = tuple(score for score, out in zip(scores, special, strict=True) if not out)
        rows, columns = shape or (1, len(inside))
        if len(inside) != rows * columns:
            raise ValueError(
                f"`grid={(rows, columns)}` has {rows * columns} locations, but {len(inside)} have a score."
            )
        outside = tuple(score for score, out in zip(scores, special, strict=True) if out)
        return cls((rows, columns), inside, outside, (rows, columns))

    @property
    def scale(self) -> float:
        """The largest finite absolute score of a location, 0 where all are 0: what a picture divides by."""
        return max((abs(score) for score in self.scores if math.isfinite(score)), default=0.0)

    @property
    def size(self) -> float:
        """Σ |score| over the locations and what is outside."""
        return sum(map(abs, self.scores + self.outside))

    @property
    def strengths(self) -> list[float]:
        """The scores divided by :attr:`scale`, in [-1, 1], row by row; 0 where a score is not finite."""
        whole = self.scale or 1.0
        return [score / whole if math.isfinite(score) else 0.0 for score in self.scores]

    def strongest(self, limit: int) -> list[Location]:
        """Return the locations of the largest size, the largest first; what is not finite comes before them."""
        order = sorted(range(len(self.scores)), key=lambda i: (math.isfinite(self.scores[i]), -abs(self.scores[i])))
        return [Location(i // self.shape[1] + 1, i % self.shape[1] + 1, self.scores[i]) for i in order[:limit]]

    def pool(self, most: int = FINEST) -> Grid:
        """Return the grid with neighbours summed until it has at most ``most`` rows and columns: sums stay equal."""
        (rows, columns), (high, wide) = self.shape, (max(1, math.ceil(side / most)) for side in self.shape)
        if (high, wide) == (1, 1):
            return self
        shape = math.ceil(rows / high), math.ceil(columns / wide)
        sums = [[0.0] * shape[1] for _ in range(shape[0])]
        for i, score in enumerate(self.scores):
            sums[i // columns // high][i % columns // wide] += score
        pooled = self.pooled[0] * high, self.pooled[1] * wide
        return Grid(shape, tuple(score for row in sums for score in row), self.outside, self.full, pooled)

    def edges(self, index: int) -> tuple[float, float, float, float]:
        """Return where a location lies: ``(x0, y0, x1, y1)`` as shares of width and height."""
        row, column = divmod(index, self.shape[1])
        (rows, columns), (high, wide) = self.full, self.pooled
        x, y = column * wide, row * high
        return x / columns, y / rows, min(x + wide, columns) / columns, min(y + high, rows) / rows

    def said(self) -> list[str]:
        """Return what a picture leaves unsaid: how many locations there are, whether summed, and what is outside."""
        units = f"{len(self.outside)} unit" + "s" * (len(self.outside) > 1)
        return [
            f"{self.full[0]} × {self.full[1]} locations",
            *([f"{self.pooled[0]} × {self.pooled[1]} of them summed in one"] if self.pooled != (1, 1) else []),
            *([f"outside the grid ({units}): {sum(self.outside):+.3g}"] if self.outside else []),
        ]


def box_text(box: tuple[float, float, float, float]) -> str:
    """Return a box as text: its upper left and lower right corner, as shares of the image's width and height."""
    return "({:.2f}, {:.2f})–({:.2f}, {:.2f})".format(*box)
