"""Concepts as directions in the features of a layer, and how a score changes along them (TCAV; Kim et al., 2018)."""

from __future__ import annotations

import math
import warnings
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.names import choose

SOLVERS = ("logistic", "svm")
_HELD_OUT = 1 / 3  # of each set, as in the authors' code
_LEAST = 3


def extra(module: str) -> Any:
    """Return a module of the extra ``concepts``.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = "scikit-learn" if module.startswith("sklearn") else module.partition(".")[0]
        raise ImportError(
            f"Concept vectors are fitted and tested with {package}, which is not installed: "
            "pip install 'lightning-interpret[concepts]'."
        ) from error


def concept_vector(
    positive: Tensor, negative: Tensor, *, solver: str = "logistic", penalty: float = 1.0, seed: int = 0
) -> tuple[Tensor, float, float]:
    """Return the unit normal of the linear boundary between two sets, towards the first, its accuracy, and the gap.

    A third of each set, drawn by the seed, is held out of the fit; the accuracy is of these, each set counting half
    (Kim et al., 2018, §3.2). Features are centred and divided by one number, so that their mean squared length is
    1: the penalty means the same at every layer and step, and the normal is one in the layer's own space.

    Args:
        positive: Features of examples with the concept, ``(n, d)``, n at least 3.
        negative: Features of others, ``(m, d)``, m at least 3.
        solver: ``logistic``, L2-penalised logistic regression, or ``svm``, a linear support vector machine; of
            scikit-learn.
        penalty: Weight of the squared norm beside the mean loss.
        seed: Seed of what is held out.

    Returns:
        The vector, double ``(d,)``, all zero where the two sets are the same to the layer; the accuracy; and the gap,
        how much further along the vector the examples that it was fitted to lie in the first set than in the second.

    Raises:
        ValueError: If the solver does not exist, a set has fewer than 3 examples, or a feature is not finite.
        ImportError: If scikit-learn is not installed.
    """
    choose("solver", solver, SOLVERS)
    for name, each in (("positive", positive), ("negative", negative)):
        if len(each) < _LEAST or not bool(each.isfinite().all()):
            raise ValueError(
                f"`{name}` {tuple(each.shape)} must have at least {_LEAST} examples, and numbers that are finite."
            )
    generator = torch.Generator().manual_seed(seed)
    kept, left = zip(*(_split(each.double(), generator) for each in (positive, negative)), strict=True)
    features, labels = torch.cat(kept), torch.tensor([1] * len(kept[0]) + [0] * len(kept[1]))
    centre = features.mean(dim=0)
    scale = (features - centre).square().sum(dim=1).mean().sqrt()
    if not scale > 0:
        return torch.zeros_like(centre), 0.5, 0.0
    fitted = _estimator(solver, penalty * len(features), seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged to the last digit: stability says what that is worth
        fitted.fit(((features - centre) / scale).numpy(), labels.numpy())
    normal = torch.from_numpy(fitted.coef_[0]).to(centre)
    scores = [(each - centre) / scale @ normal + float(fitted.intercept_[0]) for each in left]
    accuracy = 0.5 * float((scores[0] > 0).double().mean() + (scores[1] <= 0).double().mean())
    normal = torch.nn.functional.normalize(normal, dim=0)
    return normal, accuracy, float((kept[0].mean(dim=0) - kept[1].mean(dim=0)) @ normal)


def stability(vectors: Tensor) -> float:
    """Return the mean cosine of the pairs among unit vectors ``(R, d)``: 1 where all are the same; NaN of fewer than 2.

    Mean over pairs of v_i · v_j = (‖Σ v‖² − Σ ‖v‖²) / (R (R − 1)).
    """
    count = len(vectors)
    if count < 2:
        return math.nan
    return float((vectors.sum(dim=0).square().sum() - vectors.square().sum()) / (count * (count - 1)))


def directional_derivatives(gradients: Tensor, vectors: Tensor) -> Tensor:
    """Return S = ∇F · v of each example along each vector, double ``(M, K)`` (Kim et al., 2018, eq. 1).

    Args:
        gradients: ∇F in the pooled features, ``(M, d)``, as :func:`.pooling.moved` gives it.
        vectors: ``(K, d)``.
    """
    return gradients.double() @ vectors.double().T


def tcav_score(derivatives: Tensor) -> Tensor:
    """Return the share of the examples whose derivative is positive, along the first dimension (Kim et al., eq. 2).

    Args:
        derivatives: Of the examples of one class, ``(M, ...)``.

    Returns:
        Double ``(...)``; NaN where there is no example, or every derivative is 0: the score does not hear of the layer.
    """
    share = (derivatives > 0).double().mean(dim=0)
    return share.where((derivatives != 0).any(dim=0), torch.nan)


def _split(values: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    values = values[torch.randperm(len(values), generator=generator)]
    held_out = max(1, round(_HELD_OUT * len(values)))
    return values[held_out:], values[:held_out]


def _estimator(solver: str, penalty: float, seed: int) -> Any:
    """Return scikit-learn's estimator: its C weighs the summed loss beside half of the squared norm."""
    if solver == "logistic":
        return extra("sklearn.linear_model").LogisticRegression(C=1 / penalty, max_iter=1000)
    return extra("sklearn.svm").LinearSVC(C=1 / penalty, random_state=seed % 2**32)
