"""Read the output of any layer of any module, or put other values in its place during a forward.

The ids stay in the call and the layer's *output* is replaced, by a forward hook that acts only in the scope (and the
thread) that made it. Passing ``inputs_embeds`` instead gives other logits on padded rows with several models, so that
is the second route, taken where the first does not fit (a model that pads or transposes before it embeds), and only if
putting back the same values gives the same logits.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lightning_interpret.functional.layer_output import LayerError, first_tensor, followed, with_first_tensor
from lightning_interpret.functional.layers import plain_name
from lightning_interpret.names import unknown

Forward = Callable[[], Tensor]


#: Name of the layer that stands for the pixels: what the module is given, and no output of a layer.
PIXELS = "pixel_values"

#: What stands between the names of two layers whose outputs are one text: of an encoder and of a decoder.
JOINED = "+"
_ENDS = 2


@dataclass
class _Slot:
    """What one forward does with one layer: the values to put there, or where those read are kept."""

    value: Tensor | None = None
    seen: Tensor | None = None
    ids: Tensor | None = None
    calls: int = 0
    used: int = 0


_SLOTS: ContextVar[dict[Features, _Slot]] = ContextVar("lightning_interpret_features")
_ROUTES: WeakKeyDictionary[nn.Module, dict[tuple[str, bool], int]] = WeakKeyDictionary()


class Features:
    """The output of one layer, to be read or replaced inside a ``with`` block.

    A layer that returns a tuple or a mapping stands for its first tensor. An embedding whose weight other embeddings of
    the module share stands for all of them (T5 and BART embed the text once for the encoder and, shifted right by one,
    for the decoder): they are given the same values at the same ids.

    Args:
        module: The module that contains the layer.
        layer: Name of the layer, as in ``module.named_modules()``.

    Raises:
        LayerError: If there is no layer of this name; the near ones are named.
    """

    def __init__(self, module: nn.Module, layer: str) -> None:
        self.layer = layer
        self._modules = shared_embeddings(module, find_layer(module, layer))
        self._handles: list[Any] = []

    def __enter__(self) -> Features:
        # before the hooks that are there: a gate over the layer's output gates what is put in its place too
        hook, first = self._hook, {"with_kwargs": True, "prepend": True}
        self._handles = [part.register_forward_hook(hook, **first) for part in self._modules]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    @property
    def _absent(self) -> str:
        return f"`layer={self.layer!r}` does not run in the forward pass: choose a layer that does."

    def read(self, forward: Forward) -> tuple[Tensor, Tensor]:
        """Return what ``forward()`` returns, and a copy of the layer's output during it.

        Raises:
            LayerError: If the layer does not run, or runs more than once on unrelated inputs.
        """
        slot = _Slot()
        result = self._run(slot, forward)
        if slot.seen is None:
            raise LayerError(self._absent)
        return result, slot.seen

    def put(self, value: Tensor, forward: Forward) -> Tensor:
        """Return what ``forward()`` returns with the layer's output replaced by ``value``, of the same shape.

        Raises:
            LayerError: If the shapes differ.
        """
        return self._run(_Slot(value=value), forward)

    def _run(self, slot: _Slot, forward: Forward) -> Tensor:
        token = _SLOTS.set({**_SLOTS.get({}), self: slot})
        try:
            return forward()
        finally:
            _SLOTS.reset(token)

    def _hook(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        slot = _SLOTS.get({}).get(self)
        if slot is None:
            return None
        slot.calls += 1
        ids = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor) and not a.is_floating_point()), None)
        found = first_tensor(output, self.layer)
        if slot.calls == 1:
            slot.ids = ids
            if slot.value is None:
                slot.seen = found.clone()  # the next operation may be in place
                return None
            return self._put_first(output, found, slot.value)
        if not isinstance(module, nn.Embedding):
            raise LayerError(
                f"`layer={self.layer!r}` runs more than once in one forward pass, so its output is not one set of "
                "features: choose a layer that runs once."
            )
        follower = None if slot.value is None else followed(slot.ids, ids, slot.value, found)
        return None if follower is None else self._put_first(output, found, follower)

    def _put_first(self, output: Any, found: Tensor, value: Tensor) -> Any:
        if value.shape != found.shape:
            raise LayerError(f"`layer={self.layer!r}` has shape {tuple(found.shape)}, but got {tuple(value.shape)}.")
        return with_first_tensor(output, value.to(found.dtype).clone())


class JoinedFeatures(Features):
    """The outputs of two layers, ``"first+second"``, one behind the other over the places, ``(B, S + T, D)``.

    The words of an encoder and those of a decoder: one text of which the parts are read by different layers, or by one
    layer that is called twice.
    """

    def __init__(self, module: nn.Module, layer: str) -> None:
        self.layer, self._handles = layer, []
        self._modules = list(dict.fromkeys(find_layer(module, name) for name in layer.split(JOINED)))

    def _hook(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        slot = _SLOTS.get({}).get(self)
        if slot is None:
            return None
        slot.calls += 1
        if slot.calls > _ENDS:
            raise LayerError(f"`layer={self.layer!r}` runs more than {_ENDS} times in one forward pass.")
        found = first_tensor(output, self.layer)
        if slot.value is None:
            if slot.seen is not None and slot.seen.shape[2:] != found.shape[2:]:
                raise LayerError(f"`layer={self.layer!r}`: two outputs of several sizes are not one text: name one.")
            slot.seen = found.clone() if slot.seen is None else torch.cat([slot.seen, found], dim=1)
            return None
        begin, slot.used = slot.used, slot.used + found.shape[1]
        return self._put_first(output, found, slot.value[:, begin : slot.used])


class EmbeddedFeatures(Features):
    """The word embeddings of a model that takes ``inputs_embeds``, put in by its arguments.

    For models that pad or transpose the ids before they embed them (Longformer, XLNet).
    """

    def __init__(self, module: nn.Module, layer: str) -> None:
        super().__init__(module, layer)
        self._embedding = self._modules[0]
        model = takes_embeddings(module, self._embedding)
        if model is None:
            raise LayerError("no module around it takes `inputs_embeds`")
        self._modules = [model]

    def __enter__(self) -> Features:
        before, first = self._before, {"with_kwargs": True, "prepend": True}
        self._handles = [part.register_forward_pre_hook(before, **first) for part in self._modules]
        return self

    def _before(self, module: nn.Module, args: tuple, kwargs: dict) -> Any:
        slot = _SLOTS.get({}).get(self)
        if slot is None:
            return None
        names = list(inspect.signature(module.forward).parameters)
        given = dict(zip(names, args, strict=False)) | kwargs
        if given.get("input_ids") is None:  # a hook behind this one calls the model again
            return None
        embedded = self._embedding(given["input_ids"])
        if slot.value is None:
            slot.seen = embedded
        value = embedded if slot.value is None else slot.value.to(embedded.dtype).clone()
        return (), given | {"input_ids": None, "inputs_embeds": value}


class PixelFeatures(Features):
    """The pixels that a module is given: the argument ``pixel_values`` of the first module that is called with pixels.

    Where no argument has this name, it is the first one that is images, ``(B, C, H, W)``.
    """

    def __init__(self, module: nn.Module, layer: str) -> None:
        self.layer, self._modules, self._handles = layer, list(module.modules()), []

    def __enter__(self) -> Features:
        self._handles = [part.register_forward_pre_hook(self._before, with_kwargs=True) for part in self._modules]
        return self

    @property
    def _absent(self) -> str:
        return f"`layer={PIXELS!r}`: no module is called with images (batch, channels, height, width)."

    def _before(self, module: nn.Module, args: tuple, kwargs: dict) -> Any:
        slot = _SLOTS.get({}).get(self)
        if slot is None or slot.calls:  # the modules inside are given what comes of it
            return None
        given = dict(enumerate(args)) | kwargs
        images = [name for name, value in given.items() if isinstance(value, Tensor) and _may_be_images(value)]
        if not images:
            return None
        place = PIXELS if PIXELS in images else images[0]
        slot.calls += 1
        if slot.value is None:
            slot.seen = given[place].clone()
            return None
        given[place] = self._put_first(given[place], given[place], slot.value)
        return tuple(given[i] for i in range(len(args))), {name: given[name] for name in kwargs}


@contextmanager
def features(
    module: nn.Module, layer: str, forward: Forward, *, units: tuple[int, ...] | None = None
) -> Iterator[tuple[Features, Tensor, Tensor]]:
    """Open the output of a layer by the route that a trial accepts; yield it, the logits and the output at x.

    The trial, made once for a module and a layer: putting back the same values leaves the logits, zeros move them.

    Args:
        module: The module that contains the layer.
        layer: Name of the layer.
        forward: Runs the module on the batch and returns its logits.
        units: The leading dimensions that the features must have, given for the input: ``(B, T)`` of word embeddings.

    Raises:
        LayerError: If no route is right; the message says why.
    """
    find_layer(module, layer)
    routes, key = _ROUTES.setdefault(module, {}), (layer, units is not None)
    classes = _routes_to(layer, units is not None)
    known = routes.get(key)
    read = None if known is None else _read(classes[known], module, layer, forward, units)
    if read is None or isinstance(read, str):  # the right route may depend on the batch: on its length or its padding
        known = routes[key] = _trial(classes, module, layer, forward, units)
        read = _read(classes[known], module, layer, forward, units)
    assert known is not None
    assert not isinstance(read, str)
    with classes[known](module, layer) as opened:
        yield opened, *read


def _routes_to(layer: str, units: bool) -> tuple[type[Features], ...]:
    if layer == PIXELS:
        return (PixelFeatures,)
    if JOINED in layer:
        return (JoinedFeatures,)
    return (Features, EmbeddedFeatures) if units else (Features,)


def is_open(part: nn.Module) -> bool:
    """Return whether the output of a module is being read or replaced, in the forward that is running."""
    return any(part in opened._modules for opened in _SLOTS.get({}))


def same_layer(module: nn.Module, layer: str, other: str) -> bool:
    """Return whether two names stand for one layer: one module, or embeddings of one weight."""
    if JOINED in layer or JOINED in other:
        return layer == other
    return find_layer(module, layer) in shared_embeddings(module, find_layer(module, other))


def find_layer(module: nn.Module, layer: str, *, argument: str = "layer") -> nn.Module:
    """Return the sub-module of this name; the names of wrapped modules are those of what was wrapped or compiled.

    The pixels are what the module itself is given: ``pixel_values`` is its name. Of two layers whose outputs are one
    text it is the first.

    Raises:
        LayerError: If there is none; the near ones are named, and the ``argument`` that the name was given as.
    """
    if layer == PIXELS:
        return module
    layer = layer.split(JOINED)[0]
    parts = {plain_name(name): part for name, part in module.named_modules(remove_duplicate=False)}
    if layer not in parts or layer == "":
        raise LayerError(unknown(argument, layer, [name for name in parts if name]))
    return parts[layer]


def _read(
    route: type[Features], module: nn.Module, layer: str, forward: Forward, units: tuple | None
) -> tuple[Tensor, Tensor] | str:
    """Return the logits and the features that a route reads, or why they are not those of the module as it is."""
    with route(module, layer) as opened, torch.no_grad():
        logits, value = opened.read(forward)
        if units is not None and value.shape[: len(units)] != units:
            return f"its output has shape {tuple(value.shape)}, but the units are {units}"
        if route is EmbeddedFeatures and not _same(logits, forward()):
            return "the model gives other logits with `inputs_embeds`"
    return logits, value


def _trial(
    classes: tuple[type[Features], ...], module: nn.Module, layer: str, forward: Forward, units: tuple | None
) -> int:
    """Return the index of the first route that puts back what it reads and that moves the logits."""
    faithful, why = None, []
    for index, route in enumerate(classes):
        try:
            read = _read(route, module, layer, forward, units)
            if isinstance(read, str):
                why.append(read)
                continue
            logits, value = read
            with route(module, layer) as opened, torch.no_grad():
                if not _same(opened.put(value, forward), logits):
                    why.append("putting back its own output changes the logits")
                elif not _same(opened.put(torch.zeros_like(value), forward), logits):
                    return index
                elif faithful is None:
                    faithful = index  # nothing moves the logits: a head that is all zero explains itself
        except LayerError as error:
            why.append(str(error))
        except Exception as error:
            if route is not EmbeddedFeatures:  # else a model that refuses `inputs_embeds` may say so as it likes
                raise
            why.append(f"{type(error).__name__}: {error}")
    if faithful is None:
        raise LayerError(f"`layer={layer!r}` cannot be attributed to: {'; '.join(why)}. Choose another layer.")
    return faithful


def _same(a: Tensor, b: Tensor) -> bool:
    finite = b[b.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    return a.shape == b.shape and bool(torch.allclose(a, b, rtol=0, atol=1e-5 * scale + 1e-8, equal_nan=True))


def shared_embeddings(module: nn.Module, layer: nn.Module) -> list[nn.Module]:
    """Return the layer, and after an embedding the others of the same weight."""
    found = [layer]
    if isinstance(layer, nn.Embedding):
        tables = [part for part in module.modules() if isinstance(part, nn.Embedding) and part is not layer]
        found += [table for table in tables if table.weight is layer.weight]
    return found


def _may_be_images(value: Tensor) -> bool:
    return value.is_floating_point() and value.dim() == 4


def takes_embeddings(module: nn.Module, embedding: nn.Module) -> nn.Module | None:
    """Return the innermost model that takes `inputs_embeds`: those around it may read the ids for other ends."""
    found = [
        part
        for part in module.modules()
        if hasattr(part, "get_input_embeddings")
        and any(inner is embedding for inner in part.modules())
        and "inputs_embeds" in inspect.signature(part.forward).parameters
    ]
    return found[-1] if found else None
