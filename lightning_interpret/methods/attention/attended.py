"""What one forward attends to: the layers of self-attention, the pooling on top, and the position that is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lightning_interpret.functional.attention import AttentionError, Site, attention
from lightning_interpret.functional.attention.measures import position, read_positions
from lightning_interpret.methods.attention.ends import CROSS, Ends

READS = ("auto", "first", "last", "mean")
#: Queries times keys in one pass: all layers' weights are held at once, with what their gradients need.
PAIRS_A_PASS = 2**18


@dataclass(frozen=True)
class Attended:
    """The attention of a forward over N texts of T tokens.

    Attributes:
        layers: Self-attention of each layer, ``(N, H, T, T)``, the first layer first; the rows of padding are numbers.
        pooling: Attention that sums the text up, ``(N, H, 1, T)``.
        weights: What was met at each site, by its number, as the score was made of it.
        there: Which tokens are no padding, bool ``(N, T)``.
        score: The scalars explained, ``(N,)``; with gradients, unless none were asked for.
        module: The module.
        forward: Returns the scalars explained of rows ``(M,)`` of the texts, each as often as it stands there.
        inside: Name of the module in which attention is read; None for all of it.
        after: Name of the layer after which it is read.
        chunk: Texts in one pass.
        last: The layer of self-attention whose output is read, also where it is before ``after``.
        places: How much of each position's vector the targets are read at, ``(N, T)``, where they stand at places.
        ends: The two ends of an encoder-decoder, whose ``layers`` are maps of both; None of any other.
    """

    layers: tuple[Site, ...]
    pooling: tuple[Site, ...]
    weights: Mapping[int, Tensor]
    there: Tensor
    score: Tensor
    module: nn.Module
    forward: Callable[[Tensor], Tensor]
    inside: str | None
    after: str | None
    chunk: int
    last: tuple[Site, ...] = ()
    places: Tensor | None = None
    ends: Ends | None = None

    @property
    def sites(self) -> tuple[Site, ...]:
        """All of them, in the order of the forward."""
        return tuple(sorted(self.layers + self.pooling, key=lambda site: site.number))

    @property
    def weighed(self) -> tuple[Site, ...]:
        """What the positions that are read weigh, layer by layer; of a decoder the source and its own tokens."""
        return self.sites if self.ends is None else self.ends.by_layer(self.layers)

    def need_layers(self, method: str) -> None:
        """Raise unless there are layers of self-attention, or one pooling whose weights are all there is.

        Raises:
            AttentionError: If attention of one position is met at several places.
        """
        if not self.layers and len(self.pooling) > 1:
            raise AttentionError(
                f"{method} follows attention from layer to layer, and only that of one position was met, at "
                f"{len(self.pooling)} places ({self.pooling[0].name}, ...): use 'attention_weights'."
            )

    def gradients(self, sites: Sequence[Site]) -> tuple[Tensor, ...]:
        """Return the gradient of the score in the weights of some sites; zeros where it does not depend on them.

        Raises:
            AttentionError: If none of it can get there.
        """
        weights = [self.weights[site.number] for site in sites]
        cut = [site for site, each in zip(sites, weights, strict=True) if not self._reached(each)]
        if cut:
            raise AttentionError(
                f"No gradient of the score reaches the attention of `{cut[0].name}`: the model runs it under "
                "`no_grad`, or detaches what comes of it. Say which position is read (`read='first'`, 'last' or "
                "'mean') to a method that asks for no gradient, such as 'attention_weights'."
            )
        found = torch.autograd.grad(
            self.score.sum(), weights, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        if self.ends is None:
            return found
        return tuple(self.ends.joint(site.kind, each) for site, each in zip(sites, found, strict=True))

    def _reached(self, weights: Tensor) -> bool:
        return self.score.requires_grad and weights.requires_grad

    def read(self, which: str) -> Tensor:
        """Return how much of each position's last vector is read, ``(N, T)``; rows sum to 1.

        Args:
            which: ``first``, ``last``, ``mean``, or ``auto``: the places of the targets; where they have none, what
                pooling attention on top weighs, or else the positions that the score depends on.
        """
        if which != "auto":
            return position(which, self.there)
        if self.places is not None:
            return self.places * self.there
        if self.pooling:
            pooled = torch.stack([site.weights.mean(dim=1)[:, 0] for site in self.pooling]).mean(dim=0)
            return pooled.detach().double() * self.there
        return read_positions(self.gradients(self.last)[0], self.there)


def attended(
    module: nn.Module,
    forward: Callable[[Tensor], Tensor],
    there: Tensor,
    *,
    inside: str | None,
    after: str | None,
    chunk: int,
    gradients: bool,
    ends: Ends | None = None,
) -> Attended:
    """Return the attention of one forward.

    Args:
        module: The module.
        forward: Returns the scalars explained of rows ``(M,)`` of the texts, each as often as it stands there.
        there: Which tokens are no padding, bool ``(N, T)``.
        inside: Name of the module in which attention is read; by default all of it.
        after: Name of the layer after which it is read.
        chunk: Texts in one pass.
        gradients: Whether gradients will be asked for.
        ends: The two ends of an encoder-decoder, where ``there`` is of the tokens of both.

    Raises:
        AttentionError: If there is none in the model, or none over the tokens of the text, or some of another text, or
            it is no number.
    """
    rows = torch.arange(len(there), device=there.device)
    try:
        with torch.set_grad_enabled(gradients), attention(module, inside=inside, after=after) as met:
            score = forward(rows)
        none_after = None
    except AttentionError as error:
        none_after = error
        with torch.set_grad_enabled(gradients), attention(module, inside=inside) as met:
            score = forward(rows)
    if ends is not None:
        joint = tuple(_numbers(site, there) for site in ends.sites(met.weights, len(there)))
        raw = {site.number: site.weights for site in met.weights}
        return Attended(joint, (), raw, there, score, module, forward, inside, after, chunk, joint[-1:], ends=ends)
    crossing = met.of_kind(CROSS)
    if crossing:
        encoder = next((name for site in met.weights if (name := _encoder(site.name))), "encoder")
        raise AttentionError(
            f"`{crossing[0].name}` attends to another text, or this one in windows: there is no one map from its "
            f"positions to the tokens. Name the module whose attention is meant, such as `inside={encoder!r}`, or use "
            "a method that needs none, such as 'integrated_gradients'."
        )
    size = there.shape
    fitting = [site for site in met.weights if (site.weights.shape[0], site.weights.shape[-1]) == size]
    weights, fitting = {site.number: site.weights for site in fitting}, [_numbers(site, there) for site in fitting]
    layers = tuple(site for site in fitting if site.kind == "self")
    pooling = tuple(site for site in fitting if site.kind == "pooling")
    if not layers and not pooling:
        found = ", ".join(str(tuple(site.weights.shape)) for site in met.weights[:3])
        raise AttentionError(
            f"No attention of {type(module).__name__} is over the {size[1]} tokens of the text; it has shapes {found} "
            "(texts, heads, queries, keys). Use a method that needs none, such as 'integrated_gradients'."
        )
    if none_after is not None and not layers:
        raise none_after
    last = layers[-1:]
    if none_after is not None:
        layers, pooling = (), ()
    return Attended(layers, pooling, weights, there, score, module, forward, inside, after, chunk, last)


def _numbers(site: Site, there: Tensor) -> Site:
    """Return the site with 0 in the place of what padding weighs where that is no number: it may not see any key.

    Raises:
        AttentionError: If what a token weighs is none.
    """
    strange = site.weights.detach().isnan().any(dim=-1).any(dim=1)
    if not bool(strange.any()):
        return site
    queries = there if strange.shape == there.shape else there.any(dim=1, keepdim=True)
    if bool((strange & queries).any()):
        raise AttentionError(
            f"`{site.name}` (site {site.number}) has attention that is no number (NaN) at a token that is no padding: "
            "has training diverged? Look at the loss, and at the weights of the module."
        )
    return replace(site, weights=site.weights.masked_fill(strange[:, None, :, None], 0.0))


def texts_a_pass(tokens: int) -> int:
    """Return how many texts of so many tokens are read at once."""
    return max(1, PAIRS_A_PASS // max(1, tokens) ** 2)


def _encoder(name: str) -> str | None:
    pieces = name.split(".")
    return ".".join(pieces[: pieces.index("encoder") + 1]) if "encoder" in pieces else None
