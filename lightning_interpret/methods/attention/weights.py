"""Attention weights themselves as scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lightning_interpret.functional.attention import AttentionError, Site
from lightning_interpret.methods.attention.attended import Attended
from lightning_interpret.methods.attention.base import AttentionMethod
from lightning_interpret.names import check_index, choose


@dataclass(frozen=True)
class AttentionWeights(AttentionMethod):
    """Attention of the position that the head reads: what each token is weighed with in one layer, or in all.

    A weight says what a token's vector is weighed with where the layer has mixed the tokens already; not what the
    prediction owes to the token (Jain and Wallace, 2019; Wiegreffe and Pinter, 2019). Attention that sums a text up
    (additive attention before a head) has one set of weights, and needs no position.

    A generated token is read at the place that predicts it. In an encoder-decoder this is a place of the decoder: the
    source has the weights of its cross-attention, and what it has written those of its attention to itself, in the
    same layer; each sums to 1, so that tokens are compared with others of the same text.

    Args:
        read: The position: ``first`` or ``last`` token, the ``mean`` over all, or ``auto``: where a generated token is
            predicted, a tagged word begins, an answer begins and ends; of other targets those that the score depends
            on, as its gradient in the last layer's attention says.
        inside: Name of the module in which attention is read; by default all of it.
        internal_batch_size: Examples in one pass; by default those of 2,048 tokens (4,096 on a GPU), fewer long ones.
        attention_layer: Which of the layers' attention, from 0, or from the end if negative; None for all.
        head: Which head, from 0; None for all.
        aggregate: ``mean`` or ``max`` over the heads, and over the layers.

    Raises:
        ValueError: If an option does not exist; on a call (an
            :class:`~lightning_interpret.functional.attention.AttentionError`), if there is no attention over the
            tokens, or no such layer or head.
    """

    name: ClassVar[str] = "attention_weights"
    attention_layer: int | None = -1
    head: int | None = None
    aggregate: Literal["mean", "max"] = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("aggregate", self.aggregate, ("mean", "max"))
        check_index(attention_layer=self.attention_layer, head=self.head)

    def scores(self, found: Attended) -> Tensor:
        """Return the weights of the position that is read."""
        read = None if not found.layers else found.read(self.read)
        sites = found.weighed
        chosen = sites if self.attention_layer is None else [_at(sites, self.attention_layer)]
        rows = [self._heads(site) for site in chosen]
        maps = [
            each[:, 0].double() if read is None or site.kind == "pooling" else (read[:, None] @ each.double())[:, 0]
            for site, each in zip(chosen, rows, strict=True)
        ]
        return self._one(torch.stack(maps))

    def _heads(self, site: Site) -> Tensor:
        heads = site.weights.shape[1]
        if self.head is not None and not -heads <= self.head < heads:
            raise AttentionError(f"`head={self.head}`, but `{site.name}` has {heads}: the first is 0.")
        return self._one(site.weights.transpose(0, 1)) if self.head is None else site.weights[:, self.head]

    def _one(self, several: Tensor) -> Tensor:
        return several.mean(dim=0) if self.aggregate == "mean" else several.amax(dim=0)


def _at(sites: Sequence[Site], number: int) -> Site:
    if not -len(sites) <= number < len(sites):
        raise AttentionError(f"`attention_layer={number}`, but {len(sites)} layers have attention: the first is 0.")
    return sites[number]
