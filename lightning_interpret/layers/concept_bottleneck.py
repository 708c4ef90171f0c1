"""A concept bottleneck: what follows reads how likely some concepts are, and concepts can be set by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_interpret.functional.concepts import with_concepts, wrong_labels
from lightning_interpret.names import check_whole, choose, unknown

MODES = ("soft", "hard", "logit")

_SURE = 0.99  # the probability whose logit stands for a concept that is there, and one minus it for one that is not


class ConceptBottleneck(nn.Module):
    """Concept scores s = W h + b; the next layer reads p = σ(s) (Koh et al., 2020): ``(B, width) → (B, size)``.

    The first concepts are named, and learnt from labels; others are free, and learnt from the task. In training nothing
    of the task's gradient passes the named ones (``stop_gradient``), which else come to tell of the label what is
    no part of their meaning; in evaluation all gradients pass, so that a prediction can be explained.

    It computes in single precision, also under autocast, and returns what it was given.

    Args:
        width: Width of the features h.
        names: Names of the concepts that have labels.
        free: How many there are beside; their names are ``free_1``, ``free_2``, ...
        mode: What is handed on: ``soft``, p; ``hard``, whether s > 0, with the gradient of p; ``logit``, s.
        residual: Whether h follows the concepts in what is handed on.
        stop_gradient: Whether the task moves free concepts (and the residual) alone.

    Attributes:
        names: Names of all concepts.
        named: How many have labels.
        size: Width of what is handed on.

    Raises:
        ValueError: If an option does not exist, there are no concepts, or two of one name.
    """

    def __init__(
        self,
        width: int,
        names: Sequence[str] = (),
        free: int = 0,
        *,
        mode: str = "soft",
        residual: bool = False,
        stop_gradient: bool = True,
    ) -> None:
        super().__init__()
        check_whole(width=width)
        self.names = named_concepts(names, free)
        self.mode, self.residual, self.stop_gradient = choose("mode", mode, MODES), residual, stop_gradient
        self.width, self.named, self.free = width, len(self.names) - free, free
        self.size = len(self.names) + (width if residual else 0)
        like = nn.Linear(width, len(self.names))
        # no `nn.Linear`: whoever looks for the last linear layer of a module is looking for the head
        self.weight, self.bias = nn.Parameter(like.weight.detach()), nn.Parameter(torch.zeros(len(self.names)))
        self._open = _Open()

    def forward(self, h: Tensor) -> Tensor:
        """Return what is handed on, in the precision of ``h``.

        Raises:
            ValueError: If the features are not ``(B, width)``, or a concept is set for another number of examples.
        """
        if h.dim() != 2 or h.shape[1] != self.width:
            raise ValueError(
                f"The concept bottleneck reads one vector of width {self.width} an example, (B, {self.width}), but is "
                f"given {tuple(h.shape)}: name a head that reads such vectors, `concept_head=`. Models whose head "
                "reads every token (decoders) have none."
            )
        values = self.handed_on(self.scores(h))
        if self._open.scopes:
            values = self._replaced(values)
        values = values.to(h.dtype)
        return torch.cat([values, h], dim=1) if self.residual else values

    def scores(self, h: Tensor) -> Tensor:
        """Return the concepts' logits ``(B, K)`` in single precision at least."""
        with torch.autocast(h.device.type, enabled=False):
            dtype = torch.promote_types(self.weight.dtype, torch.float32)
            return F.linear(h.to(dtype), self.weight.to(dtype), self.bias.to(dtype))

    def handed_on(self, scores: Tensor) -> Tensor:
        """Return what is handed on of concepts with these logits, ``(B, K)``."""
        values = scores if self.mode == "logit" else scores.sigmoid()
        if self.mode == "hard":
            values = (scores > 0).to(values) + (values - values.detach())
        if not (self.training and self.stop_gradient and self.named):
            return values
        named = values[:, : self.named].detach()
        return torch.cat([named, values[:, self.named :]], dim=1) if self.free else named

    def of_probabilities(self, probabilities: Tensor) -> Tensor:
        """Return what is handed on where concepts have these probabilities; logits are those of 0.01 to 0.99."""
        if self.mode != "logit":
            return probabilities
        return probabilities.clamp(1 - _SURE, _SURE).logit()

    @contextmanager
    def intervene(self, values: Mapping[str, float | Tensor]) -> Iterator[None]:
        """Run a block in which some concepts are what is said here, in this thread; inner blocks have the last word.

        Args:
            values: The probability of each concept by its name: a number, or one for each example, ``(B,)``, of which
                NaN leaves what the model says.

        Raises:
            ValueError: If there is no such concept, or a value lies outside of [0, 1].
        """
        given = [(name, self._checked(name, value)) for name, value in values.items()]
        before = _SET.get({})
        token = _SET.set({**before, self: (*before.get(self, ()), *given)})
        self._open.scopes += 1
        try:
            yield
        finally:
            self._open.scopes -= 1
            _SET.reset(token)

    def set_by_hand(self, rows: int) -> Tensor:
        """Return what concepts are set to in the present block, ``(rows, K)``; NaN where they are not."""
        found = torch.full((rows, len(self.names)), torch.nan, device=self.weight.device)
        for name, value in _SET.get({}).get(self, ()):
            if value.dim() and len(value) != rows:
                raise ValueError(f"`intervene`: {name!r} is set for {len(value)} examples, and the batch has {rows}.")
            place = self.names.index(name)
            found[:, place] = with_concepts(found[:, place], value)
        return found

    @torch.compiler.disable
    def _replaced(self, values: Tensor) -> Tensor:
        probabilities = self.set_by_hand(len(values))
        return with_concepts(values, self.of_probabilities(probabilities).to(values))

    def _checked(self, name: str, value: float | Tensor) -> Tensor:
        if name not in self.names:
            raise ValueError(unknown("intervene", name, self.names))
        try:
            found = torch.as_tensor(value, dtype=torch.float32).detach()
        except (TypeError, ValueError):
            found = torch.empty(0, 0)  # refused below
        if found.dim() > 1 or not bool((found.isnan() | ((found >= 0) & (found <= 1))).all()):
            raise ValueError(
                f"`intervene`: {name!r} is set to {value!r}, and must be a probability from 0 to 1, or one for each "
                "example, (B,), of which NaN leaves what the model says."
            )
        return found

    # State

    def get_extra_state(self) -> dict[str, Any]:
        """Return what the numbers mean."""
        return {"names": list(self.names), "mode": self.mode, "residual": self.residual}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Refuse a checkpoint of other concepts.

        Raises:
            ValueError: If names, their order, or what is handed on are not the same.
        """
        here = self.get_extra_state()
        for name in ("names", "mode", "residual"):
            if state[name] != here[name]:
                raise ValueError(
                    f"The checkpoint is of a concept bottleneck with {name}={state[name]!r}, and this one has "
                    f"{name}={here[name]!r}: give it the same."
                )

    def extra_repr(self) -> str:
        """Return the options."""
        return f"{self.width} → {', '.join(self.names)}; mode={self.mode}, residual={self.residual}"


@dataclass
class _Open:
    """How many blocks are open: an object, as `explaining` puts back the attributes of modules."""

    scopes: int = 0


_SET: ContextVar[dict[ConceptBottleneck, tuple[tuple[str, Tensor], ...]]] = ContextVar("lightning_interpret_concepts")


def named_concepts(names: Sequence[str] | None, free: int) -> tuple[str, ...]:
    """Return the names of all concepts.

    Raises:
        ValueError: If there are none, two of one name, or a name is none.
    """
    check_whole(0, concept_count=free)
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names or ()):
        raise ValueError(f"`concept_names={names!r}` must be a list of names.")
    every = (*(names or ()), *(f"free_{i + 1}" for i in range(free)))
    if not every:
        raise ValueError(
            "There are no concepts: give `concept_names=[...]` for those that have labels, or `concept_count=8` for as "
            "many that are found."
        )
    twice = sorted({name for name in every if every.count(name) > 1})
    if twice:
        raise ValueError(f"`concept_names={list(names or ())}` has {', '.join(map(repr, twice))} more than once.")
    return every


def checked_labels(labels: Any, names: Sequence[str], *, values: bool = True) -> Tensor:
    """Return the labels of concepts, ``(B, K)``, as single-precision numbers.

    Args:
        labels: What a batch has as ``concepts``.
        names: Names of the concepts that have labels.
        values: Whether to look at the values, for which an accelerator is waited for.

    Raises:
        ValueError: If they are not one for each concept, or lie outside of [0, 1].
    """
    if not isinstance(labels, Tensor) or labels.dim() != 2 or labels.shape[1] != len(names):
        found = f"has shape {tuple(labels.shape)}" if isinstance(labels, Tensor) else f"is a {type(labels).__name__}"
        raise ValueError(
            f"`concepts` of the batch {found}, and must be a tensor (B, {len(names)}): a label for each of "
            f"{', '.join(names)}, NaN or -1 where there is none."
        )
    labels = labels.detach().to(torch.float32)
    if values and bool(wrong_labels(labels).any()):
        row, column = wrong_labels(labels).nonzero()[0].tolist()
        raise ValueError(
            f"`concepts` of the batch has {labels[row, column].item():g} for {names[column]!r}, and a label lies "
            "from 0 to 1 (NaN or -1 where there is none). Concepts of more than two values are not supported: make one "
            "concept of each value."
        )
    return labels
