"""At which positions a target is read, and the attention of both ends of an encoder-decoder as one map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_interpret.functional.attention import AttentionError, Site
from lightning_interpret.functional.layers import plain_name
from lightning_interpret.tasks import Targets, Task
from lightning_interpret.tasks.placed import PlacedTargets
from lightning_interpret.tasks.question_answering import AnswerTargets

#: Kinds of sites in a joint map: of the encoder to itself, of the decoder to itself, and of the decoder to the source.
OF_SOURCE, OF_OUTPUT, CROSS = "encoder", "decoder", "cross"
_ONE = "pooling"  # what a site of a single query is taken for


def places(targets: Targets, tokens: int) -> Tensor | None:
    """Return how much of each token's vector a target is read at, ``(N, T)``, rows of sum 1; None where none is said.

    A generated token is read where it is predicted, at the token before it. A tagged word is read at its first token,
    and an answer at its two ends. Several places count alike.
    """
    if not isinstance(targets, PlacedTargets):
        return None
    if isinstance(targets, AnswerTargets):
        at = targets.classes
    else:
        at = targets.place.where(targets.place < 0, targets.place + getattr(targets, "units_before", 0))
    share = (at >= 0).double()
    share = share / share.sum(dim=1, keepdim=True).clamp(min=1)
    return share.new_zeros(len(at), tokens).scatter_add(1, at.clamp(min=0), share)


@dataclass(frozen=True)
class Ends:
    """The two ends of an encoder-decoder, whose tokens stand one after the other: the source, then the output.

    Attributes:
        source: How many tokens the source has.
        tokens: How many both have.
        decoder: Name of the module that is the decoder.
    """

    source: int
    tokens: int
    decoder: str

    @classmethod
    def of(cls, module: nn.Module, task: Task, targets: Targets, tokens: int) -> Ends | None:
        """Return those of a module whose targets a decoder writes after it has read another text; None of any other."""
        source = getattr(targets, "units_before", 0)
        if not source or not hasattr(task, "model_in"):
            return None
        model: Any = task.model_in(module)
        decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
        names = [plain_name(name) for name, part in module.named_modules() if part is decoder]
        return cls(source, tokens, names[0]) if names else None

    def sites(self, met: Sequence[Site], texts: int) -> tuple[Site, ...]:
        """Return what was met over these tokens, each as a map of both ends, ``(N, H, S + T, S + T)``.

        Raises:
            AttentionError: If the encoder, the decoder or what joins them has no attention that is met.
        """
        known = [(site, kind) for site in met if (kind := self._kind(site, texts)) is not None]
        if {OF_SOURCE, OF_OUTPUT, CROSS} - {kind for _, kind in known}:
            raise AttentionError(
                f"The attention of `{self.decoder}` to its own tokens and that to the source are not told apart, or "
                f"one of them, or the encoder's, was not met (met: {', '.join(site.name for site in met[:6])}): use "
                "a method that needs no attention, such as 'integrated_gradients'."
            )
        return tuple(replace(site, kind=kind, weights=self.joint(kind, site.weights)) for site, kind in known)

    def joint(self, kind: str, values: Tensor) -> Tensor:
        """Return values ``(N, H, Q, K)`` at the weights of a site as a map of both ends, 0 where it has none."""
        row = 0 if kind == OF_SOURCE else self.source
        column = self.source if kind == OF_OUTPUT else 0
        right, below = self.tokens - column - values.shape[3], self.tokens - row - values.shape[2]
        return F.pad(values, (column, right, row, below))

    def by_layer(self, sites: Sequence[Site]) -> tuple[Site, ...]:
        """Return for each layer of the decoder what its places weigh: of the source by cross-attention, of the output.

        Raises:
            AttentionError: If it does not attend to both equally often.
        """
        own, cross = ([site for site in sites if site.kind == kind] for kind in (OF_OUTPUT, CROSS))
        if len(own) != len(cross):
            raise AttentionError(
                f"`{self.decoder}` attends to its own tokens {len(own)} times and to the source {len(cross)} times, so "
                "that they are no layers with both: use 'attention_rollout'."
            )
        pairs = zip(own, cross, strict=True)
        return tuple(replace(a, weights=a.weights + b.weights) for a, b in pairs)

    def _kind(self, site: Site, texts: int) -> str | None:
        """Return which of the three a site is; None where it is over other tokens."""
        queries, keys = site.weights.shape[2:]
        output = self.tokens - self.source
        if len(site.weights) != texts:
            return None
        if site.name != self.decoder and not site.name.startswith(f"{self.decoder}."):
            return OF_SOURCE if (queries, keys) == (self.source, self.source) else None
        if queries != output or keys not in (self.source, output):
            return None
        apart = site.kind == CROSS or (site.kind == _ONE and output == 1)
        return CROSS if keys == self.source and (apart or keys != output) else OF_OUTPUT


def by_example(positions: Tensor, example: Tensor, size: int) -> Tensor:
    """Return the mean of the targets' positions ``(N, T)`` for each of ``size`` examples, ``(size, T)``."""
    total = positions.new_zeros(size, positions.shape[1]).index_add(0, example, positions)
    count = torch.bincount(example, minlength=size).clamp(min=1)
    return total / count[:, None]
