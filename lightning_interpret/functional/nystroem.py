"""The Nyström approximation: K ≈ C K_L⁺ Cᵀ, of a kernel by some landmarks (Williams & Seeger, 2001).

C = k(x, L) is mapped to φ = C K_L^(−1/2), so that φ φᵀ is the approximation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_interpret.functional.kernels import KernelMatrix

_ASYMMETRY = 1e-4  # of the largest entry: what single precision leaves of a symmetric kernel
_ROWS = 512


@dataclass(frozen=True)
class Root:
    """The inverse root of a kernel matrix.

    Attributes:
        factor: K^(−1/2) = U S^(−1/2) Uᵀ over the eigenvalues that are kept, ``(l, l)`` in double precision, on the CPU.
        rank: How many are kept.
        negative: The lowest eigenvalue as a share of the largest, where it is negative past the threshold; else 0.
            Such a kernel is indefinite, and the part of it that is no inner product is dropped.
    """

    factor: Tensor
    rank: int
    negative: float = 0.0


@dataclass(frozen=True)
class ApproximationError:
    """How far the approximation is from the kernel matrix of a sample.

    Attributes:
        gram: ‖K − φ φᵀ‖ / ‖K‖ (Frobenius).
        projection: Mean of k(x, x) − ‖φ(x)‖², what of an example the landmarks do not span, as a share of the mean of
            k(x, x).
    """

    gram: float
    projection: float


def inverse_root(matrix: Tensor, rtol: float = 1e-6) -> Root:
    """Return K^(−1/2), with the eigenvalues under ``rtol`` times the largest dropped.

    The symmetric root is U S^(−1/2) up to a rotation. Its columns belong to the landmarks one by one, and change
    little where the kernel changes little. Without the threshold duplicated landmarks give a factor near 1e6.

    Args:
        matrix: The kernel matrix K of the landmarks, ``(l, l)``.
        rtol: The threshold.

    Raises:
        ValueError: If K is not square, finite and symmetric, or has no positive eigenvalue.
    """
    if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise ValueError(f"The landmarks' kernel matrix has shape {tuple(matrix.shape)}: it must be (l, l), l > 0.")
    matrix = matrix.detach().cpu().double()
    if not bool(matrix.isfinite().all()):
        raise ValueError("The landmarks' kernel matrix is not finite: look for NaN in features, or a large degree.")
    if float((matrix - matrix.T).abs().max()) > _ASYMMETRY * float(matrix.abs().max()):
        raise ValueError("The landmarks' kernel matrix is not symmetric: a kernel has k(x, y) = k(y, x).")
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    largest = float(values[-1])
    if largest <= 0:
        raise ValueError(f"The landmarks' kernel matrix has no positive eigenvalue (the largest is {largest:g}).")
    kept = values > rtol * largest
    vectors = vectors[:, kept]
    factor = (vectors * values[kept].rsqrt()) @ vectors.T
    lowest = float(values[0]) / largest
    return Root(factor, int(kept.sum()), lowest if lowest < -rtol else 0.0)


def approximation_error(matrix: KernelMatrix, mapped: Tensor) -> ApproximationError:
    """Return the error of φ φᵀ as an approximation of K; memory grows with n, not with n².

    Args:
        matrix: K of n examples.
        mapped: φ of each, ``(n, l)``.
    """
    mapped = mapped.detach().cpu().double()
    every, missed, whole = torch.arange(matrix.size), 0.0, 0.0
    left, own = 0.0, 0.0
    for rows in every.split(_ROWS):
        part = matrix(rows, every)
        missed += float((part - mapped[rows] @ mapped.T).square().sum())
        whole += float(part.square().sum())
        diagonal = part[torch.arange(len(rows)), rows]
        left += float((diagonal - mapped[rows].square().sum(dim=1)).sum())
        own += float(diagonal.sum())
    return ApproximationError((missed / whole) ** 0.5 if whole else 0.0, left / own if own else 0.0)
