"""Whether a module reads tokens past its gate: they are changed, with the selection held, and it should not notice."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_interpret.functional.scope import explaining
from lightning_interpret.layers.token_kinds import check_padding
from lightning_interpret.layers.token_selection import Read
from lightning_interpret.mixins.task import known_task
from lightning_interpret.tasks import batches
from lightning_interpret.trainer.context import mute

_NOISE = 1e-4  # of logits: kernels that are not deterministic


def check_leak(module: Any, batch: Any) -> None:
    """Refuse a module that predicts from tokens which were not selected too.

    Raises:
        ValueError: If it does.
    """
    try:
        moved = leak(module, batch)
    except Exception:  # the step itself will say what is wrong with the batch
        return
    if moved is not None and moved > _NOISE:
        raise ValueError(
            f"{type(module).__name__} reads the ids past `rationale_layer={module.rationale.hooks.layer!r}`: its "
            f"scores move by up to {moved:.3g} with tokens that were not selected. A rationale must be all that it "
            "reads: let it read the text by that layer alone."
        )


def check_known_padding(module: Any, read: Read, mask: Any) -> None:
    """Refuse texts whose padding could be selected, as nothing but the batch says what it is.

    Args:
        module: A module with a gate attached.
        read: What was selected.
        mask: The attention mask of the batch, if it has one.

    Raises:
        ValueError: If padding may be selected.
    """
    selection = module.rationale
    if selection.kinds.padding is None and isinstance(mask, Tensor):
        check_padding(f"rationale_layer={selection.hooks.layer!r}", read.selectable, mask == 0)


def leak(module: Any, batch: Any) -> float | None:
    """Return by how much the scores of a batch move, at most, with tokens that are not selected; three forward passes.

    None where that cannot be told: the texts are not embedded once, their ids are not a part of the batch, or nothing
    is left unselected.

    Args:
        module: A module with a gate attached.
        batch: A batch, where the module is.
    """
    with explaining(module), torch.no_grad():
        mute(module)
        task = known_task(module)
        with module.rationale.hearing() as heard:
            task.logits(module, batch)
        if len(heard) != 1:
            return None
        (read,) = heard
        left = read.selectable & (read.z == 0)
        others = read.ids.clone()
        others[read.selectable] = read.ids[read.selectable].flip(0)  # as many of each as there were: no new tokens
        replaced, found = torch.where(left, others, read.ids), list[Tensor]()

        def change(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor) or leaf.dtype != read.ids.dtype or leaf.dim() != 2:
                return leaf
            width = leaf.shape[1]
            if len(leaf) != len(read.ids) or not torch.equal(leaf, read.ids[:, :width]):
                return leaf
            found.append(leaf)
            return replaced[:, :width]

        changed = batches.map_leaves(change, batch)
        if not found or torch.equal(replaced, read.ids):
            return None
        with module.rationale.selecting(read.z):
            before, after = task.logits(module, batch), task.logits(module, changed)
        return float((after - before).abs().max())
