"""The scope in which a module is explained: nothing in it outlives it, and nothing of it reaches training."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.wrapped import check_whole_weights, unwrapped


@contextmanager
def explaining(module: nn.Module, *, full_precision: bool = False) -> Iterator[None]:
    """Run a block with ``module`` in evaluation mode, gradients enabled, weights frozen and random states its own.

    On leaving, also by an exception, every training flag, weight, buffer and random state is what it was, those of
    generators that the module keeps as attributes among them. Gradients can be asked of activations and inputs;
    parameters neither receive nor require any. Compiled code runs eagerly, so that hooks are met and nothing is
    compiled anew; checkpoints of activations are passed over.

    Args:
        module: The module to be explained.
        full_precision: Whether weights and buffers in half precision are float32 copies inside the block.

    Raises:
        ValueError: If this process does not hold every weight; in the block, if a gradient is asked through a quantised
            layer, which none passes.
    """
    check_whole_weights(module)
    with ExitStack() as stack:
        # two threads' scopes may overlap without one being inside the other, and share modules or PyTorch's switches:
        # what the second finds must be what is theirs, and not the first one's stand-ins
        stack.enter_context(_LOCK)
        stack.enter_context(_random_states(module))
        flags = [(part, part.training) for part in module.modules()]
        stack.callback(_to_the_end, partial(_restore_training, flags))
        if any(flag for _, flag in flags):  # else there is nothing to do for a `train` that a module overrides
            module.eval()
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(_no_fast_path())
        # cuDNN's recurrent layers have no backward in evaluation mode
        stack.enter_context(torch.backends.cudnn.flags(enabled=False) if _recurrent(module) else ExitStack())
        stack.enter_context(frozen_weights(module, full_precision=full_precision))
        stack.enter_context(unwrapped(module))
        yield


_LOCK = RLock()


@contextmanager
def _no_fast_path() -> Iterator[None]:
    """Keep PyTorch's transformer layers from packing the batch, which hides the layers' outputs from hooks."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


@contextmanager
def frozen_weights(
    module: nn.Module, *, full_precision: bool = False, values: Mapping[str, Tensor] | None = None
) -> Iterator[None]:
    """Put detached weights and copies of all other tensors in the place of the module's own while the block lasts.

    The mechanism of ``torch.func.functional_call``, as a scope: tied weights stay tied, and the lists that recurrent
    layers keep of their own weights follow (``functional_call`` leaves its replacements in those lists behind).
    Attributes of the module and its parts are what they were afterwards, whatever a forward has written there: a
    counter, a hidden state, a cache. What a forward changes inside a container of its own (appends to a list) stays.

    Args:
        module: The module whose tensors are replaced.
        full_precision: Whether tensors in half precision become float32 copies.
        values: Other values for some tensors, by the names of :func:`saved_tensors`: those of a checkpoint.
    """
    replaced: dict[int, Tensor] = {}
    saved = [
        (store, dict(store)) for part in module.modules() for store in (vars(part), part._parameters, part._buffers)
    ]

    def stand_in(tensor: Tensor, *, copy: bool) -> Tensor:
        if id(tensor) not in replaced:
            half = full_precision and tensor.dtype in (torch.float16, torch.bfloat16)
            value = tensor.detach().float() if half else tensor.detach()
            value = value.clone() if copy and not half else value
            replaced[id(tensor)] = _standing_for(value, tensor)
        return replaced[id(tensor)]

    own = saved_tensors(module) if values else {}
    for name, value in (values or {}).items():
        replaced[id(own[name])] = _standing_for(value.detach().to(own[name], copy=True), own[name])
    try:
        for part in module.modules():
            # an embedding with `max_norm` rescales rows in place when it reads them
            renormalises = getattr(part, "max_norm", None) is not None
            stores: tuple[tuple[dict[str, Any], bool], ...] = ((part._parameters, renormalises), (part._buffers, True))
            for store, copy in stores:
                for name, t in list(store.items()):
                    # packed weights of whole numbers have no gradient, and keep on themselves how they are unpacked
                    if t is not None and (store is part._buffers or t.is_floating_point() or t.is_complex()):
                        store[name] = stand_in(t, copy=copy)
        for part in module.modules():
            for name, value in list(vars(part).items()):
                if isinstance(value, list) and any(isinstance(item, Tensor) for item in value):
                    vars(part)[name] = [replaced.get(id(item), item) for item in value]
                elif isinstance(value, Tensor):
                    vars(part)[name] = stand_in(value, copy=True)
        yield
    finally:
        _to_the_end(partial(_restore_stores, saved))


def trains(tensor: Any) -> bool:
    """Return whether a parameter is trained: also inside the scope, where none of them requires a gradient."""
    return isinstance(tensor, Tensor) and original(tensor).requires_grad


def original(tensor: Tensor) -> Tensor:
    """Return the module's own tensor, which inside the scope another one stands for; an optimizer knows that one."""
    return getattr(tensor, "_stands_for", tensor)


def saved_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that a checkpoint of the module holds, by name: those of shared modules under every name."""
    found: dict[str, Tensor] = {}
    for prefix, part in module.named_modules(remove_duplicate=False):
        stores = {**part._parameters, **part._buffers}.items()
        kept = {name: value for name, value in stores if name not in part._non_persistent_buffers_set}
        found |= {f"{prefix}.{name}".lstrip("."): value for name, value in kept.items() if value is not None}
    return found


def _standing_for(value: Tensor, tensor: Tensor) -> Tensor:
    value._stands_for = original(tensor)  # type: ignore[attr-defined]
    return value


@contextmanager
def _random_states(module: nn.Module) -> Iterator[None]:
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    numpy = sys.modules.get("numpy")  # not imported: nothing of it to disturb
    restore = [*_restorers(random), *(_restorers(numpy.random) if numpy else ())]
    for part in module.modules():
        restore += _restorers(*vars(part).values())
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        _to_the_end(lambda: [put_back() for put_back in restore])


def _restorers(*holders: Any) -> Iterator[Callable[[], Any]]:
    """Yield what puts the state of each random generator back, of whatever library; all else is passed over."""
    for holder in holders:
        if isinstance(holder, torch.Generator):
            yield partial(holder.set_state, holder.get_state())
        elif isinstance(holder, random.Random) or holder is random:
            yield partial(holder.setstate, holder.getstate())
        elif numpy := sys.modules.get("numpy"):
            if isinstance(holder, numpy.random.RandomState) or holder is numpy.random:
                yield partial(holder.set_state, holder.get_state())
            elif isinstance(holder, numpy.random.Generator):
                yield partial(setattr, holder.bit_generator, "state", holder.bit_generator.state)


def _restore_stores(saved: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    for store, before in saved:  # never empty in between: another thread may be running the module
        for name in store.keys() - before.keys():
            del store[name]
        store.update(before)


def _to_the_end(put_back: Callable[[], Any]) -> None:
    try:
        put_back()
    except KeyboardInterrupt:  # what is half put back trains no more, and is saved like that
        put_back()
        raise


def _restore_training(flags: list[tuple[nn.Module, bool]]) -> None:
    for part, flag in flags:  # one by one: `module.train()` would unfreeze what was frozen on purpose
        part.training = flag


def _recurrent(module: nn.Module) -> bool:
    return any(isinstance(part, nn.RNNBase) for part in module.modules())
