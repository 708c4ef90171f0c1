"""All validation examples looked through once: what the model says, and what stands near."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lightning_interpret.bad_cases import KINDS
from lightning_interpret.causes.setting import Setting
from lightning_interpret.causes.training import Training
from lightning_interpret.causes.words import words_of
from lightning_interpret.methods.neighbors import Answers
from lightning_interpret.tasks import Task, batches

_AT_ONCE = 32
_CUT = re.compile(r"cut to (\d+) of (\d+) tokens")


class Validation(Protocol):
    """Validation examples by number, read as often as asked."""

    def __len__(self) -> int:
        """Return how many there are."""

    def batch(self, numbers: Sequence[int]) -> Any:
        """Return the batch of some of them, on the module's device."""

    def index(self, number: int) -> int:
        """Return where one stands in its data set."""

    def text(self, number: int) -> str | None:
        """Return its text whole, ``None`` where it is not known: the batch may have but the part that fits."""

    def encoded(self, texts: Sequence[str]) -> Any | None:
        """Return the batch of other texts, each cut from the front to what fits; ``None`` where there is no way."""


@dataclass
class Scan:
    """What the validation examples are to the model.

    Attributes:
        answers: Probabilities, neighbours and gold labels, V rows.
        ids: Their ids.
        texts: What of each text is read; ``None`` where there are none.
        notes: What its batch says of each: that it was cut.
        indices: Where each stands in its data set.
        losses: −log of the gold label's probability, ``(V,)``; NaN without one.
    """

    answers: Answers
    ids: list[int | None]
    texts: list[str | None]
    notes: list[tuple[str, ...]]
    indices: list[int]
    losses: Tensor = field(init=False)

    def __post_init__(self) -> None:
        known, gold = self.answers.probabilities, self.answers.gold
        picked = known.gather(1, gold.clamp(min=0)[:, None]).flatten()
        self.losses = (-picked.double().clamp(min=1e-30).log()).masked_fill(gold < 0, torch.nan)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def words(self) -> list[list[str]]:
        """The words of each text."""
        return [words_of(text or "") for text in self.texts]

    @cached_property
    def confidence(self) -> Tensor:
        """Probability of what is predicted, ``(V,)``."""
        return self.answers.probabilities.max(dim=1).values

    @cached_property
    def right(self) -> Tensor:
        """Which are right, bool ``(V,)``; not those without a label."""
        return self.answers.predicted == self.answers.gold

    @cached_property
    def wrong(self) -> Tensor:
        """Which are wrong, bool ``(V,)``."""
        return (self.answers.gold >= 0) & ~self.right

    def other(self, number: int) -> int:
        """Return the class against the predicted one: the gold label of a wrong case, of others the runner-up."""
        if bool(self.wrong[number]):
            return int(self.answers.gold[number])
        known = self.answers.probabilities[number]
        return int(known.argsort(descending=True)[1]) if len(known) > 1 else 0

    def cut(self, number: int) -> tuple[int, int] | None:
        """Return how many tokens of a text are read, of how many; ``None`` where it is not cut."""
        found = next(filter(None, map(_CUT.search, self.notes[number])), None)
        return found and (int(found[1]), int(found[2]))

    def unsure_below(self, setting: Setting) -> float:
        """Return the probability below which a right answer is unsure: what is asked for, 1 / C at least."""
        return max(setting.unsure_below, 1.0 / max(1, self.answers.probabilities.shape[1]))

    def badness(self, setting: Setting) -> list[str | None]:
        """Return for each example which kind of bad case it is, or ``None``."""
        unsure_below = self.unsure_below(setting)
        confident, wrong, unsure = KINDS
        return [
            (confident if sure >= setting.confident_from else wrong)
            if bad
            else (unsure if sure < unsure_below else None)
            for bad, sure in zip(self.wrong.tolist(), self.confidence.tolist(), strict=True)
        ]

    def chosen(self, setting: Setting) -> list[int]:
        """Return the numbers of the bad cases that are explained: wrong ones by falling loss, then the least sure."""
        kinds = self.badness(setting)
        bad = [number for number, kind in enumerate(kinds) if kind is not None]
        wrong = self.wrong.tolist()
        losses, sure = self.losses.nan_to_num(0.0).tolist(), self.confidence.tolist()
        bad.sort(key=lambda number: (not wrong[number], -losses[number] if wrong[number] else sure[number], number))
        return bad[: setting.cases]


def scan(module: nn.Module, task: Task, validation: Validation, training: Training, end: float) -> Scan:
    """Return what each validation example is to the model: a forward pass and a search each.

    Args:
        module: The module, inside the explaining scope.
        task: How batches are read.
        validation: The examples.
        training: The training data.
        end: When no more are read, by ``time.perf_counter``.
    """
    answers: list[Answers] = []
    ids: list[int | None] = []
    texts: list[str | None] = []
    notes: list[tuple[str, ...]] = []
    for start in range(0, len(validation), _AT_ONCE):
        if start and time.perf_counter() > end:
            break
        numbers = range(start, min(len(validation), start + _AT_ONCE))
        batch = batches.to_full_precision(batches.clone(validation.batch(numbers)))
        with torch.no_grad():
            answers.append(training.fitted.answers(batch))
        nothing: list[Any] = [None] * len(numbers)
        ids += task.example_ids(batch) or nothing
        texts += task.texts(batch) or nothing
        notes += task.notes(batch) or [() for _ in numbers]
    return Scan(Answers.joined(answers), ids, texts, notes, [validation.index(number) for number in range(len(ids))])
