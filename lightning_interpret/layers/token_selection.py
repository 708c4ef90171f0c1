"""Token selection: a gate at a model's word embeddings, so that it predicts from the selected tokens alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.gates import select
from lightning_interpret.layers.embedding_hooks import EmbeddingHooks
from lightning_interpret.layers.selection_control import SelectionControl
from lightning_interpret.layers.token_gate import Selection, TokenGate
from lightning_interpret.layers.token_kinds import TokenKinds
from lightning_interpret.names import choose

EVALUATIONS = ("budget", "threshold")


@dataclass(frozen=True, eq=False)
class Read:
    """What was selected of the texts of one call.

    Attributes:
        ids: Token ids ``(B, T)``.
        z: What each token's embedding was multiplied by, ``(B, T)``; 0 on padding.
        selectable: Which tokens may be selected, bool ``(B, T)``.
        special: Which frame a text, bool ``(B, T)``.
        selection: What the gate made of it; ``None`` where the selection was given.
    """

    ids: Tensor
    z: Tensor
    selectable: Tensor
    special: Tensor
    selection: Selection | None

    @property
    def selected(self) -> Tensor:
        """Which of the selectable tokens were selected, bool ``(B, T)``."""
        return (self.z > 0) & self.selectable

    @property
    def rates(self) -> tuple[Tensor, Tensor]:
        """The share of the selectable tokens that were selected, and whether there are any, ``(B,)`` each."""
        count = self.selectable.sum(dim=1)
        return self.selected.sum(dim=1) / count.clamp(min=1), count > 0


class TokenSelection(nn.Module):
    """Multiplies the word embeddings of a model by z, so that everything after is a function of what is selected.

    z is made anew at each call of the embeddings, of what they return, by a generator and a gate. What an unselected
    token was does not reach the model: its place holds zeros, or the fill. Which tokens may be selected is read off
    the ids of the call, and the attention mask of the model that makes it.

    Args:
        gate: The gate.
        control: What holds its rate; its target is the budget at evaluation.
        kinds: Which tokens may be selected.
        generator: ``(B, T, D), (B, T) → (B, T, gate.width)``, of the embeddings and of what may be selected; ``None``
            where what the gate reads is made by other parts of the model (:meth:`attach`).
        keep_special: Whether tokens that frame a text are always kept; otherwise they never are.
        evaluation: ``budget`` for exactly the target share at evaluation, the tokens of the largest probabilities;
            ``threshold`` for the gate's own decision.
        fill: Id of the token whose embedding stands where a token was not selected; ``None`` for zeros.

    Raises:
        ValueError: If ``evaluation`` does not exist.

    Attributes:
        warming: Whether in training everything is read, so that there is a predictor before tokens are taken from it.
    """

    #: It stands beside the model: none of its layers is the model's head, or a block of it.
    beside = True

    def __init__(
        self,
        gate: TokenGate,
        control: SelectionControl,
        kinds: TokenKinds,
        generator: nn.Module | None = None,
        *,
        keep_special: bool = True,
        evaluation: str = "budget",
        fill: int | None = None,
    ) -> None:
        super().__init__()
        self.evaluation = choose("rationale_evaluation", evaluation, EVALUATIONS)
        self.gate, self.control, self.kinds, self.generator = gate, control, kinds, generator
        self.keep_special, self.fill = keep_special, fill
        self.warming = False
        self.average: float | None = None  # of the losses that a policy gradient is relative to
        self.hooks: EmbeddingHooks | None = None
        self._reader: Callable[[Tensor], Any] | None = None
        self._scope: tuple[str, Tensor | None] = ("gate", None)
        self._heard: list[Read] | None = None
        self._limit: int | None = None

    # Attaching

    def attach(self, module: nn.Module, layer: str, *, shared: bool = False, reader: nn.Module | None = None) -> None:
        """Gate the word embeddings of a module.

        Args:
            module: The module.
            layer: Name of its word embeddings.
            shared: Whether the encoder that embeds reads the whole text first, for the gate to read what it returns.
            reader: Another part of the module that makes of the embeddings what the gate reads, ``(B, T, width)``.

        Raises:
            LayerError: If there is no such layer, or no encoder to share.
        """
        self.detach()
        self._reader = None if reader is None else _Reader(reader)
        self.hooks = EmbeddingHooks(self, module, layer, shared=shared)

    def detach(self) -> None:
        """Leave the embeddings as they are."""
        if self.hooks is not None:
            self.hooks.remove()
        self.hooks = None

    # Scopes

    @contextmanager
    def selecting(self, z: Tensor) -> Iterator[None]:
        """Run a block with a selection that is given, ``(B, T)``, for the texts of every call in it."""
        with self._in("given", z):
            yield

    @contextmanager
    def everything(self) -> Iterator[None]:
        """Run a block without the gate: the model reads the whole text."""
        with self._in("off"):
            yield

    @contextmanager
    def complement(self) -> Iterator[None]:
        """Run a block with the tokens that the gate does not select in place of those that it selects."""
        with self._in("complement"):
            yield

    @contextmanager
    def hearing(self, limit: int | None = None) -> Iterator[list[Read]]:
        """Collect what is selected by the calls in a block, of the first ``limit`` of them."""
        before = self._heard, self._limit
        heard = self.listen(limit)
        try:
            yield heard
        finally:
            self._heard, self._limit = before

    def listen(self, limit: int | None = None) -> list[Read]:
        """Collect from now on what is selected, of the first ``limit`` calls, until :meth:`hush`."""
        self._heard, self._limit = [], limit
        return self._heard

    def hush(self) -> None:
        """Collect nothing any more."""
        self._heard = None

    @property
    def off(self) -> bool:
        """Whether nothing is gated now."""
        return self._scope[0] == "off"

    @property
    def is_given(self) -> bool:
        """Whether the selection is given."""
        return self._scope[1] is not None

    @contextmanager
    def _in(self, name: str, z: Tensor | None = None) -> Iterator[None]:
        before, self._scope = self._scope, (name, z)
        try:
            yield
        finally:
            self._scope = before

    # Selecting

    def select(self, features: Tensor, ids: Tensor, mask: Tensor | None, hidden: Tensor | None) -> Read:
        """Return what is selected of the texts of one call.

        Args:
            features: Their word embeddings ``(B, T, D)``.
            ids: Their ids ``(B, T)``.
            mask: Their attention mask, if known.
            hidden: What the encoder made of the whole texts, where the gate reads that.

        Raises:
            ValueError: If the selection that was given is not of these texts, or the generator returns another shape.
        """
        selectable, special = self.kinds.of(ids, mask)
        scope, given = self._scope
        if given is not None:
            selection, z = None, _fitted(given, ids)
        else:
            selection = self._decide(features, ids, selectable, hidden)
            z = selection.z if scope != "complement" else (selectable & (selection.z == 0)).float()
            z = torch.where(special, float(self.keep_special), z)
        read = Read(ids, z, selectable, special, selection)
        self._tell(read)
        return read

    def _decide(self, features: Tensor, ids: Tensor, selectable: Tensor, hidden: Tensor | None) -> Selection:
        if hidden is not None:
            read = nn.functional.pad(hidden, (0, 0, 0, ids.shape[1] - hidden.shape[1]))
            read = nn.functional.layer_norm(read.float(), read.shape[-1:])
        elif self._reader is not None:
            read = self._reader(features)
        else:
            assert self.generator is not None
            read = self.generator(features, selectable)
        if read.shape != (*ids.shape, self.gate.width):
            raise ValueError(
                f"`rationale_generator` returns {tuple(read.shape)} of texts {tuple(ids.shape)}, and must return "
                f"{(*ids.shape, self.gate.width)}: features of each token."
            )
        target = self.control.target_now if self.training else self.control.target
        selection: Selection = self.gate(read, selectable, target=target)
        if self.training and self.warming:
            return replace(selection, z=selectable.to(selection.z))
        if self.training or self.evaluation != "budget":
            return selection
        chosen = select(selection.probabilities, selectable, self.control.target, self.kinds.words(ids, selectable))
        return replace(selection, z=chosen.to(selection.z))

    def _tell(self, read: Read) -> None:
        heard = self._heard
        if heard is None or (self._limit is not None and len(heard) >= self._limit):
            return
        if self.training and (not torch.is_grad_enabled() or torch._C._current_graph_task_id() != -1):
            return  # it is computed for something else, or again
        heard.append(read)

    # State

    def get_extra_state(self) -> dict[str, Any]:
        """Return what has moved beside the weights, and the options that these were trained with."""
        return {"average": self.average, "options": self._options}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take what :meth:`get_extra_state` returned; options are the module's own, and those that differ are told."""
        self.average = state["average"]
        now, before = self._options, state.get("options", {})
        others = {name: value for name, value in before.items() if value != now.get(name)}
        if others:
            told = (f"`rationale_{name}={value!r}` (here: {now.get(name)!r})" for name, value in others.items())
            warnings.warn(
                f"The checkpoint is of a module with {', '.join(told)}, so that this one selects otherwise: give the "
                "same, or call `self.save_hyperparameters()` in the module, which keeps them in checkpoints.",
                stacklevel=2,
            )

    @property
    def _options(self) -> dict[str, Any]:
        """What a prediction depends on beside the weights."""
        fill = "zero" if self.fill is None else "mask"
        own = {"evaluation": self.evaluation, "keep_special": self.keep_special, "fill": fill}
        return {"target": self.control.target, "gate": self.gate.kind, **own}

    def extra_repr(self) -> str:
        """Return the options."""
        return f"evaluation={self.evaluation!r}, keep_special={self.keep_special}, fill={self.fill}"


@dataclass(frozen=True)
class _Reader:
    """A part of the model that is called, and is no child of who calls it: it is in the model's state already."""

    part: nn.Module

    def __call__(self, features: Tensor) -> Tensor:
        found = self.part(features)
        return found[0] if isinstance(found, tuple) else found


def _fitted(z: Tensor, ids: Tensor) -> Tensor:
    """Return a selection for ids that the model may have padded further."""
    if z.dim() != 2 or len(z) != len(ids) or z.shape[1] > ids.shape[1]:
        raise ValueError(f"The selection has shape {tuple(z.shape)}, but the texts are {tuple(ids.shape)}.")
    return nn.functional.pad(z.to(ids.device).float(), (0, ids.shape[1] - z.shape[1]))
