"""The context in which every Monitor computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from lightning_interpret.functional.scope import explaining

PRECISIONS = ("32", "model")


@contextmanager
def attribution_mode(trainer: Trainer, module: LightningModule, precision: str = "32") -> Iterator[None]:
    """Run a block in which the module can be explained, in ``fit`` as in ``validate``, ``test`` and ``predict``.

    Gradients are enabled and inference mode is left; the module is in evaluation mode, its weights frozen; random
    states are the block's own. What the module logs in its forward is not logged: it would be averaged into the user's
    own metrics. On leaving, also by an exception, all of it is what it was.

    Args:
        trainer: The trainer that runs the hook.
        module: Its module.
        precision: ``"32"``: autocast off and half-precision weights as float32 copies (a model in double precision
            stays there); ``"model"``: the precision that the trainer trains in.

    Raises:
        RuntimeError: If a tensor that the module made in inference mode, and keeps in a container, stands in the way.
    """
    full = precision == "32"
    with explaining(module, full_precision=full):
        mute(module)  # put back with all else that is on the module
        device = module.device.type
        single = full and not any(weight.dtype == torch.float64 for weight in module.parameters())
        context = torch.autocast(device, enabled=False) if single else trainer.precision_plugin.forward_context()
        try:
            with context:
                yield
        except RuntimeError as error:
            if "nference tensor" not in str(error):
                raise
            raise RuntimeError(
                f"{type(module).__name__} keeps a tensor that it made in inference mode, which no gradient can pass: "
                "use `Trainer(inference_mode=False)`."
            ) from error


def mute(module: LightningModule) -> None:
    """Let what the module logs go nowhere."""
    for part in module.modules():
        if hasattr(type(part), "log_dict"):  # a `LightningModule`, whichever of the two packages it is of
            vars(part).update(log=_nothing, log_dict=_nothing)


def _nothing(*args: Any, **kwargs: Any) -> None:
    pass
