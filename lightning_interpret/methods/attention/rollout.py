"""Attention of all layers as one: rollout and flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lightning_interpret.functional.attention.flow import attention_flow
from lightning_interpret.functional.attention.rollout import normalised, rollout, with_residual
from lightning_interpret.methods.attention.attended import Attended
from lightning_interpret.methods.attention.base import AttentionMethod
from lightning_interpret.names import choose


@dataclass(frozen=True)
class _AllLayers(AttentionMethod):
    """What both share: the heads of each layer as one map."""

    heads: Literal["mean", "max"] = "mean"
    residual: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("heads", self.heads, ("mean", "max"))

    def maps(self, found: Attended) -> list[Tensor]:
        """Return one map of each layer, ``(N, T, T)``."""
        every = [site.weights.detach().double() for site in found.layers]
        return [each.mean(dim=1) if self.heads == "mean" else each.amax(dim=1) for each in every]


@dataclass(frozen=True)
class AttentionRollout(_AllLayers):
    """Attention rollout (Abnar and Zuidema, 2020): the product of the layers' attention, each with a residual half.

    What part of each token is mixed into the position that the head reads, if attention mixed as it weighs. The scores
    of a text sum to 1.

    Of an encoder-decoder one map has the tokens of both ends, and each attention is a layer of it, half of which is
    residual: the encoder's, the decoder's to its own tokens and, with the encoder's rollout below it, to the source (as
    Ferrando et al., 2022, carry contributions through cross-attention). A place's scores for both ends sum to 1.

    Args:
        read: The position: ``first`` or ``last`` token, the ``mean`` over all, or ``auto``: where a generated token is
            predicted, a tagged word begins, an answer begins and ends; of other targets those that the score depends
            on, as its gradient in the last layer's attention says.
        inside: Name of the module in which attention is read; by default all of it.
        internal_batch_size: Examples in one pass; by default those of 2,048 tokens (4,096 on a GPU), fewer long ones.
        heads: ``mean`` or ``max`` over the heads of a layer; rows are normalised after it.
        residual: Whether a layer mixes as ½A + ½I; otherwise as A.

    Raises:
        ValueError: If an option does not exist; on a call (an
            :class:`~lightning_interpret.functional.attention.AttentionError`), if there is no attention over the
            tokens.
    """

    name: ClassVar[str] = "attention_rollout"

    def scores(self, found: Attended) -> Tensor:
        """Return what part of each token is in the position that is read."""
        found.need_layers(self.name)
        read = found.read(self.read)
        if not found.layers:
            return read
        return (read[:, None] @ rollout(self.maps(found), found.there, residual=self.residual))[:, 0]


@dataclass(frozen=True)
class AttentionFlow(_AllLayers):
    """Attention flow (Abnar and Zuidema, 2020): the maximum flow from the position that is read to each token.

    For short texts: at most 64 tokens, special ones included. The scores of a text need not sum to 1. The graph of an
    encoder-decoder has the tokens of both ends, and the layers of its :class:`AttentionRollout`.

    Args:
        read: The position: ``first`` or ``last`` token, the ``mean`` over all, or ``auto``: where a generated token is
            predicted, a tagged word begins, an answer begins and ends; of other targets those that the score depends
            on, as its gradient in the last layer's attention says.
        inside: Name of the module in which attention is read; by default all of it.
        internal_batch_size: Examples in one pass; by default those of 2,048 tokens (4,096 on a GPU), fewer long ones.
        heads: ``mean`` or ``max`` over the heads of a layer; rows are normalised after it.
        residual: Whether a layer's capacities are ½A + ½I; otherwise A.

    Raises:
        ValueError: If an option does not exist; on a call, if a text is longer, or (an
            :class:`~lightning_interpret.functional.attention.AttentionError`) if there is no attention over the
            tokens.
    """

    name: ClassVar[str] = "attention_flow"

    def scores(self, found: Attended) -> Tensor:
        """Return the maximum flow to each token."""
        found.need_layers(self.name)
        read, there = found.read(self.read), found.there
        if not found.layers:
            return read
        capacities = with_residual if self.residual else normalised
        layers = torch.stack([capacities(each, there) for each in self.maps(found)], dim=1)
        scores = torch.zeros_like(read)
        for row, kept in enumerate(there):  # a text has a graph for each of its tokens: one text at a time
            graph = layers[row, :, kept][:, :, kept]
            scores[row, kept] = attention_flow(graph[None], read[row, kept][None])[0]
        return scores
