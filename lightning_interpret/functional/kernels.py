"""Kernels k(x, y) of feature vectors, as matrix products, and a kernel matrix that is read in blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

KernelFunction = Callable[[Tensor, Tensor], Tensor]
"""k of every x and every y: ``(…, d) × (l, d) → (…, l)``."""

_BLOCK = 2**22  # numbers of one block: 32 MB in double precision
_DIAGONAL = 64  # rows of a square of which the diagonal is read


def linear(x: Tensor, y: Tensor) -> Tensor:
    """Return x·y: ``(…, d) × (l, d) → (…, l)``."""
    return F.linear(x, y)


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Return x·y / (‖x‖ ‖y‖), 0 of a vector without a direction: ``(…, d) × (l, d) → (…, l)``."""
    return F.linear(F.normalize(x, dim=-1), F.normalize(y, dim=-1))


def polynomial(x: Tensor, y: Tensor, scale: Tensor | float, offset: Tensor | float, degree: int) -> Tensor:
    """Return (scale · x·y + offset)^degree: ``(…, d) × (l, d) → (…, l)``."""
    return (F.linear(x, y) * scale + offset) ** degree


def rbf(x: Tensor, y: Tensor, scale: Tensor | float) -> Tensor:
    """Return exp(−scale · ‖x − y‖²): ``(…, d) × (l, d) → (…, l)``."""
    # k − 1 is 0 at the landmark itself: what relevance is handed on by, with the 1 a constant
    return 1 + torch.expm1(-(squared_distances(x, y) * scale))


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return ‖x − y‖² of every x and every y, ``(…, d) × (l, d) → (…, l)``, by one matrix product.

    The mean of y is taken off both first: products of vectors that are long and near each other lose digits. Rounding
    may leave it a little below 0; a clamp there would cut off gradients and relevance of an example at its landmark.
    """
    middle = y.mean(dim=0)
    x, y = x - middle, y - middle
    squares = x.square().sum(dim=-1, keepdim=True) + y.square().sum(dim=-1)
    return squares - 2 * F.linear(x, y)


def median_square(features: Tensor) -> float:
    """Return the median squared distance between two of the features that differ (the median heuristic).

    Args:
        features: ``(n, d)``. 1 is returned where all are the same.
    """
    distances = squared_distances(features, features)
    distances = distances[distances > 1e-10 * distances.max()]
    return float(distances.median()) if len(distances) else 1.0


@dataclass(frozen=True)
class KernelMatrix:
    """The kernel matrix K of n examples, of which parts are computed as they are asked for.

    All is done on the CPU in double precision: the same landmarks on every device.

    Of a kernel on raw inputs it is ``KernelMatrix(len(texts), lambda rows, columns: ...)``; what ``block`` has computed
    is best cached there.

    Attributes:
        size: n.
        block: K of some rows and some columns: long ``(r,)``, ``(c,)`` → ``(r, c)``.
    """

    size: int
    block: Callable[[Tensor, Tensor], Tensor]

    @classmethod
    def of_features(cls, kernel: KernelFunction, features: Tensor) -> KernelMatrix:
        """Return the kernel matrix of features ``(n, d)``."""
        features = features.detach().cpu()
        return cls(len(features), lambda rows, columns: kernel(features[rows].double(), features[columns].double()))

    @classmethod
    def of_matrix(cls, matrix: Tensor) -> KernelMatrix:
        """Return a kernel matrix ``(n, n)`` that is there.

        Raises:
            ValueError: If it is not square.
        """
        if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"A kernel matrix is (n, n), this one has shape {tuple(matrix.shape)}.")
        matrix = matrix.detach().cpu()
        return cls(len(matrix), lambda rows, columns: matrix[rows][:, columns])

    def __call__(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return K of some rows and some columns, ``(r, c)``.

        Raises:
            ValueError: If ``block`` returns another shape, or what is not finite.
        """
        found = self.block(rows, columns)
        if found.shape != (len(rows), len(columns)):
            raise ValueError(
                f"The kernel of {len(rows)} and {len(columns)} examples has shape {tuple(found.shape)}: it must be "
                f"({len(rows)}, {len(columns)})."
            )
        if not bool(found.isfinite().all()):
            raise ValueError("The kernel of some examples is not finite: look for NaN in them, or a large degree.")
        return found.detach().cpu().double()

    def columns(self, places: Tensor) -> Tensor:
        """Return the columns at some places, ``(n, len(places))``."""
        rows = torch.arange(self.size).split(max(1, _BLOCK // max(1, len(places))))
        return torch.cat([self(part, places) for part in rows])

    def square(self, places: Tensor) -> Tensor:
        """Return K of some of the examples."""
        return self(places, places)

    def diagonal(self, places: Tensor | None = None) -> Tensor:
        """Return k(x, x) of some examples, by default of all."""
        places = torch.arange(self.size) if places is None else places
        return torch.cat([self.square(part).diagonal() for part in places.split(_DIAGONAL)])
