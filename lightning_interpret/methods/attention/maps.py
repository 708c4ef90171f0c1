"""The attention of texts as records: maps of layers and heads, their entropy and agreement, and what is read."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.explanations import Units
from lightning_interpret.functional.attention import AttentionError, Site
from lightning_interpret.functional.attention.measures import entropy, head_agreement
from lightning_interpret.functional.scope import explaining
from lightning_interpret.methods.attention.attended import Attended, attended, texts_a_pass
from lightning_interpret.methods.attention.ends import CROSS, OF_OUTPUT, OF_SOURCE, Ends, by_example, places
from lightning_interpret.methods.attention.weights import AttentionWeights
from lightning_interpret.methods.describe import described, text_fields
from lightning_interpret.records.attention import MOST_MAPS, MOST_TOKENS, AttentionLayer, AttentionMap, AttentionMapRow
from lightning_interpret.tasks import Task, batches


def attention_maps(
    module: nn.Module,
    batch: Any,
    task: Task,
    *,
    attention_layer: int = -1,
    read: Literal["auto", "first", "last", "mean"] = "auto",
    inside: str | None = None,
) -> AttentionMap:
    """Return the attention of each text of a batch, whatever implementation the model has; the module stays as it was.

    A row keeps the map of each layer (the mean over its heads) and of each head of one layer, of the first tokens
    (``MOST_TOKENS``) and layers and heads (``MOST_MAPS``); what is left out is in its notes. The entropies, agreements
    and weights of the position that is read are those of the whole text.

    Args:
        module: The module; it may be in training mode.
        batch: A batch as the task reads it, on the module's device.
        task: How module and batch are read.
        attention_layer: Which layer's heads are kept, from 0, or from the end if negative.
        read: The position whose attention is in ``token_weights``; see
            :class:`~lightning_interpret.methods.attention.AttentionWeights`.
        inside: Name of the module in which attention is read; by default all of it.

    Raises:
        AttentionError: If the model has no attention over the tokens of the text, or no such layer.
        ValueError: If the batch has no tokens, or a position of an encoder-decoder is asked for.
    """
    method = AttentionWeights(read=read, inside=inside)
    with explaining(module):
        batch = task.prepared(module, batches.clone(batch))
        units, facts = task.units(batch), described(module, batch, task)
        if units.kind != "token":
            raise ValueError(f"Attention is shown over the tokens of a text, and this batch has units {units.kind!r}.")
        device = next((leaf.device for leaf in batches.leaves(batch) if isinstance(leaf, Tensor)), torch.device("cpu"))
        rows: list[AttentionMapRow] = []
        for some in torch.arange(len(facts)).split(texts_a_pass(units.shape[0])):
            part = task.take(batch, some.to(device))

            def forward(of: Tensor, part: Any = part) -> Tensor:
                logits = task.logits(module, part)
                return task.score(logits, task.resolve(logits, part, "predicted"), "logit")

            with torch.no_grad():
                targets = task.resolve(task.logits(module, part), part, "predicted")
            at, ends = places(targets, units.shape[0]), Ends.of(module, task, targets, units.shape[0])
            there = ~units.padding[some].to(device)
            found = attended(
                module,
                forward,
                there,
                inside=inside,
                after=None,
                chunk=len(some),
                gradients=method.differentiates(at is not None),
                ends=ends,
            )
            found = replace(found, places=None if at is None else by_example(at, targets.example, len(some)))
            weights = method.scores(found).masked_fill(~there, 0.0).detach().cpu()
            weights = weights if ends is None else weights / 2  # each of two texts has a sum of 1
            position = found.read(read).cpu() if found.layers else None
            layers = [_Layer(site, there) for site in found.sites]
            of_heads = _number(attention_layer, found)
            rows += [
                _row(units, int(i), k, facts[int(i)], layers, of_heads, weights, position) for k, i in enumerate(some)
            ]
    return AttentionMap(tuple(rows))


class _Layer:
    """The weights of one site, its numbers, and maps of it in whole per cent."""

    def __init__(self, site: Site, there: Tensor) -> None:
        weights = site.weights.detach()
        queries = there if weights.shape[2] == there.shape[1] else torch.ones_like(there[:, :1])
        if site.kind in (OF_SOURCE, OF_OUTPUT, CROSS):  # of both ends, the queries are those of one
            queries = queries & (weights != 0).any(dim=3).any(dim=1)
        self.name, self.kind, self.weights = site.name, site.kind, weights
        self.entropy, self.agreement = entropy(weights, queries).tolist(), head_agreement(weights, queries).tolist()

    def map_of(self, row: int, kept: Tensor, head: int | None = None) -> tuple[tuple[int, ...], ...]:
        """Return the map of a text, of one head or of their mean."""
        weights = self.weights[row]
        found = weights.mean(dim=0) if head is None else weights[head]
        found = found[:, kept] if len(found) == 1 else found[kept][:, kept]
        return tuple(map(tuple, (100 * found.double()).round().long().tolist()))


def _row(
    units: Units,
    text: int,
    row: int,
    facts: dict[str, Any],
    layers: list[_Layer],
    of_heads: int,
    weights: Tensor,
    position: Tensor | None,
) -> AttentionMapRow:
    every = (~units.padding[text]).nonzero().flatten()
    kept = every[:MOST_TOKENS]
    heads = layers[of_heads].weights.shape[1]
    notes = [
        f"Maps are of the first {most} of {size} {what}."
        for what, size, most in (
            ("tokens", len(every), MOST_TOKENS),
            ("layers", len(layers), MOST_MAPS),
            ("heads", heads, MOST_MAPS),
        )
        if size > most
    ]
    fields = text_fields(units, text)
    single = all(layer.weights.shape[1] == 1 for layer in layers)
    return AttentionMapRow(
        **fields,
        **facts,
        layers=tuple(
            AttentionLayer(
                layer.name,
                layer.kind,
                tuple(layer.entropy[row]),
                None if math.isnan(layer.agreement[row]) else layer.agreement[row],
                layer.map_of(row, kept) if number < MOST_MAPS else None,
            )
            for number, layer in enumerate(layers)
        ),
        of_heads=of_heads,
        heads=tuple(layers[of_heads].map_of(row, kept, head) for head in range(min(heads, MOST_MAPS))),
        shown=len(kept),
        read=_said(position, text, row, fields["tokens"], every),
        token_weights=tuple(weights[row, every].tolist()),
        notes=tuple(notes),
        reasons={"head_agreement": "no layer has several heads"} if single else {},
    )


def _said(position: Tensor | None, text: int, row: int, tokens: tuple[str, ...], every: Tensor) -> str:
    """Return which positions are read, in words."""
    if position is None:
        return "attention that sums the text up"
    read = (position[row, every] > 0).nonzero().flatten().tolist()
    if not read:
        return "no position"
    return f"position {read[0]}, {tokens[read[0]]!r}" if len(read) == 1 else f"the mean of {len(read)} positions"


def _number(layer: int, found: Attended) -> int:
    count = len(found.sites)
    if not -count <= layer < count:
        raise AttentionError(f"`attention_layer={layer}`, but {count} layers have attention: the first is 0.")
    return layer % count
