"""The scope in which a model's attention is met: its weights are read, and others can be put in their place."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from lightning_interpret.functional.attention.weighing import Weighing, axis_after, of_einsum, of_matmul, of_product
from lightning_interpret.functional.features import find_layer
from lightning_interpret.functional.layers import plain_name
from lightning_interpret.functional.operations import DROPOUTS, Meeting, bind, names, operation

#: What keeps weights what they are, element by element: a mask and its division included.
_KEEP = DROPOUTS | names(
    "mul div add sub masked_fill where clamp clamp_min clamp_max nan_to_num contiguous clone detach to type type_as "
    "float double half bfloat16 cpu cuda"
)
_SHAPES = names(
    "reshape reshape_as view view_as flatten squeeze unsqueeze unflatten expand expand_as transpose swapaxes swapdims "
    "permute movedim moveaxis t T mT getitem"
)
#: Implementations of `transformers` that run in a kernel of their own, which no function of torch shows.
_KERNELS = ("flash", "flex", "paged", "kernels")
#: What modules call attention to another text.
_CROSS = ("cross", "encdec", "enc_dec", "encoder_attn", "encoder_decoder")


class AttentionError(ValueError):
    """No attention is met where some is needed, or what was put in its place does not fit."""


@dataclass(frozen=True, eq=False)
class Site:
    """One place of a forward at which values are summed by attention.

    Attributes:
        number: The how manyth it is, from 0.
        name: Name of the module that called it, innermost; empty for the module itself.
        kind: ``self`` (a text to itself), ``cross`` (to another text), or ``pooling`` (one set of weights a text).
        weights: ``(B, H, Q, K)``; rows sum to 1, to 0 where a query has no key. ``(B, 1, 1, K)`` for pooling attention.
    """

    number: int
    name: str
    kind: str
    weights: Tensor


#: Given a site, its weights (B, H, Q, K) and its values (B, H, K, D), returns what takes the place of the weights, of
#: both, or None.
Edit = Callable[[Site, Tensor, Tensor], Tensor | tuple[Tensor, Tensor] | None]


class Attentions(Meeting):
    """The attention of one forward.

    Attributes:
        weights: What was met, in order. Its weights are those in force, after an edit, and require a gradient where
            gradients are on, also where the model itself requires none.
    """

    def __init__(
        self, module: nn.Module, edit: Edit | None = None, inside: str | None = None, keep: bool = True
    ) -> None:
        super().__init__()
        self.weights: list[Site] = []
        self.met = 0
        self.begun = True
        self._edit, self._keep, self._batch = edit, keep, 0
        of_interest = None if inside is None else find_layer(module, inside, argument="inside")
        self._inside = None if of_interest is None else {id(part) for part in of_interest.modules()}
        self._names = {id(part): plain_name(name) for name, part in module.named_modules()}
        self._parts = dict(module.named_modules())
        # what is known of tensors, by identity, for as long as the model holds them
        self._softmaxed: MutableMapping[Any, tuple[int, torch.Size]] = WeakIdKeyDictionary()
        self._products: MutableMapping[Any, tuple[int, Callable[[Callable], Tensor]]] = WeakIdKeyDictionary()

    def of_kind(self, *kinds: str) -> list[Site]:
        """Return the sites of some kinds."""
        return [site for site in self.weights if site.kind in kinds]

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Run one operation."""
        kwargs = kwargs or {}
        name, _ = operation(func)
        if name == "scaled_dot_product_attention":
            return self._scaled_dot_product(args, kwargs)
        if (run := self.opened(func)) is not None:
            return run(*args, **kwargs)
        if name == "matmul" and len(args) == 2:
            return self._matmul(func, args, kwargs)
        if name == "einsum":
            return self._einsum(func, args, kwargs)
        if name == "sum" and args and isinstance(args[0], Tensor) and args[0] in self._products:
            return self._sum(func, args, kwargs)
        output = func(*args, **kwargs)
        if name == "softmax":
            dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
            if isinstance(dim, int) and output.dim():
                self._softmaxed[output] = (dim % output.dim(), output.shape)
        elif name == "embedding":
            ids = [each for each in args if isinstance(each, Tensor) and not each.is_floating_point()]
            self._batch = max([self._batch, *(len(of) for of in ids if of.dim() > 1)])
        elif name in _KEEP or name in _SHAPES:
            self._follow(name, func, args, kwargs, output)
        return output

    def _follow(self, name: str, func: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        """Remember of a result that it is weights, or values times weights."""
        weights = next((each for each in args if isinstance(each, Tensor) and each in self._softmaxed), None)
        if weights is None or not isinstance(output, Tensor):
            return
        axis, source = self._softmaxed[weights]
        if name in _SHAPES:
            after = axis_after(func, args, kwargs, axis) if args[0] is weights else None
            if after is not None:
                self._softmaxed[output] = (after, source)
        elif output.shape == weights.shape:
            self._softmaxed[output] = (axis, source)
        elif name == "mul" and len(args) == 2:
            values = args[1] if args[0] is weights else args[0]
            axis += output.dim() - weights.dim()
            weights = weights.reshape([1] * (output.dim() - weights.dim()) + list(weights.shape))
            form = of_product(axis, weights, values) if _of_the_input(values) else None
            if form is None:
                return

            def again(run: Callable) -> Tensor:
                narrow = weights.reshape([n for i, n in enumerate(weights.shape) if i not in form[1]])
                found = self._weigh(form[0], narrow, values, lambda w, v: run(w.reshape(weights.shape) * v), source)
                return run(weights * values) if found is None else found

            self._products[output] = (axis, again)

    def _sum(self, func: Any, args: tuple, kwargs: dict[str, Any]) -> Tensor:
        """Sum values times weights: over the weights' axis and no other, it is attention."""
        product, (axis, again) = args[0], self._products[args[0]]
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        dims = [d % product.dim() for d in (dim if isinstance(dim, (tuple, list)) else [dim]) if isinstance(d, int)]
        if dims != [axis]:
            return func(*args, **kwargs)
        return again(lambda weighed: func(weighed, *args[1:], **kwargs))

    def _matmul(self, func: Any, args: tuple, kwargs: dict[str, Any]) -> Tensor:
        for weights, values, left in ((*args, True), (*args[::-1], False)):
            known = self._softmaxed.get(weights) if _of_the_input(values) else None
            form = None if known is None else of_matmul(known[0], weights, values, left=left)
            if known is None or form is None:
                continue
            lead = torch.broadcast_shapes(weights.shape[:-2], values.shape[:-2])  # values of fewer heads
            weights, values = (t.expand(*lead, *t.shape[-2:]) for t in (weights, values))
            found = self._weigh(form, weights, values, func if left else lambda w, v: func(v, w), known[1])
            if found is not None:
                return found
        return func(*args, **kwargs)

    def _einsum(self, func: Any, args: tuple, kwargs: dict[str, Any]) -> Tensor:
        equation, *operands = args
        operands = list(operands[0]) if len(operands) == 1 and not isinstance(operands[0], Tensor) else operands
        for place in range(2 if isinstance(equation, str) and len(operands) == 2 else 0):
            weights, values = operands[place], operands[1 - place]
            known = self._softmaxed.get(weights) if _of_the_input(values) else None
            form = None if known is None else of_einsum(equation, place, known[0], (operands[0], operands[1]))
            if known is None or form is None:
                continue
            step = 1 if place == 0 else -1
            found = self._weigh(form, weights, values, lambda *both, step=step: func(equation, both[::step]), known[1])
            if found is not None:
                return found
        return func(*args, **kwargs)

    def _scaled_dot_product(self, args: tuple, kwargs: dict[str, Any]) -> Tensor:
        given = bind(args, kwargs, ("query", "key", "value", "attn_mask", "dropout_p", "is_causal"))
        query, key, value = given["query"], given["key"], given["value"]
        if given.get("enable_gqa"):
            key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
        scale = given.get("scale")
        scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        mask = given.get("attn_mask")
        if given.get("is_causal"):
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
        nothing = (scores == -math.inf).all(dim=-1, keepdim=True)  # a query without a key: its output is 0
        half = scores.dtype in (torch.float16, torch.bfloat16)
        weights = scores.masked_fill(nothing, 0.0).softmax(-1, dtype=torch.float32 if half else None)
        weights = weights.masked_fill(nothing, 0.0).to(value.dtype)
        weights = torch.dropout(weights, given.get("dropout_p") or 0.0, True)
        value = value.expand(*weights.shape[:-2], *value.shape[-2:])
        lead = "zyxwvu"[: weights.dim() - 2]
        found = self._weigh(Weighing(lead + "qk", lead + "kd", "k"), weights, value, torch.matmul, None)
        return weights @ value if found is None else found

    def _weigh(
        self, form: Weighing, weights: Tensor, values: Tensor, run: Callable, source: torch.Size | None
    ) -> Tensor | None:
        """Meet one site and return what it gives; None where it is no attention that is asked for."""
        called = self._caller()
        if not self.begun or called is None:
            return None
        name, caller = called
        if self._inside is not None and id(caller) not in self._inside:
            return None
        shapes = (weights.shape, values.shape)
        heads = self._heads(len(weights), source, caller) if len(form.shared) == 1 else None
        opened, value = form.opened(weights, values, heads)
        site = Site(self.met, name, self._kind(name, opened, source), opened)
        if self._edit is not None:
            edited = self._edit(site, opened, value)
            opened, value = _checked(site, edited, opened, value)
        if torch.is_grad_enabled() and not opened.requires_grad:
            opened = opened.detach().requires_grad_()
        self.met += 1
        if self._keep:
            self.weights.append(replace(site, weights=opened))
        return run(*form.closed(opened, value, shapes))

    def _heads(self, lead: int, source: torch.Size | None, caller: nn.Module | None) -> int | None:
        """Return how many heads lie beside the examples in an axis; None where it holds examples alone."""
        if source is not None and len(source) == 4 and source[0] * source[1] == lead and source[0] != lead:
            return source[1]
        if isinstance(caller, nn.MultiheadAttention):
            return caller.num_heads
        return lead // self._batch if self._batch and lead > self._batch and lead % self._batch == 0 else None

    def _kind(self, name: str, weights: Tensor, source: torch.Size | None) -> str:
        queries, keys = weights.shape[-2:]
        if queries == 1 and (keys > 1 or (source is not None and len(source) < 4)):
            return "pooling"
        parent, _, last = name.rpartition(".")
        decodes = last == "multihead_attn" and isinstance(self._parts.get(parent), nn.TransformerDecoderLayer)
        crosses = queries != keys or decodes or any(word in name.lower() for word in _CROSS)
        return "cross" if crosses else "self"

    def _caller(self) -> tuple[str, nn.Module | None] | None:
        """Return the innermost part of the module that runs, and its name; None where only other models do."""
        frame, others = sys._getframe(1), False
        while frame is not None:
            part = frame.f_locals.get("self")
            if isinstance(part, nn.Module):
                if id(part) in self._names:
                    return self._names[id(part)], part
                others = True
            frame = frame.f_back  # type: ignore[assignment]
        return None if others else ("", None)


@contextmanager
def attention(
    module: nn.Module,
    edit: Edit | None = None,
    *,
    inside: str | None = None,
    after: str | None = None,
    keep: bool = True,
) -> Iterator[Attentions]:
    """Run one forward of a module, and meet its attention, whatever implementation computes it.

    Attention is a ``scaled_dot_product_attention``, or a softmax whose result weighs vectors that were computed from
    the input and sums them over the axis in which it sums to 1 (by ``matmul``, ``einsum``, or a product and a sum). So
    the softmax of a head is none: it gives probabilities, and weighs nothing that the input has.

    Nothing of the module is patched, and other threads see nothing of it. An implementation of `transformers` that no
    function of torch shows (flash, flex) is eager while the block lasts. Logits are the model's up to rounding.

        >>> from torch import nn
        >>> layer = nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
        >>> with attention(layer) as met:
        ...     _ = layer(torch.zeros(1, 3, 8))
        >>> met.weights[0].name, tuple(met.weights[0].weights.shape)
        ('self_attn', (1, 2, 3, 3))

    Args:
        module: The module that runs in the block, best in :func:`~lightning_interpret.functional.scope.explaining`.
        edit: Called at each site with the site, its weights ``(B, H, Q, K)`` and its values ``(B, H, K, D)``; returns
            what takes their place: weights, a pair of both, or None for what the model has.
        inside: Name of a module: only attention that is made in there is met.
        after: Name of a layer: only attention that is made after it has run is met.
        keep: Whether the weights are kept; without, an ``edit`` sees them, and no more memory is held.

    Raises:
        AttentionError: If no attention was met, or an edit returns what has another shape.
        LayerError: If there is no module of the name ``inside`` or ``after``.
    """
    met = Attentions(module, edit, inside, keep)
    with _eager(module), _after(met, module, after), met:
        yield met
    if not met.met:
        where = f"{type(module).__name__} with `inside={inside!r}`" if inside is not None else type(module).__name__
        where += "" if after is None else f" after `{after}`"
        raise AttentionError(
            f"{where} computes no attention that could be met: neither `scaled_dot_product_attention` nor a softmax "
            "that weighs vectors of the text. Use a method that needs none, such as 'integrated_gradients'; in a model "
            "of your own, write attention with either of them (no kernel of its own, no scripted function)."
        )


@contextmanager
def _eager(module: nn.Module) -> Iterator[None]:
    """Let models of `transformers` that run attention in a kernel of its own compute it by functions of torch."""
    configs = {id(config): config for part in module.modules() if (config := getattr(part, "config", None)) is not None}
    used = [(config, getattr(config, "_attn_implementation", None)) for config in configs.values()]
    try:
        for config, name in used:
            if isinstance(name, str) and name.startswith(_KERNELS):
                config._attn_implementation = "eager"
        yield
    finally:
        for _ in range(2):  # one that holds others sets theirs too, and need not be the first
            for config, name in used:
                if getattr(config, "_attn_implementation", None) != name:
                    config._attn_implementation = name


@contextmanager
def _after(met: Attentions, module: nn.Module, layer: str | None) -> Iterator[None]:
    """Begin once a layer has run, in this thread."""
    if layer is None:
        yield
        return
    met.begun, thread = False, threading.get_ident()

    def begin(*_: object) -> None:
        met.begun |= threading.get_ident() == thread

    handle = find_layer(module, layer, argument="after").register_forward_hook(begin)
    try:
        yield
    finally:
        handle.remove()


def _of_the_input(values: Any) -> bool:
    """Whether a tensor is no weight of the model's own: weighing those (embeddings of labels) is no attention."""
    if not isinstance(values, Tensor) or not values.is_floating_point():
        return False
    own = values if values._base is None else values._base
    return not isinstance(own, nn.Parameter) and not hasattr(own, "_stands_for")


def _checked(site: Site, edited: Any, weights: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights and values that an edit leaves."""
    found = (weights, value) if edited is None else (edited, value) if isinstance(edited, Tensor) else tuple(edited)
    shapes = [tuple(each.shape) for each in found]
    if shapes != [tuple(weights.shape), tuple(value.shape)]:
        raise AttentionError(
            f"`edit` returned shapes {shapes} at site {site.number} (`{site.name}`), which has weights "
            f"{tuple(weights.shape)} and values {tuple(value.shape)}: return tensors of these shapes, or None."
        )
    return found[0], found[1]
