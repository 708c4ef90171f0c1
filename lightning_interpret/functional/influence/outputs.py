"""Curvature of a loss in its logits, as roots: vectors r with Σ r rᵀ the Hessian at the output.

A backward pass of each root gives the generalised Gauss-Newton matrix of the parameters, exactly (type 2) or, with
labels drawn from the prediction, in expectation (true Fisher, type 1). See Martens (2020), sections 8 and 9.
"""

from __future__ import annotations

from collections.abc import Iterator

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


def placed_roots(
    logits: Tensor, there: Tensor, samples: int | None = None, generator: torch.Generator | None = None
) -> Iterator[Tensor]:
    """Yield roots for the mean cross-entropy over the places of each example, each of the logits' shape.

    The Hessian of (1/n) Σ_t ℓ_t has no part between places. Exactly it takes, for the first place of every example, for
    the second, ..., the roots of its classes, over √n. Labels that are drawn at all places at once make one root: what
    two places of it have in common is 0 in expectation, as each is by itself.

    Args:
        logits: Class scores ``(B, K, C)``.
        there: Bool ``(B, K)``, the n places of each example that have a loss.
        samples: Labels drawn at each place; ``None`` for all classes.
        generator: Where they are drawn from, on the CPU.
    """
    likely = logits.softmax(dim=2)
    scale = (there.to(likely) / there.sum(dim=1, keepdim=True).clamp(min=1)).sqrt()[..., None]
    if samples is not None:
        generator = generator or torch.Generator().manual_seed(0)
        for _ in range(samples):
            at = torch.zeros(there.shape, dtype=torch.long, device=logits.device)
            at[there] = _drawn(likely[there], generator)
            root = likely * scale
            yield root.scatter_add_(2, at[..., None], -scale) / samples**0.5
        return
    number = there.long().cumsum(dim=1) - 1
    for each in range(max(1, int(there.sum(dim=1).max()))):
        own = scale * (there & (number == each))[..., None]
        if logits.shape[2] == 2:
            size = own[..., 0] * likely.prod(dim=2).sqrt()
            yield torch.stack([size, -size], dim=2)
            continue
        for c in range(logits.shape[2]):
            root = -likely
            root[..., c] += 1
            yield root * own * likely[..., c : c + 1].sqrt()


def _drawn(likely: Tensor, generator: torch.Generator) -> Tensor:
    """Return a class for each row of probabilities ``(N, C)``; of a vocabulary some rows at a time."""
    found = []
    for part in likely.split(max(1, 2**24 // likely.shape[1])):
        point = torch.rand(len(part), 1, generator=generator, dtype=torch.float64).to(part)
        found.append((part.cumsum(dim=1) <= point).sum(dim=1))
    return torch.cat(found).clamp(max=likely.shape[1] - 1) if found else likely.new_zeros(0).long()
