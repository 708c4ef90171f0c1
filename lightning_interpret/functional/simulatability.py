"""Simulatability: whether an explanation helps to foresee a prediction, apart from giving it away."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Simulatability:
    """How well a simulator foresees a model's predictions with explanations and without (Hase et al., 2020).

    Attributes:
        las: Leakage-adjusted simulatability, in [−1, 1]: the mean of ``leaking`` and ``opaque``. NaN where one of the
            two groups has no example: then there is nothing to adjust for, and ``gain`` says all.
        leaking: Mean gain, 1[ŷ | x, e] − 1[ŷ | x], over examples whose explanation alone gives the prediction away.
        opaque: The same over the others.
        leaked: Share of the examples in the first group.
        gain: Mean gain over all examples, not adjusted.
        with_explanation: How often the simulator is right from input and explanation.
        without: How often from the input alone.
    """

    las: Tensor
    leaking: Tensor
    opaque: Tensor
    leaked: Tensor
    gain: Tensor
    with_explanation: Tensor
    without: Tensor


def simulatability_counts(
    target: Tensor, with_explanation: Tensor, without: Tensor, explanation_alone: Tensor
) -> Tensor:
    """Return what :func:`simulatability_of` needs of some examples: counts that may be added up, long ``(2, 3)``.

    The rows are the examples that do not leak and those that do; the columns are how many they are, how often the
    simulator is right with the explanation, and how often without.

    Args:
        target: What the model predicts, classes ``(N,)``: its own predictions, and not gold labels.
        with_explanation: What the simulator predicts from input and explanation, ``(N,)``.
        without: From the input alone, ``(N,)``.
        explanation_alone: From the explanation alone, ``(N,)``; the example leaks where this is the target.

    Raises:
        ValueError: If the shapes are not the same.
    """
    shapes = [tuple(each.shape) for each in (target, with_explanation, without, explanation_alone)]
    if len(set(shapes)) > 1 or target.dim() != 1:
        raise ValueError(f"Expected one class for each example, four tensors (N,), but got {shapes}.")
    leaks = (explanation_alone == target).long()
    ones = torch.ones_like(leaks)
    facts = torch.stack([ones, (with_explanation == target).long(), (without == target).long()], dim=1)
    return facts.new_zeros(2, 3).index_add(0, leaks, facts)


def simulatability_of(counts: Tensor) -> Simulatability:
    """Return the score of the examples that were counted; what has no examples is NaN."""
    numbers, right, without = counts.double().unbind(dim=1)
    opaque, leaking = (right - without) / numbers
    total = numbers.sum()
    return Simulatability(
        las=(opaque + leaking) / 2,
        leaking=leaking,
        opaque=opaque,
        leaked=numbers[1] / total,
        gain=(right - without).sum() / total,
        with_explanation=right.sum() / total,
        without=without.sum() / total,
    )


def simulatability(
    target: Tensor, with_explanation: Tensor, without: Tensor, explanation_alone: Tensor
) -> Simulatability:
    """Return the leakage-adjusted simulatability of explanations from three sets of a simulator's predictions.

    LAS = ½ (LAS₀ + LAS₁), LASₖ the mean of 1[ŷ | x, e] − 1[ŷ | x] over the examples with 1[ŷ | e] = k (Hase et al.,
    2020). The arguments are those of :func:`simulatability_counts`.
    """
    return simulatability_of(simulatability_counts(target, with_explanation, without, explanation_alone))
