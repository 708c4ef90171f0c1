"""Curvature of a loss in its logits, as roots: vectors r with Σ r rᵀ the Hessian at the output.

A backward pass of each root gives the generalised Gauss-Newton matrix of the parameters, exactly (type 2) or, with
labels drawn from the prediction, in expectation (true Fisher, type 1). See Martens (2020), sections 8 and 9.
"""

from __future__ import annotations

import torch
from torch import Tensor


def softmax_roots(logits: Tensor) -> Tensor:
    """Return roots of diag(p) − p pᵀ for the cross-entropy of class scores ``(B, C)``: ``(R, B, C)``.

    Two classes have one root, √(p₀p₁) (1, −1); C classes have C, √p_c (e_c − p).
    """
    probabilities = logits.softmax(dim=1)
    if logits.shape[1] == 2:
        size = probabilities.prod(dim=1).sqrt()
        return torch.stack([size, -size], dim=1)[None]
    classes = torch.eye(logits.shape[1], dtype=logits.dtype, device=logits.device)
    return probabilities.T[:, :, None].sqrt() * (classes[:, None] - probabilities)


def sampled_roots(logits: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """Return roots of the same matrix in expectation, from labels drawn from the prediction: ``(samples, B, C)``.

    Args:
        logits: Class scores ``(B, C)``.
        samples: Labels drawn for each example.
        generator: Where they are drawn from, on the CPU.
    """
    probabilities = logits.softmax(dim=1)
    drawn = torch.multinomial(probabilities.cpu().double(), samples, replacement=True, generator=generator)
    hot = torch.nn.functional.one_hot(drawn.T, logits.shape[1]).to(logits)
    return (probabilities - hot) / samples**0.5
