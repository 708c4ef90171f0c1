"""Weights and learning rates of a run's checkpoints, read one at a time, and never loaded into the live module."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.influence.optimizers import rates_by_name
from lightning_interpret.functional.scope import original, saved_tensors, trains

Rate = float | Mapping[str, float]
"""A learning rate, or one for each parameter by its name; a parameter that is not named did not move."""


@dataclass(frozen=True)
class Checkpoint:
    """A file that holds a module's weights in the middle of training.

    Attributes:
        path: The file.
        learning_rate: What it was trained with at that time; ``None`` for what the optimizer's state in the file says.
    """

    path: str
    learning_rate: Rate | None = None


Checkpoints = Sequence[Checkpoint] | Callable[[], Sequence[Checkpoint]]
"""Checkpoints, or what finds them if they are asked for."""


def load(path: str) -> tuple[dict[str, Any], bool]:
    """Return what a checkpoint holds, on the CPU and read as it is used, and whether it was unpickled without limits.

    ``weights_only`` comes first; a checkpoint that holds other classes (hyper-parameters, say) is read in full, which
    runs the code in it, as Lightning does with its own.

    Raises:
        ValueError: If there is no such file, or if it is no checkpoint.
    """
    if not os.path.isfile(path):
        raise ValueError(f"`checkpoints`: there is no file {str(path)!r}.")
    try:
        try:
            found, full = torch.load(path, map_location="cpu", weights_only=True, mmap=True), False
        except UnpicklingError:
            found, full = torch.load(path, map_location="cpu", weights_only=False, mmap=True), True
    except Exception as error:
        raise ValueError(f"`checkpoints`: {str(path)!r} cannot be read ({type(error).__name__}: {error}).") from error
    if not isinstance(found, dict):
        raise ValueError(f"`checkpoints`: {str(path)!r} holds a {type(found).__name__}, and no weights by name.")
    return found, full


def weights(found: Mapping[str, Any], module: nn.Module, path: str) -> dict[str, Tensor]:
    """Return the weights and buffers in a checkpoint, by the module's names.

    What does not train may be missing: it is the module's own then.

    Raises:
        ValueError: If names or shapes are not those of the module.
    """
    stored = found.get("state_dict", found)
    values = {name: value for name, value in stored.items() if isinstance(value, Tensor)}
    own = saved_tensors(module)
    frozen = {n for n, value in own.items() if isinstance(original(value), nn.Parameter) and not trains(value)}
    missing = [n for n in own if n not in values and n not in frozen]
    unknown = [name for name in values if name not in own and not name.endswith("_extra_state")]
    shapes = [n for n, value in own.items() if n in values and values[n].shape != value.shape]
    problems = (("missing", missing), ("unknown", unknown), ("of another shape", shapes))
    said = [f"{len(names)} {what} ({', '.join(names[:3])})" for what, names in problems if names]
    if said:
        raise ValueError(
            f"`checkpoints`: {str(path)!r} holds the weights of another module than this {type(module).__name__}: "
            f"{'; '.join(said)}."
        )
    return {name: value for name, value in values.items() if name in own}


def learning_rate(found: Mapping[str, Any], names: Sequence[Sequence[Sequence[str]]], path: str) -> Rate:
    """Return the learning rate that the optimizers' state in a checkpoint says.

    Args:
        found: The checkpoint.
        names: The parameters of each group of the live optimizers (:func:`optimizers.group_names`); asked where the
            groups' rates differ.
        path: The file, for errors.

    Raises:
        ValueError: If it says none, or several and ``names`` are not of the same groups.
    """
    states = found.get("optimizer_states") or []
    rates = [[float(group["lr"]) for group in each["param_groups"]] for each in states]
    distinct = {rate for each in rates for rate in each}
    if len(distinct) == 1:
        return distinct.pop()
    if not distinct:
        raise ValueError(f"`checkpoints`: {str(path)!r} holds no optimizer, so no learning rate: set `learning_rates`.")
    sizes = [[len(group["params"]) for group in each["param_groups"]] for each in states]
    if sizes != [[len(group) for group in each] for each in names]:
        raise ValueError(
            f"`checkpoints`: {str(path)!r} has several learning rates, {sorted(distinct)}, and which parameter "
            "had which is known only with the run's optimizer: give `fit(..., optimizer=...)`, or set `learning_rates`."
        )
    return rates_by_name(rates, names)
