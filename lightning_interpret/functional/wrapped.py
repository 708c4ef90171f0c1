"""What modules are wrapped in, and what of it an explanation cannot do with.

Shards of weights, weights that are elsewhere, layers that lose gradients without a word: each is refused by name.
Checkpoints of activations are passed over: they run their part again in the backward pass, where the hooks and rules of
the forward act no more, and gradients would be those of another function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import checkpoint

from lightning_interpret.functional.layers import plain_name

_QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")
_WHOLE = ContextVar("lightning_interpret_whole", default=False)


def check_whole_weights(module: nn.Module) -> None:
    """Refuse a module of which this process does not hold every weight.

    Raises:
        ValueError: If weights are shards, or on the meta device.
    """
    for name, part in module.named_modules():
        if any(kind.__name__ == "FullyShardedDataParallel" for kind in type(part).__mro__):
            raise _not_whole(f"{plain_name(name) or type(module).__name__!r} is wrapped in FullyShardedDataParallel")
        for key, tensor in {**part._parameters, **part._buffers}.items():
            own = plain_name(f"{name}.{key}".lstrip("."))
            if tensor is None:
                continue
            if _sharded(tensor):
                raise _not_whole(f"{own!r} is a DTensor (`fully_shard`, or tensor parallelism)")
            if hasattr(tensor, "ds_id"):
                raise _not_whole(f"{own!r} is a parameter of DeepSpeed's ZeRO-3")
            if tensor.is_meta:
                raise ValueError(
                    f"{own!r} is on the meta device, without values: it is offloaded (`accelerate`) or not loaded yet. "
                    "Explain the module with all weights on its device: without `device_map` and offloading."
                )


@contextmanager
def unwrapped(module: nn.Module) -> Iterator[None]:
    """Let checkpoints of activations be passed over, and refuse gradients through quantised layers, in the block.

    A ``DataParallel`` runs on the module's own device; the caller puts its attributes back.
    """
    with ExitStack() as stack:
        stack.enter_context(_without_checkpoints())
        for name, part in module.named_modules():
            if isinstance(part, nn.DataParallel):
                part.device_ids = []  # hooks of ours do not act in the threads of its replicas
            if type(part).__module__.startswith(_QUANTISED):
                hook = partial(_refuse_gradients, plain_name(name))
                stack.callback(part.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


@contextmanager
def _without_checkpoints() -> Iterator[None]:
    """Let `torch.utils.checkpoint` run what it is given as it is, in this thread while the block lasts.

    Both ways of a checkpoint are looked up by these names at each call; the public function may be imported anywhere.
    """
    names = ("CheckpointFunction", "_checkpoint_without_reentrant_generator")
    before: dict[str, Any] = {name: getattr(checkpoint, name) for name in names}
    token = _WHOLE.set(True)
    try:
        checkpoint.CheckpointFunction = _Reentrant(before[names[0]].apply)  # type: ignore[assignment, misc]
        checkpoint._checkpoint_without_reentrant_generator = partial(_passing, before[names[1]])
        yield
    finally:
        for name, value in before.items():
            setattr(checkpoint, name, value)
        _WHOLE.reset(token)


class _Reentrant:
    """Stands in for the function of autograd that a checkpoint with ``use_reentrant=True`` applies."""

    def __init__(self, apply: Callable[..., Any]) -> None:
        self._apply = apply

    def apply(self, run: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        return run(*args) if _WHOLE.get() else self._apply(run, preserve, *args)


def _passing(own: Callable[..., Any], run: Any, preserve: Any, contexts: Any, *args: Any, **kwargs: Any) -> Any:
    """Return what a checkpoint with ``use_reentrant=False`` does before and after it runs: its forward's context."""
    return _in_context(contexts) if _WHOLE.get() else own(run, preserve, contexts, *args, **kwargs)


def _in_context(contexts: Callable[[], Any]) -> Iterator[None]:
    forward, _ = contexts()
    with forward:
        yield


def _refuse_gradients(name: str, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
    if torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in (*args, *kwargs.values())):
        raise ValueError(
            f"{name!r} is a quantised layer ({type(module).__name__} of {type(module).__module__.rpartition('.')[0]}), "
            "which no gradient passes, so that the scores would be those of the paths around it: explain the model "
            "before it was quantised, or use a method without gradients, such as 'occlusion'."
        )


def _sharded(tensor: Tensor) -> bool:
    return any(kind.__name__ == "DTensor" for kind in type(tensor).__mro__)


def _not_whole(what: str) -> ValueError:
    return ValueError(
        f"{what}: the module's weights are not whole in this process. Explain a module that holds all of them: train "
        "with DDP, or load the gathered checkpoint."
    )
