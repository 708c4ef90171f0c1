"""Attention and its gradient: the relevance map of Chefer et al., and their plain product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lightning_interpret.functional.attention.rollout import positive, relevance_map
from lightning_interpret.methods.attention.attended import Attended
from lightning_interpret.methods.attention.base import AttentionMethod
from lightning_interpret.methods.attention.ends import CROSS
from lightning_interpret.names import choose


@dataclass(frozen=True)
class GradientAttention(AttentionMethod):
    """Attention weighed by its gradient: of the class that is explained, as the weights alone are not.

    Args:
        read: The position: ``first`` or ``last`` token, the ``mean`` over all, or ``auto``: where a generated token is
            predicted, a tagged word begins, an answer begins and ends; of other targets those that the score depends
            on, as its gradient in the last layer's attention says.
        inside: Name of the module in which attention is read; by default all of it.
        internal_batch_size: Examples in one pass; by default those of 2,048 tokens (4,096 on a GPU), fewer long ones.
        rule: ``relevance_map`` (Chefer, Gur and Wolf, 2021): R ← R + ĀR over the layers, Ā the mean over heads of the
            positive part of ∇A ⊙ A; the scores are the rows read of R, less the identity that it started from.
            Of an encoder-decoder this is R of both ends, to which cross-attention adds by their equation 10.
            ``product``: ∇A ⊙ A, signed, summed over layers, heads and queries; it reads no position.

    Raises:
        ValueError: If an option does not exist; on a call (an
            :class:`~lightning_interpret.functional.attention.AttentionError`), if there is no attention over the
            tokens.
    """

    name: ClassVar[str] = "gradient_attention"
    rule: Literal["relevance_map", "product"] = "relevance_map"

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("rule", self.rule, ("relevance_map", "product"))

    def differentiates(self, placed: bool) -> bool:
        """Return that it always does."""
        return True

    def scores(self, found: Attended) -> Tensor:
        """Return the relevance of each token, or the product."""
        sites = found.sites
        gradients = dict(zip(sites, found.gradients(sites), strict=True))
        weights = {site: site.weights.detach() for site in sites}
        if self.rule == "product":
            return torch.stack([(weights[site] * gradients[site]).sum(dim=(1, 2)) for site in sites]).sum(dim=0)
        found.need_layers(self.name)
        layers, own = found.layers, torch.diag_embed(found.there.to(weights[sites[0]]))
        relevance = own
        if layers:
            given = [weights[s] for s in layers], [gradients[s] for s in layers], found.there
            crosses = [site.kind == CROSS for site in layers]
            source = None if found.ends is None else found.ends.source
            relevance = relevance_map(*given, source=source, crosses=crosses)
        if self.read == "auto" and found.pooling:
            pooled = [positive(weights[site], gradients[site], found.there) for site in found.pooling]
            return (torch.stack(pooled).sum(dim=0) @ relevance)[:, 0]
        return (found.read(self.read).to(relevance)[:, None] @ (relevance - own))[:, 0]
