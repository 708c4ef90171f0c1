"""How far a method's scores move where the input hardly does."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_interpret.functional.infidelity import max_sensitivity, uniform_noise
from lightning_interpret.methods import Method
from lightning_interpret.methods.perturbed import Perturbed

#: Largest change of an element of the input, as a share of the root mean square of the example's.
RADIUS = 0.02


def sensitivity(model: Perturbed, method: Method, output: str, samples: int, seed: int) -> tuple[Tensor, str]:
    """Return the max-sensitivity of a method at each example, ``(N,)``, and why it is NaN where it is.

    Args:
        model: The module at the examples.
        method: The method: it explains ``samples`` + 1 times.
        output: What of the targets is attributed.
        samples: Noise of each example, uniform within :data:`RADIUS`.
        seed: Seed of the noise, which is the same for every example, whatever its padding.
    """
    x = model.inputs
    counts = model.counts if model.counts.shape == x.shape[:2] else None  # a picture has no padding
    noise = uniform_noise(x, RADIUS, samples, seed, counts)
    try:
        found = max_sensitivity(model.explainer(method, output=output), x, noise, chunk=len(x))
    except Exception as error:  # of the method's own making, as where it explains
        return torch.full((len(x),), torch.nan, dtype=torch.float64), f"{type(error).__name__}: {error}"
    return found.cpu().double(), "an explanation is not finite"
