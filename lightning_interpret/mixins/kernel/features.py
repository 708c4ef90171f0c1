"""What a layer between an encoder and a head is given: one vector an example."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.tasks import Task, batches


class _Stand:
    """Stands for a layer's ``forward``: keeps what it is given, and returns numbers that a gradient can be asked of."""

    def __init__(self, width: int) -> None:
        self.width, self.given, self.returned = width, list[Tensor](), torch.empty(0)

    def __call__(self, values: Tensor) -> Tensor:
        self.given.append(values.detach())
        row = torch.linspace(-1, 1, self.width, device=values.device, dtype=values.dtype)
        self.returned = row.expand(*values.shape[:-1], self.width).clone().requires_grad_()
        return self.returned


def features_of(module: nn.Module, layer: nn.Module, width: int, task: Task, batch: Any) -> Tensor:
    """Return what a layer is given of each example, ``(B, d)``; called inside the explaining scope.

    Where it is given sequences ``(B, T, d)`` it is the place that the scores depend on, and the last of several: a
    decoder's last token.

    Args:
        module: The module.
        layer: The layer, which does not run itself.
        width: How many numbers it returns.
        task: How the module is called.
        batch: The batch.

    Raises:
        ValueError: If the layer does not run, or more than once, or its input is no vector an example.
    """
    stand = _Stand(width)
    vars(layer)["forward"] = stand
    try:
        scores = task.logits(module, batch)
    finally:
        del vars(layer)["forward"]
    if len(stand.given) != 1:
        raise ValueError(
            f"The kernel layer runs {len(stand.given)} times in a forward pass of {type(module).__name__}, and must "
            "run once: name the head that reads what the encoder returns, `kernel_head=`, or call `self.kernel(h)`, or "
            "of raw inputs `self.kernel_features(batch)`, in `forward`."
        )
    given, size = stand.given[0], batches.batch_size(batch)
    if given.dim() not in (2, 3) or len(given) != size:
        raise ValueError(
            f"The kernel layer is given {tuple(given.shape)} of {size} examples, which is neither one vector an "
            "example nor a sequence of them."
        )
    if given.dim() == 2:
        return given
    parts = [leaf for leaf in batches.leaves(scores) if isinstance(leaf, Tensor) and leaf.requires_grad]
    total = torch.stack([part.sum() for part in parts]).sum()
    moves = torch.autograd.grad(total, stand.returned)[0].abs().sum(dim=2) > 0
    order = torch.arange(given.shape[1], device=given.device)
    place = order.masked_fill(~moves, 0).max(dim=1).values
    return given[torch.arange(size, device=given.device), place]
