"""What the run's own optimiser says of the training objective."""

from __future__ import annotations

from collections.abc import Iterable

from lightning.pytorch import LightningModule
from torch.optim import Optimizer

from lightning_interpret.functional.influence.optimizers import as_list

_DECOUPLED = {"AdamW", "NAdamW", "RAdamW", "Lion", "Muon", "Adafactor"}


def objective_weight_decay(optimizers: Iterable[Optimizer]) -> float:
    """Return the coefficient λ of λ/2 ‖θ‖² in the objective that is minimised: the mean over the parameters.

    Decoupled weight decay (AdamW) shrinks the weights beside the objective and is not part of it: it counts as 0.
    """
    decay, size = 0.0, 0
    for optimizer in as_list(list(optimizers)):
        known = any(kind.__name__ in _DECOUPLED for kind in type(optimizer).__mro__)
        for group in optimizer.param_groups:
            count = sum(parameter.numel() for parameter in group["params"])
            decoupled = known or group.get("decoupled_weight_decay", False)
            decay += 0.0 if decoupled else float(group.get("weight_decay", 0.0)) * count
            size += count
    return decay / size if size else 0.0


def check_trained(module: LightningModule, child: str) -> None:
    """Refuse a child of a module that would not be trained, as the module's optimizers have none of its weights.

    Where they have none of the module's either, as with weights that a strategy has put others for, nothing is known.

    Args:
        module: A module that a trainer is about to train.
        child: The child's name.

    Raises:
        ValueError: If it would not.
    """
    own = {id(weight) for weight in getattr(module, child).parameters() if weight.requires_grad}
    everything = {id(weight) for weight in module.parameters()}
    given = {
        id(weight) for each in module.trainer.optimizers for group in each.param_groups for weight in group["params"]
    }
    if own and given & everything and not given & own:
        raise ValueError(
            f"The optimizers of {type(module).__name__} have no weight of `{child}`, which would not be trained: give "
            f"them `self.parameters()` in `configure_optimizers`, or `self.{child}.parameters()` too."
        )
