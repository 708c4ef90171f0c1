"""Which tokens the agreement of the neighbours rests on: leave one out (Wallace et al., 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from lightning_interpret.functional.neighbors.labels import conformity
from lightning_interpret.methods.case import TOKENS_A_PASS
from lightning_interpret.methods.neighbors.calibration import Answers
from lightning_interpret.tasks import batches

if TYPE_CHECKING:
    from lightning_interpret.methods.neighbors.fitted import FittedNeighbors


def leave_one_out(
    fitted: FittedNeighbors, batch: Any, answers: Answers, k: int | None
) -> list[tuple[tuple[str, ...], tuple[float, ...]]]:
    """Return the tokens of each text, and how much less its neighbours conform to the prediction without each of them.

    Positive: without the token fewer neighbours have the label that is predicted for the whole text. Special tokens
    have 0, and so has the only token of a text, without which there is none. Called inside the explaining scope.

    Args:
        fitted: What is searched.
        batch: The texts.
        answers: What the neighbours say of the whole texts.
        k: Neighbours that count; by default the method's.

    Raises:
        ValueError: If the task does not delete units, or there are no classes.
    """
    if not fitted.classes:
        raise ValueError("`saliency=True` asks how far neighbours conform to a class, and the model has no classes.")
    units, whole = fitted.task.units(batch), conformity(answers.labels, answers.predicted).cpu()
    if units.kind != "token" or units.texts is None:
        raise ValueError(f"`saliency=True` leaves out tokens; this batch has units of kind {units.kind!r}.")
    scores = torch.zeros(units.padding.shape, dtype=whole.dtype)
    several = (~units.padding).sum(dim=1) > 1
    pairs = (~(units.special | units.padding) & several[:, None]).nonzero()
    width = units.padding.shape[1]
    a_pass = TOKENS_A_PASS.get(answers.labels.device.type, TOKENS_A_PASS["cuda"])
    for part in pairs.split(max(1, a_pass // width)) if len(pairs) else ():
        rows, columns = part.T
        absent = torch.zeros(len(part), width, dtype=torch.bool)
        absent[torch.arange(len(part)), columns] = True
        without = fitted.task.delete(fitted.module, fitted.task.take(batch, rows), absent)
        found = fitted.answers(batches.clone(without), k).labels
        scores[rows, columns] = whole[rows] - conformity(found, answers.predicted[rows.to(found.device)]).cpu()
    return [
        (
            tuple(token for token, empty in zip(tokens, blank, strict=True) if not empty),
            tuple(score for score, empty in zip(row, blank, strict=True) if not empty),
        )
        for tokens, row, blank in zip(units.texts, scores.tolist(), units.padding.tolist(), strict=True)
    ]
