"""What an optimizer knows of each parameter: Adam's second moments, and learning rates by group."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_interpret.functional.scope import original

Optimizers = Optimizer | Sequence[Optimizer]
"""The optimizer of a run, or all of them."""


def as_list(optimizers: Optimizers | None) -> list[Optimizer]:
    """Return optimizers as a list; of Lightning's wrappers what is in them, as a wrapper's state is not kept up."""
    several = [optimizers] if isinstance(optimizers, Optimizer) else list(optimizers or ())
    return [inner if isinstance(inner := getattr(each, "optimizer", None), Optimizer) else each for each in several]


def adam_preconditioner(optimizers: Optimizers | None) -> Callable[[Tensor], Tensor]:
    """Return what gives 1 / (√v̂ + ε) of a parameter: what Adam multiplies a gradient by (Kingma and Ba, 2015, alg. 1).

    v̂ is the second moment with bias corrected. It is 0 where no gradient has ever been seen (a row of an embedding that
    no text has read, a parameter without state), as Adam does not move what has none.

    Args:
        optimizers: Live optimizers that keep ``exp_avg_sq``: Adam, AdamW, NAdam, RAdam, ...

    Raises:
        ValueError: If there is none, if one of them keeps no second moments, or if none has taken a step.
    """
    several = as_list(optimizers)
    if not several:
        raise ValueError(
            "`preconditioner='adam'` reads a live optimizer, and there is none: give `fit(..., optimizer=...)`, or "
            "set `preconditioner=None`."
        )
    found: dict[int, Tensor] = {}
    for optimizer in several:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                state = optimizer.state.get(parameter)
                if state and "exp_avg_sq" not in state:
                    raise ValueError(
                        f"`preconditioner='adam'`: {type(optimizer).__name__} keeps no second moments (`exp_avg_sq`): "
                        "use Adam or one of its kind, or set `preconditioner=None`."
                    )
                if state:
                    moment = state.get("max_exp_avg_sq", state["exp_avg_sq"])
                    corrected = moment / (1 - group["betas"][1] ** float(state["step"]))
                    found[id(parameter)] = (1 / (corrected.sqrt() + group["eps"])).where(moment > 0, 0.0)
    if not found:
        raise ValueError(
            f"`preconditioner='adam'`: {type(several[0]).__name__} has no state yet, as it has taken no step: train "
            "first, or set `preconditioner=None`."
        )

    def values(parameter: Tensor) -> Tensor:
        own = found.get(id(original(parameter)))
        return torch.zeros_like(parameter) if own is None else own.detach().to(parameter)

    return values


def group_names(module: nn.Module, optimizers: Optimizers | None) -> list[list[list[str]]]:
    """Return the names of the parameters in each group of each optimizer; ``""`` for one that is not the module's."""
    names = {id(original(parameter)): name for name, parameter in module.named_parameters()}
    return [
        [[names.get(id(parameter), "") for parameter in group["params"]] for group in each.param_groups]
        for each in as_list(optimizers)
    ]


def rates_by_name(rates: Sequence[Sequence[float]], names: Sequence[Sequence[Sequence[str]]]) -> dict[str, float]:
    """Return the learning rate of each parameter, from those of each optimizer's groups and the names in them."""
    groups = [group for several in zip(rates, names, strict=True) for group in zip(*several, strict=True)]
    return {name: rate for rate, own in groups for name in own}
