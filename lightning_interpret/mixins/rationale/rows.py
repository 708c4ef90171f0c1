"""What a module with a gate says of its predictions: the tokens selected, what is predicted with and without them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_interpret.layers.token_selection import Read, TokenSelection
from lightning_interpret.methods.describe import described, text_fields
from lightning_interpret.mixins.rationale.leaks import check_known_padding
from lightning_interpret.mixins.rationale.terms import gold_of
from lightning_interpret.rationales import Rationale, RationaleRow
from lightning_interpret.tasks import Task


def rationale_of(module: Any, batch: Any, task: Task, which: str) -> Rationale:
    """Return the rationale of each example; called inside the explaining scope, costs seven forward passes.

    Args:
        module: A module with a gate attached.
        batch: The batch, in full precision.
        task: How the module is read.
        which: ``predicted``, ``gold`` or a label: the class whose probabilities are told.

    Raises:
        ValueError: If nothing or more than one set of texts is embedded, or ``which`` is a contrast.
    """
    selection: TokenSelection = module.rationale
    units, facts = task.units(batch), described(module, batch, task)
    with torch.no_grad():
        with selection.hearing() as heard:
            logits = task.logits(module, batch)
        read = _only(module, heard, units.padding)
        targets = task.resolve(logits, batch, which)
        if targets.contrast:
            raise ValueError(f"`which={which!r}` is a contrast, which has no probability: name one class.")
        with selection.everything():
            whole = task.logits(module, batch)
        with selection.complement():
            rest = task.logits(module, batch)
        control, without = (_given(module, batch, task, read, chosen) for chosen in _at_random(read))
    index = targets.index
    columns: dict[str, Any] = {
        "probability": _of(task, logits, index),
        "full": _of(task, whole, index),
        "complement": _of(task, rest, index),
        "control": _of(task, control, index),
        "control_complement": _of(task, without, index),
        "rate": [float(rate) if there else None for rate, there in zip(*map(Tensor.tolist, read.rates), strict=True)],
    }
    gold = gold_of(batch, read)
    assert read.selection is not None
    decided = (read.z > 0).cpu(), read.selection.probabilities.float().cpu()
    budget = selection.control.target if selection.evaluation == "budget" else None
    rows = []
    for i in range(len(facts)):
        kept = (~units.padding[i]).nonzero().flatten()
        told: dict[str, Any] = {name: None if column is None else column[i] for name, column in columns.items()}
        rows.append(
            RationaleRow(
                **facts[i],
                **text_fields(units, i),
                **told,
                selected=tuple(decided[0][i, kept].tolist()),
                probabilities=tuple(decided[1][i, kept].tolist()),
                budget=budget,
                gate=selection.gate.kind,
                gold_rationale=_gold(gold, i, kept),
                notes=() if which == "predicted" else (f"probabilities are of {targets.name[i]}",),
            )
        )
    return Rationale(tuple(rows))


def _at_random(read: Read) -> tuple[Tensor, Tensor]:
    """Return as many selectable tokens of each text as were selected, the same ones at each call, and the others."""
    drawn = torch.rand(read.z.shape, generator=torch.Generator().manual_seed(0)).to(read.z.device)
    place = drawn.masked_fill(~read.selectable, 2.0).argsort(dim=1).argsort(dim=1)
    chosen = place < read.selected.sum(dim=1, keepdim=True)
    return chosen, read.selectable & ~chosen


def _given(module: Any, batch: Any, task: Task, read: Read, chosen: Tensor) -> Tensor:
    """Return what is predicted from some tokens, with the special ones that are there as it is deployed."""
    with module.rationale.selecting(torch.where(read.special, read.z, chosen.float())):
        return task.logits(module, batch)


def _only(module: Any, heard: list[Read], padding: Tensor) -> Read:
    layer = repr(module.rationale.hooks.layer)
    if len(heard) != 1:
        raise ValueError(
            f"`explain`: {layer} embeds {len(heard)} times in a forward pass, and one rationale is told: the texts of "
            "an example must be embedded together."
        )
    (read,) = heard
    check_known_padding(module, read, ~padding)
    if len(read.ids) != len(padding) or read.ids.shape[1] < padding.shape[1]:
        raise ValueError(
            f"`explain`: {layer} embeds texts {tuple(read.ids.shape)}, but the batch's are {tuple(padding.shape)}."
        )
    return read


def _of(task: Task, logits: Tensor, index: Tensor) -> list[float] | None:
    """Return the probability of a class in each row, where there are any."""
    known = task.log_probabilities(logits)
    if known is None or known.dim() != 2:
        return None
    return known.gather(1, index[:, None])[:, 0].exp().tolist()


def _gold(gold: tuple[Tensor, Tensor] | None, i: int, kept: Tensor) -> tuple[bool, ...] | None:
    if gold is None or not bool(gold[1][i].any()):
        return None
    return tuple(gold[0][i].cpu()[kept].tolist())
