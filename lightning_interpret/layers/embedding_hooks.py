"""Where a gate meets a model: hooks on its word embeddings, and on the encoder that calls them.

The ids stay in the call and the embeddings' *output* is gated, as with :mod:`..functional.features`. What goes past
them is gated too: ``inputs_embeds`` that an encoder is given in their place, and the same text embedded again for a
decoder (T5, BART). Hooks are methods of an object that a copy of the module has a copy of.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.features import (
    LayerError,
    find_layer,
    followed,
    shared_embeddings,
    takes_embeddings,
)
from lightning_interpret.layers.sites import time_first

if TYPE_CHECKING:
    from lightning_interpret.layers.token_selection import TokenSelection


@dataclass
class _Call:
    """One call of the encoder that embeds."""

    ids: Tensor | None = None
    mask: Tensor | None = None
    hidden: Tensor | None = None  # what it made of the whole text
    gated: bool = False


class EmbeddingHooks:
    """The hooks of one gate.

    Args:
        selection: What z is asked of.
        module: The module that contains the embeddings.
        layer: Their name.
        shared: Whether the encoder reads the whole text first.

    Raises:
        LayerError: If there is no such layer, it is no embedding, or there is no encoder to share.
    """

    def __init__(self, selection: TokenSelection, module: nn.Module, layer: str, *, shared: bool = False) -> None:
        embedding = word_embeddings(module, layer)
        encoder = takes_embeddings(module, embedding)
        if shared and encoder is None:
            raise LayerError(
                f"`rationale_generator='shared'`: no model of `transformers` around {layer!r} could read the whole "
                "text first. Use 'own', or name a part of the module that reads the embeddings (B, T, D)."
            )
        self.layer, self.shared = layer, shared
        self._selection, self._embedding, self._encoder = selection, embedding, encoder
        self._time_first = time_first(module, layer)
        self._call: _Call | None = None
        self._reading = False
        self._ids: Tensor | None = None  # those embedded last outside of the encoder
        self._last: tuple[Tensor, Tensor, Tensor] | None = None  # ids, z, no padding: for who embeds it again
        self._handles = [embedding.register_forward_hook(self._embedded, with_kwargs=True)]
        for other in shared_embeddings(module, embedding)[1:]:
            self._handles.append(other.register_forward_hook(self._embedded_again, with_kwargs=True))
        if encoder is not None:
            self._handles.append(encoder.register_forward_pre_hook(self._begins, with_kwargs=True))
            self._handles.append(encoder.register_forward_hook(self._ends, always_call=True))

    def remove(self) -> None:
        """Leave the module as it was."""
        for handle in self._handles:
            handle.remove()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what the last call was: a copy of it would be of a graph, which cannot be copied."""
        return vars(self) | {"_call": None, "_ids": None, "_last": None}

    # The encoder

    @torch.compiler.disable
    def _begins(self, encoder: nn.Module, args: tuple, kwargs: dict) -> Any:
        if self._reading or self._selection.off:
            return None
        names = inspect.signature(encoder.forward).parameters
        given = dict(zip(names, args, strict=False)) | kwargs
        tensors = {name: value for name, value in given.items() if isinstance(value, Tensor)}
        self._last, self._call = None, _Call(tensors.get("input_ids"), tensors.get("attention_mask"))
        if self.shared and not self._selection.is_given:
            self._call.hidden = self._whole(encoder, given, "use_cache" in names)
        embedded = given.get("inputs_embeds")
        if not isinstance(embedded, Tensor):
            return None
        ids, self._ids = self._ids, None
        if ids is None or ids.shape != embedded.shape[:2]:
            raise LayerError(
                f"`rationale_layer={self.layer!r}`: {type(encoder).__name__} is given `inputs_embeds` "
                f"{tuple(embedded.shape)} of ids that nobody knows, so which tokens may be selected is not known "
                "either: give it `input_ids`, or embed them by that layer."
            )
        return (), given | {"inputs_embeds": self._gated(embedded, ids, self._call)}

    @torch.compiler.disable
    def _ends(self, encoder: nn.Module, args: Any, output: Any) -> None:
        if self._reading or self._call is None:
            return
        call, self._call = self._call, None
        if output is not None and not call.gated:
            raise LayerError(
                f"`rationale_layer={self.layer!r}` did not run in {type(encoder).__name__}, so that nothing was "
                "selected: name the word embeddings that it reads."
            )

    def _whole(self, encoder: nn.Module, given: dict[str, Any], caches: bool) -> Tensor:
        """Return what the encoder makes of the whole text."""
        self._reading = True
        try:
            output = encoder(**given, **({"use_cache": False} if caches and "use_cache" not in given else {}))
        finally:
            self._reading = False
        found = output if isinstance(output, Tensor) else output[0]
        if not isinstance(found, Tensor) or found.dim() != 3:
            raise LayerError(
                f"`rationale_generator='shared'`: {type(encoder).__name__} returns no states (B, T, width): use 'own'."
            )
        return found

    # The embeddings

    @torch.compiler.disable
    def _embedded(self, embedding: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        if self._reading or self._selection.off:
            return None
        ids = _ids_of(args, kwargs)
        if self._encoder is not None and self._call is None:  # by somebody else: for `inputs_embeds`, or a baseline
            self._ids = ids
            return None
        if self._call is not None and self._call.gated:
            return self._embedded_again(embedding, args, kwargs, output)
        flipped = self._time_first and ids is not None and ids.dim() == 2
        features, ids = (output.transpose(0, 1), ids.T) if flipped and ids is not None else (output, ids)
        if ids is None or ids.dim() != 2 or features.shape[:2] != ids.shape:
            raise LayerError(
                f"`rationale_layer={self.layer!r}` is called with ids "
                f"{None if ids is None else tuple(ids.shape)}, and a gate needs texts (batch, tokens)."
            )
        if self._call is not None and self._call.ids is not None and not _begin_with(ids, self._call.ids):
            raise LayerError(
                f"`rationale_layer={self.layer!r}` embeds {tuple(ids.shape)}, and not the ids "
                f"{tuple(self._call.ids.shape)} of the call: name the word embeddings."
            )
        found = self._gated(features, ids, self._call or _Call())
        return found.transpose(0, 1) if flipped else found

    @torch.compiler.disable
    def _embedded_again(self, embedding: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> Any:
        """Gate the text where it is embedded once more: as it is, or shifted right, as a decoder reads it."""
        ids = _ids_of(args, kwargs)
        if self._reading or self._selection.off or self._last is None or ids is None:
            return None
        known, z, there = self._last
        factor = followed(known, ids, z, torch.ones_like(z))
        if factor is None:
            return None
        filled = followed(known, ids, there, torch.zeros_like(there))
        assert filled is not None
        return self._multiplied(output, factor, filled)

    def _gated(self, features: Tensor, ids: Tensor, call: _Call) -> Tensor:
        read = self._selection.select(features, ids, call.mask, call.hidden)
        there = read.selectable | read.special
        call.gated, self._last = True, (ids, read.z, there)
        return self._multiplied(features, read.z, there)

    def _multiplied(self, features: Tensor, z: Tensor, there: Tensor) -> Tensor:
        factor = z.to(features.dtype)[..., None]
        gated = features * factor
        if self._selection.fill is None:
            return gated
        ids = torch.tensor([[self._selection.fill]], device=features.device)
        fill = self._embedding.forward(ids)[0, 0].to(features.dtype)  # past the hooks
        return gated + (1 - factor) * there[..., None].to(features.dtype) * fill


def word_embeddings(module: nn.Module, layer: str) -> nn.Module:
    """Return the word embeddings of this name.

    Raises:
        LayerError: If there is no such layer, or it embeds nothing.
    """
    part = find_layer(module, layer)
    weight = getattr(part, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 2 or isinstance(part, nn.Linear):
        raise LayerError(
            f"`rationale_layer={layer!r}` is a {type(part).__name__}: name word embeddings (nn.Embedding)."
        )
    return part


def _begin_with(ids: Tensor, given: Tensor) -> bool:
    """Whether ids are those of the call, which the model may have padded further."""
    if ids.shape == given.shape and ids.data_ptr() == given.data_ptr():  # nothing to wait for
        return True
    return given.dim() == 2 and torch.equal(ids[:, : given.shape[1]], given)


def _ids_of(args: tuple, kwargs: dict) -> Tensor | None:
    return next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor) and not a.is_floating_point()), None)
