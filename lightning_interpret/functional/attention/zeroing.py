"""Value zeroing: how much each token's vectors change without the values of another (Mohebbi et al., 2023)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.attention.scope import AttentionError, Site, attention
from lightning_interpret.functional.features import LayerError, find_layer, first_tensor, with_first_tensor
from lightning_interpret.functional.layers import plain_name

#: What is done with the output of a block: given its place in the list and the output, returns what follows it.
_ACT: ContextVar[tuple[object, Callable[[int, Tensor], Tensor]] | None] = ContextVar("lightning_interpret_zeroing")


def blocks_of(module: nn.Module, sites: Sequence[Site]) -> list[str]:
    """Return the name of the layer that each site's attention belongs to.

    It is the outermost part of a list of layers (``ModuleList``, ``Sequential``) in which no other site is; without
    one, the module that computes the attention.

    Raises:
        AttentionError: If that is the module itself, which has no output that further layers read.
    """
    parts, found = dict(module.named_modules()), []
    known = {plain_name(name): part for name, part in parts.items()}
    for site in sites:
        pieces = site.name.split(".")
        paths = [".".join(pieces[:i]) for i in range(1, len(pieces) + 1)]
        alone = [path for path in paths if sum(_within(other.name, path) for other in sites) == 1]
        listed = [p for p in alone if isinstance(known[p.rpartition(".")[0]], (nn.ModuleList, nn.Sequential))]
        if not site.name or not alone:
            raise AttentionError(
                f"Site {site.number} (`{site.name}`) is in no layer of its own whose output could be read: put each "
                "layer in a module of its own, or use attention rollout."
            )
        found.append((listed or [site.name])[0])
    return found


def value_zeroing(
    module: nn.Module,
    forward: Callable[[Tensor], object],
    sites: Sequence[Site],
    there: Tensor,
    chunk: int,
    *,
    inside: str | None = None,
    after: str | None = None,
) -> list[Tensor]:
    """Return for each layer by how much each position changes without the values of each token, ``(N, T, T)``.

    Entry (i, j) is 1 − cos of the layer's output at position i with and without the values of token j, in all heads
    of that layer; everything before the layer is as it is. One forward a token zeroes it in all layers at once: what
    each layer returns is compared, and what the next one is given is the output without an intervention.

    Args:
        module: The module.
        forward: Runs it on given rows, ``(M,)``, each as often as it stands there.
        sites: Those of the layers' self-attention, as of a forward of all rows.
        there: Which tokens are no padding, bool ``(N, T)``: those are zeroed in turn.
        chunk: Rows in one pass.
        inside: As of the scope in which the sites were met.
        after: Likewise.

    Raises:
        AttentionError: If a layer returns no ``(B, T, D)``.
    """
    blocks, numbers = blocks_of(module, sites), [site.number for site in sites]
    tokens, (rows, zeroed) = there.shape[1], there.nonzero(as_tuple=True)
    everything = torch.arange(len(there), device=there.device)
    clean: list[Tensor | None] = [None] * len(blocks)

    def keep(layer: int, output: Tensor) -> Tensor:
        if output.dim() != 3 or output.shape[:2] != (len(everything), tokens):
            raise AttentionError(
                f"`{blocks[layer]}` returns shape {tuple(output.shape)}, and value zeroing compares vectors of "
                f"({len(everything)}, {tokens}, features): use attention rollout."
            )
        clean[layer] = output
        return output

    found = [torch.zeros(len(everything), tokens, tokens, device=rows.device, dtype=torch.float64) for _ in blocks]
    with torch.no_grad(), _followed(module, blocks, keep):
        forward(everything)
    for some in torch.arange(len(rows), device=rows.device).split(chunk):
        row, token = rows[some], zeroed[some]

        def compare(layer: int, output: Tensor, row: Tensor = row, token: Tensor = token) -> Tensor:
            before = clean[layer]
            assert before is not None
            away = 1 - torch.cosine_similarity(output.double(), before[row].double(), dim=-1)
            found[layer][row, :, token] = away.clamp(min=0)
            return before[row]

        def zero(site: Site, weights: Tensor, value: Tensor, token: Tensor = token) -> tuple[Tensor, Tensor] | None:
            if site.number not in numbers:
                return None
            gone = torch.nn.functional.one_hot(token, value.shape[2]).bool()[:, None, :, None]
            return weights, value.masked_fill(gone, 0.0)

        without = attention(module, zero, inside=inside, after=after, keep=False)
        with torch.no_grad(), _followed(module, blocks, compare), without:
            forward(row)
    return found


@contextmanager
def _followed(module: nn.Module, blocks: Sequence[str], act: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """Let ``act`` see and replace what blocks return, in this thread, while the block lasts."""
    scope = object()

    def hook(layer: int) -> Callable:
        def replace(_: nn.Module, args: tuple, output: Any) -> Any:
            here = _ACT.get(None)
            if here is None or here[0] is not scope:
                return None
            try:
                return with_first_tensor(output, here[1](layer, first_tensor(output, blocks[layer])))
            except LayerError as error:
                raise AttentionError(f"{error} Use attention rollout.") from error

        return replace

    handles = [find_layer(module, name).register_forward_hook(hook(i)) for i, name in enumerate(blocks)]
    token = _ACT.set((scope, act))
    try:
        yield
    finally:
        _ACT.reset(token)
        for handle in handles:
            handle.remove()


def _within(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}.")
