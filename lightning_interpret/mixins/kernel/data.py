"""What a kernel layer's landmarks are made of: training examples, read by index in the explaining context."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn

from lightning_interpret.data import TrainingExamples
from lightning_interpret.functional.fingerprint import digest_of
from lightning_interpret.layers.nystroem import Landmark, NystroemLayer
from lightning_interpret.layers.turn_over_dropout import TurnOverDropout
from lightning_interpret.tasks import Task
from lightning_interpret.trainer.context import attribution_mode
from lightning_interpret.trainer.training_data import ModuleExamples

_NOTHING = 1e-6  # a kernel value that no gradient passes


@dataclass
class Candidates:
    """Training examples as the kernel reads them.

    Attributes:
        ids: Their ids.
        labels: Their classes, ``(n,)``, or None where they have none.
        features: What the kernel layer is given of each, ``(n, d)``; empty where they are read as
        texts: their raw inputs.
    """

    ids: list[int]
    labels: Tensor | None
    features: Tensor = field(default_factory=lambda: torch.empty(0))
    texts: list[str] = field(default_factory=list)


def read(
    module: LightningModule,
    data: TrainingExamples,
    task: Task,
    of: Callable[[Any], Any],
    *,
    ids: Sequence[int] | None = None,
    limit: int | None = None,
    noise: int | None = None,
) -> Candidates:
    """Return training examples with what ``of(batch)`` gives of each: features ``(B, d)``, or raw inputs.

    Args:
        module: The module, which is left as it is.
        data: The training examples.
        task: How their labels are read.
        of: What is read of a batch.
        ids: Which ones.
        limit: Otherwise, how many, spread evenly.
        noise: Seed of the dropout that they are read with, as training meets them; None for none.
    """
    found, labels, values = list[int](), list[Tensor | None](), list[Any]()
    drops = _noisy(module)
    with attribution_mode(module.trainer, module):
        if noise is not None:
            torch.manual_seed(noise)
            for part in drops:
                part.training = True
        examples = ModuleExamples(data, module.trainer, module, shard=(0, 1), limit=limit, by_length=True)
        for some, batch in examples.batches() if ids is None else examples.take(ids):
            with _masked(drops, some):
                values.append(of(batch))
            found += some.tolist()
            labels.append(_classes(task.labels(batch), len(some)))
    told = [each for each in labels if each is not None]
    known = torch.cat(told) if told and len(told) == len(labels) else None
    if values and isinstance(values[0], Tensor):
        return Candidates(found, known, torch.cat(values))
    return Candidates(found, known, texts=[str(text) for part in values for text in part])


def check(found: Candidates, count: int) -> None:
    """Refuse examples that so many landmarks cannot be chosen among.

    Raises:
        ValueError: If there are too few, or more classes than landmarks, or features are not finite.
    """
    if len(found.ids) < count:
        raise ValueError(
            f"`kernel_landmarks={count}`, but there are only {len(found.ids)} training examples to choose them "
            "among. The head reads a number for each, so that there cannot be fewer later: give fewer."
        )
    classes = 0 if found.labels is None else len(found.labels.unique())
    if count < classes:
        raise ValueError(
            f"`kernel_landmarks={count}` are fewer than the {classes} classes of the training examples: take at "
            "least one for each."
        )
    if len(found.features):
        broken = (~found.features.isfinite().all(dim=1)).nonzero().flatten().tolist()
        if broken:
            raise ValueError(
                f"What the kernel layer is given of {len(broken)} training examples is not finite (ids "
                f"{some([found.ids[i] for i in broken])}): look at their inputs, or for weights that have diverged."
            )


def warn_if_far(kernel: NystroemLayer, met: Tensor | None) -> None:
    """Warn where training examples, as training meets them, are infinitely far from every landmark."""
    if met is None:
        return
    with torch.no_grad():
        values = kernel.gram(met.to(kernel.factor)).abs().amax(dim=1)
    if float(values.median()) < _NOTHING:
        rank_zero_warn(
            f"Every `kernel={kernel.kernel!r}` value of most training examples is 0 as training meets them, with its "
            "dropout, and so are their gradients: nothing is learnt. Leave out `scale` of `kernel_options`, or give a "
            "smaller one, or take `kernel='linear'`."
        )


def facts(data: TrainingExamples, task: Task, ids: Sequence[int]) -> Iterator[Landmark]:
    """Yield what is known of training examples, one at a time; those that cannot be read are passed over."""
    for some, batch in data.take(ids, batch_size=1):
        texts = None
        with suppress(ValueError):  # a task of texts without a tokenizer
            texts = task.texts(batch)
        gold = task.gold_names(batch)
        yield Landmark(int(some[0]), texts[0] if texts else None, gold[0] if gold else None, digest_of(batch))


def there(data: TrainingExamples, ids: Sequence[int]) -> list[int]:
    """Return those of some ids that are among the training examples."""
    try:
        data.index_of(ids)
    except ValueError:
        known = set(data.ids.tolist())
        return [each for each in ids if each in known]
    return list(ids)


def compared(
    data: TrainingExamples, task: Task, landmarks: Sequence[Landmark]
) -> tuple[dict[int | None, Landmark], list[int], list[int]]:
    """Return what the data have of landmarks, by id, the ids that are gone, and those that are read as other inputs."""
    before = {each.example_id: each for each in landmarks if each.example_id is not None}
    now: dict[int | None, Landmark] = {each.example_id: each for each in facts(data, task, there(data, list(before)))}
    gone = [each for each in before if each not in now]
    return now, gone, [i for i, each in before.items() if i in now and now[i].digest != each.digest]


def some(ids: Sequence[int]) -> str:
    """Return the first of some ids, as a message names them."""
    return ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")


def _noisy(module: nn.Module) -> list[nn.Module]:
    """Return the parts that training runs in training mode, but for those that keep averages of what they meet."""
    parts = [part for part in module.modules() if part.training or not module.training]
    return [part for part in parts if getattr(part, "running_mean", None) is None]


@contextmanager
def _masked(parts: Sequence[nn.Module], ids: Tensor) -> Iterator[None]:
    """Mask each example by its own mask of turn-over dropout, where that is in training mode."""
    with ExitStack() as stack:
        for part in parts:
            if isinstance(part, TurnOverDropout) and part.training:
                stack.enter_context(part.seen(ids))
        yield


def _classes(labels: Any, size: int) -> Tensor | None:
    whole = isinstance(labels, Tensor) and not labels.is_floating_point() and labels.shape == (size,)
    return labels.long().cpu() if whole else None
