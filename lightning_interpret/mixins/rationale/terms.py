"""Terms of the loss that a rationale adds: by people's rationales, by agreement with the whole text, by its reward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from lightning_interpret.functional.gates import score_function
from lightning_interpret.functional.scope import explaining
from lightning_interpret.layers.token_selection import Read, TokenSelection
from lightning_interpret.mixins.task import known_task
from lightning_interpret.tasks import batches
from lightning_interpret.trainer.context import mute
from lightning_interpret.trainer.progress import last_known, progress

UNKNOWN = -100  # what stands where nobody was asked, as with labels
_KEPT = 0.9  # share of the past in the moving average of losses


def begin_batch(module: Any, batch_idx: int) -> None:
    """Say how far training has come as a batch begins: whether everything is read, and where the target is.

    Raises:
        ValueError: If the target comes down over a training of which the end is not known.
    """
    if "rationale" not in module._modules:
        return
    trainer, selection, warm = module.trainer, module.rationale, module._rationale["warmup"]
    done, anneals = progress(trainer, batch_idx), selection.control.kind == "anneal"
    if done is None and anneals:
        raise ValueError(
            "`rationale_control='anneal'` brings the target down over the training, and this one has no end that is "
            "known: give `max_epochs` or `max_steps` (the latter where the training data has no length), or use "
            "`rationale_control='lagrangian'`."
        )
    needed = warm + (1 - warm) * selection.control.anneal if anneals else warm
    if done is not None and last_known(trainer) < needed:
        raise ValueError(
            f"`rationale_warmup={warm}`, `rationale_control={selection.control.kind!r}`: the training data has no "
            f"length, so that how far {trainer.max_epochs} epochs have come is known at their beginnings alone, and "
            f"{needed:.0%} is never reached: give `max_steps`, or `limit_train_batches` as a number of batches."
        )
    selection.warming = done is not None and done < warm
    selection.control.begin(max(0.0, ((done or 0.0) - warm) / (1 - warm)))


def gold_of(batch: Any, read: Read) -> tuple[Tensor, Tensor] | None:
    """Return what people selected, and where that is known, bool ``(B, T)`` each; None where the batch does not say.

    ``batch["rationale"]`` is ``(B, T)`` as the ids are: bool, or numbers with -100 or NaN on padding and where nobody
    was asked; above 0.5 is selected. A row in which nothing is selected has no rationale, and is left out.

    Raises:
        ValueError: If it has another shape, or numbers other than those.
    """
    found = batches.get(batch, "rationale")
    if found is None:
        return None
    if not isinstance(found, Tensor):
        raise ValueError(f"`batch['rationale']` is a {type(found).__name__}, and must be a tensor (batch, tokens).")
    length = found.shape[1] if found.dim() == 2 else -1
    if length < 0 or len(found) != len(read.ids) or length > read.ids.shape[1] or _cuts(read, length):
        raise ValueError(
            f"`batch['rationale']` has shape {tuple(found.shape)}, but the texts are {tuple(read.ids.shape)} tokens: "
            "it must say of each token of this tokenizer whether it was selected (align it by character offsets)."
        )
    found = F.pad(found.to(read.ids.device).float(), (0, read.ids.shape[1] - length), value=UNKNOWN)
    known = ~found.isnan() & (found != UNKNOWN) & read.selectable
    if bool(((found < 0) | (found > 1))[known].any()):
        raise ValueError("`batch['rationale']` must hold numbers in [0, 1], and -100 or NaN where nobody was asked.")
    selected = (found > 0.5) & known
    return selected, known & selected.any(dim=1, keepdim=True)


def _cuts(read: Read, length: int) -> bool:
    """Whether tokens that may be selected are past a length."""
    return bool(read.selectable[:, length:].any())


def supervision(read: Read, batch: Any) -> Tensor | None:
    """Return the binary cross-entropy of the probabilities with people's rationales, a mean over texts that have one.

    None where the batch has no rationales.
    """
    gold, selection = gold_of(batch, read), read.selection
    if gold is None or selection is None:
        return None
    selected, known = gold
    with torch.autocast(read.ids.device.type, enabled=False):
        p = selection.probabilities.float().clamp(1e-6, 1 - 1e-6)
        costs = -torch.where(selected, p.log(), (1 - p).log()) * known
        rows = known.any(dim=1)
        return (costs.sum(dim=1) / known.sum(dim=1).clamp(min=1)).sum() / rows.sum().clamp(min=1)


def consistency(module: Any, read: Read, batch: Any) -> Tensor:
    """Return KL(p(y | whole text) ‖ p(y | selection)), a mean over the batch; costs two forward passes.

    Raises:
        ValueError: If the module gives no probabilities.
    """
    task, selection = known_task(module), module.rationale
    with selection.everything():
        whole = task.log_probabilities(task.logits(module, batch))
    with selection.selecting(read.z):
        part = task.log_probabilities(task.logits(module, batch))
    if whole is None or part is None:
        raise ValueError(
            f"`rationale_consistency` compares probabilities, and {type(task).__name__} gives none: leave it out, or "
            "define `log_probabilities` on the task."
        )
    return (whole.exp() * (whole - part)).sum(dim=-1).mean()


def reinforce(module: Any, read: Read, batch: Any, baseline: str) -> Tensor:
    """Return the mean of (loss − baseline) · log p(z), whose gradient is that of the expected loss (Williams, 1992).

    The loss is each text's own, in evaluation mode, with the same z.

    Args:
        module: The module.
        read: What was selected.
        batch: The batch.
        baseline: ``moving_average`` of the losses before, ``batch`` for the mean of the other texts', or ``none``.
    """
    assert read.selection is not None
    assert read.selection.log_prob is not None
    selection: TokenSelection = module.rationale
    with explaining(module), torch.no_grad(), selection.selecting(read.z):
        mute(module)
        losses = known_task(module).losses(module, batch).float()
    if losses.shape != (len(read.ids),):
        raise ValueError(
            f"`rationale_gate='reinforce'` needs the loss of each text, and the task's `losses` has shape "
            f"{tuple(losses.shape)} of {len(read.ids)} texts."
        )
    return score_function(losses, read.selection.log_prob, _baseline(selection, losses, baseline))


def _baseline(selection: TokenSelection, losses: Tensor, kind: str) -> float | None:
    if kind != "moving_average":
        return 0.0 if kind == "none" else None
    mean = losses.mean()
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(mean)
        mean = mean / distributed.get_world_size()
    before = float(mean) if selection.average is None else selection.average
    selection.average = _KEPT * before + (1 - _KEPT) * float(mean)
    return before
