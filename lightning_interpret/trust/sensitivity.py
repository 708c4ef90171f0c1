"""How far a method's scores move where the input hardly does."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_interpret.functional.infidelity import max_sensitivity
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
    draw = torch.Generator().manual_seed(seed)
    noise = torch.rand(x.shape[1], samples, *x.shape[2:], generator=draw).movedim(1, 0).to(x)
    size = x.flatten(1).square().mean(dim=1).sqrt().view(-1, *[1] * (x.dim() - 1))
    try:
        found = max_sensitivity(
            model.explainer(method, output=output), x, RADIUS * size * (2 * noise[:, None] - 1), chunk=len(x)
        )
    except Exception as error:  # of the method's own making, as where it explains
        return torch.full((len(x),), torch.nan, dtype=torch.float64), f"{type(error).__name__}: {error}"
    return found.cpu().double(), "an explanation is not finite"
