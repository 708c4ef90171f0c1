"""A layer that makes one vector of a text by weighing all its spans, and the place that it is put in."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.features import LayerError, first_tensor, with_first_tensor
from lightning_interpret.functional.spans import span_states, span_weights, spans_within
from lightning_interpret.layers.token_kinds import check_padding
from lightning_interpret.names import check_whole


class SpanPool(nn.Module):
    """H = Σ α h over all spans of up to so many tokens (Sun et al., 2020): ``(B, T, D) → (B, D)``.

    h_ij = tanh(U h_i + V h_j + W₄ (h_i ⊙ h_j) + b) stands for the span from i to j, and α is the softmax of w · h_ij
    over all spans of a text. Memory grows with T times the width. Weights are in single precision at least, whatever
    the states are in; a text without a span has zeros.

    Args:
        hidden: D, the width of the states.
        width: Most tokens of a span.

    Raises:
        ValueError: If either is no whole number of at least 1.
    """

    def __init__(self, hidden: int, width: int = 8) -> None:
        super().__init__()
        check_whole(hidden=hidden, width=width)
        self.hidden, self.width = hidden, width
        for name in ("start", "end", "product"):
            self.register_parameter(name, nn.Parameter(torch.empty(hidden, hidden)))
        self.bias = nn.Parameter(torch.empty(hidden))
        self.query = nn.Parameter(torch.empty(hidden))  # w
        for weight in self.parameters():
            nn.init.uniform_(weight, -(hidden**-0.5), hidden**-0.5)

    start: nn.Parameter
    end: nn.Parameter
    product: nn.Parameter

    def forward(self, states: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return H ``(B, D)`` and the weights α ``(B, T, W)``: at ``[b, i, k]`` of the k + 1 tokens from i on.

        Args:
            states: ``(B, T, D)``.
            tokens: Which tokens may be in a span, bool ``(B, T)``; a span holds no other.
        """
        width = min(self.width, states.shape[1])
        states = states.masked_fill(~tokens[..., None], 0.0)  # what padding holds may be no number
        spans = span_states(states, self.start, self.end, self.product, self.bias, width)
        weights = span_weights(spans @ self.query.to(spans.dtype), spans_within(tokens, width))
        return torch.einsum("btw,btwd->bd", weights.to(spans.dtype), spans), weights

    def get_extra_state(self) -> dict[str, Any]:
        """Return what the parameters do not tell."""
        return {"width": self.width}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take the width of the checkpoint: the weights are over its spans."""
        if state["width"] != self.width:
            warnings.warn(
                f"Spans: their width is that of the checkpoint, {state['width']}, and not {self.width}.", stacklevel=2
            )
        self.width = state["width"]

    def extra_repr(self) -> str:
        """Return the options."""
        return f"hidden={self.hidden}, width={self.width}"


class SpanSite:
    """The place of a :class:`SpanPool` in a module: where ids and states are read, and H put.

    Which tokens may be in a span is told by the ids that the encoder, or else the word embeddings, have been called
    with: neither special ones nor those that the attention mask hides.

    Args:
        pool: The layer.
        special: Returns the ids that are in no span.
        weighed: Called with the weights of each forward pass.

    Attributes:
        seen: A list that weights, tokens and H of each forward pass are added to, or None.
        fixed: H of the next passes, in the place of what is read; or None.
        ran: Whether H has been handed on.
    """

    def __init__(self, pool: SpanPool, special: Callable[[], Iterable[int]], weighed: Callable[[Tensor], None]) -> None:
        self.pool, self.special, self.weighed = pool, special, weighed
        self.seen: list[tuple[Tensor, Tensor, Tensor]] | None = None
        self.fixed: Tensor | None = None
        self.ran = False
        self.head: nn.Module | None = None
        self._handles: list[Any] = []
        self._ids: list[Tensor] = []  # those that the next states may belong to
        self._mask: Tensor | None = None
        self._pooled: Tensor | None = None  # on its way to the head
        self._known: dict[torch.device, Tensor] = {}
        self._names: list[str] = []  # of the encoder's arguments

    def attach(
        self, layer: nn.Module, embedding: nn.Module, encoder: nn.Module | None = None, head: nn.Module | None = None
    ) -> None:
        """Read what a layer returns, and put H there at each position; or only into the input of a head.

        Args:
            layer: Returns the states, ``(B, T, D)``, by itself or first.
            embedding: The word embeddings.
            encoder: A `transformers` model, whose ids and attention mask are read where it is given them.
            head: The layer that reads H, one vector an example or at each of its positions.
        """
        self._handles = [
            embedding.register_forward_pre_hook(self._embeds, with_kwargs=True),
            layer.register_forward_hook(self._pools),
        ]
        if encoder is not None:
            self._names = list(inspect.signature(encoder.forward).parameters)
            self._handles.append(encoder.register_forward_pre_hook(self._called, with_kwargs=True))
        self.put_into(head)

    def put_into(self, head: nn.Module | None) -> None:
        """Put H into another head from now on: before whatever else stands before it."""
        if head is self.head:
            return
        if self.head is not None:
            self._handles.pop().remove()
        self.head = head
        if head is not None:
            self._handles.append(head.register_forward_pre_hook(self._hands_over, prepend=True, with_kwargs=True))

    def detach(self) -> None:
        """Leave every layer."""
        for handle in self._handles:
            handle.remove()
        self._handles, self.head = [], None

    @torch.compiler.disable
    def know(self, device: torch.device) -> None:
        """Ask which ids are in no span, before the first pass or in it."""
        with torch.inference_mode(False):  # what is made there could be used nowhere else
            self._known[device] = torch.tensor(sorted(self.special()), dtype=torch.long, device=device)

    def check(self, padding: Tensor) -> None:
        """Refuse padding ``(B, T)`` that would be in spans: nothing says which ids it is, and no encoder is told.

        Raises:
            ValueError: If there is some.
        """
        if not self._names and not list(self.special()):
            check_padding("span_layer", torch.ones_like(padding), padding)

    # Hooks

    def _embeds(self, part: nn.Module, args: tuple, kwargs: dict) -> None:
        self._take_note(next(iter((*args, *kwargs.values())), None))

    def _called(self, part: nn.Module, args: tuple, kwargs: dict) -> None:
        given = dict(zip(self._names, args, strict=False)) | kwargs
        mask = given.get("attention_mask")
        self._mask = mask if isinstance(mask, Tensor) and mask.dim() == 2 else None
        self._take_note(given.get("input_ids"))

    def _take_note(self, ids: Any) -> None:
        if isinstance(ids, Tensor) and ids.dim() == 2 and not ids.is_floating_point():
            self._ids.append(ids)

    def _pools(self, part: nn.Module, args: tuple, output: Any) -> Any:
        states = first_tensor(output, "span_layer")
        tokens = self._tokens(states)
        pooled, weights = self.pool(states, tokens)
        pooled = pooled if self.fixed is None else self.fixed.to(pooled)
        if self.seen is not None:
            self.seen.append((weights, tokens, pooled))
        self.weighed(weights)
        if self.head is None:
            self.ran = True
            return with_first_tensor(output, pooled[:, None].expand_as(states))
        self._pooled = pooled
        return None

    def _hands_over(self, part: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        pooled, self._pooled, self.ran = self._pooled, None, True
        name = None if args else next(iter(kwargs), None)
        given = args[0] if args else kwargs.get(name)
        if pooled is None:
            raise ValueError("`span_head` is called before `span_layer` has been: name a layer that comes after it.")
        if (
            not isinstance(given, Tensor)
            or given.dim() not in (2, 3)
            or given.shape[:: given.dim() - 1] != pooled.shape
        ):
            found = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise ValueError(
                f"`span_head` is given {found}, and H has shape {tuple(pooled.shape)}: name a layer that reads vectors "
                "of this width, one an example or one a token."
            )
        put = (pooled if given.dim() == 2 else pooled[:, None].expand_as(given)).to(given.dtype)
        return ((put, *args[1:]), kwargs) if name is None else (args, {**kwargs, name: put})

    def _tokens(self, states: Tensor) -> Tensor:
        """Return which tokens may be in a span, ``(B, T)``; the ids are then forgotten."""
        seen, mask = self._ids, self._mask
        self._ids, self._mask = [], None
        if states.dim() != 3 or states.shape[-1] != self.pool.hidden:
            raise LayerError(
                f"`span_layer` returns {tuple(states.shape)}, and not (batch, tokens, {self.pool.hidden}): name a "
                "layer that returns the states of an encoder."
            )
        ids = next((each for each in reversed(seen) if each.shape == states.shape[:2]), None)
        if ids is None:
            found = ", ".join(str(tuple(each.shape)) for each in seen) or "none"
            raise ValueError(
                f"`span_layer` returns {tuple(states.shape)} (batch, tokens, width), and the ids that the word "
                f"embeddings were called with have shape: {found}. Spans need the ids of the same tokens."
            )
        tokens = (ids[..., None] != self._special(ids.device)).all(dim=-1)
        return tokens if mask is None or mask.shape != tokens.shape else tokens & (mask != 0)

    def _special(self, device: torch.device) -> Tensor:
        if device not in self._known:
            self.know(device)
        return self._known[device]
