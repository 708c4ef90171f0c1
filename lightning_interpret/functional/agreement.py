"""How far two attributions of the same units say the same."""

import torch
from torch import Tensor


def drift(scores: Tensor, before: Tensor) -> Tensor:
    """Return 1 − cos(scores, before) along the last dimension, in [0, 2].

    0 where the direction is the same, whatever the scale; 2 where every sign has turned. Two vectors of zeros are the
    same (0), one vector of zeros and another have nothing in common (1).

    Args:
        scores: Attributions now, ``(..., T)``.
        before: Attributions before, same shape.
    """
    scores, before = scores.double(), before.double()
    norms = scores.norm(dim=-1) * before.norm(dim=-1)
    cosine = (scores * before).sum(dim=-1) / norms.clamp(min=torch.finfo(torch.float64).tiny)
    both_nothing = (scores == 0).all(dim=-1) & (before == 0).all(dim=-1)
    return 1 - torch.where(both_nothing, torch.ones_like(cosine), cosine.clamp(-1, 1))
