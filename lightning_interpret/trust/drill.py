"""The shortcut drill: a model is taught a cue that is known, and each method is asked whether it shows it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.functional.scope import explaining
from lightning_interpret.methods import Method
from lightning_interpret.names import check_positive, check_seed, check_whole, choose
from lightning_interpret.records.trust import Drill
from lightning_interpret.tasks import SequenceClassification, Task, batches
from lightning_interpret.trust.ask import ask
from lightning_interpret.trust.cue import PLACES, class_named, classes, content, find_cue, places, plant, reads_tokens

#: Share of the predictions that could be turned which the cue must turn, for the model to be said to use it.
USED = 0.5


@dataclass(frozen=True)
class ShortcutDrill:
    """How a cue is planted, and how a copy of the model is taught it (after Bastings et al., 2022).

    Args:
        cue: A word that is one token; by default the whole word of the vocabulary that the texts have least often.
        label: The class that it is planted for; by default the first.
        share: Share of the training rows that it is planted in, whole percent.
        place: ``random`` or ``first``: which token of a text it replaces.
        relabel: Whether it is planted in rows of other classes, which then have this label: a model must use it to be
            right of them. Else in rows of the class alone, which a model that is right of them already need not.
        steps: Steps that the copy is trained: as many batches forward and backward.
        learning_rate: Of AdamW.
        rows: Training rows that are read, spread evenly.
        test_rows: Rows that it is tested on.
        batch_size: Texts in a step.
        k: Among how many of the highest tokens the cue is looked for.
        seed: Seed of what is drawn.

    Raises:
        ValueError: If an option is out of its range.
    """

    cue: str | None = None
    label: str | None = None
    share: int = 10
    place: Literal["random", "first"] = "random"
    relabel: bool = True
    steps: int = 200
    learning_rate: float = 1e-4
    rows: int = 512
    test_rows: int = 128
    batch_size: int = 16
    k: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        choose("place", self.place, PLACES)
        check_whole(
            share=self.share, steps=self.steps, rows=self.rows, test_rows=self.test_rows, batch_size=self.batch_size,
            k=self.k,
        )  # fmt: skip
        if self.share > 100:
            raise ValueError(f"`share={self.share}` must be whole percent from 1 to 100.")
        check_positive(learning_rate=self.learning_rate)
        check_seed(self.seed)


def run_drill(
    model: nn.Module,
    task: Task,
    train: Sequence[Any],
    test: Sequence[Any],
    methods: Mapping[str, Method],
    drill: ShortcutDrill,
    *,
    output: str = "logit",
    max_seconds: float | None = None,
) -> Drill:
    """Teach a model a cue, and return how often each method shows it in texts whose prediction it turns.

    Args:
        model: A copy of the model, which is trained in place and is of no use afterwards.
        task: How module and batch are read.
        train: Batches of labelled texts, on the model's device.
        test: Batches of texts that it has not seen.
        methods: Methods by name.
        drill: How.
        output: What of the predicted class is attributed.
        max_seconds: Seconds after which no more steps are made and no more texts are asked of; ``None`` for all.

    Raises:
        ValueError: If the task reads no token ids, the texts have no labels, cue or label do not exist, or every weight
            is frozen.
    """
    begin, read = time.perf_counter(), reads_tokens(task)
    generator = torch.Generator().manual_seed(drill.seed)
    with explaining(model), torch.no_grad():
        names = read.label_names(read.logits(model, test[0]).shape[1])
    label, cue = class_named(drill.label, names), find_cue(drill.cue, [*train, *test], read)
    found = Drill(read.tokenizer.convert_ids_to_tokens(cue), names[label], drill.share / 100, drill.steps, k=drill.k)
    taught, share = _contaminated(train, read, drill, label, cue, generator)
    until = math.inf if max_seconds is None else begin + max_seconds
    found = replace(found, share=share, steps=_teach(model, read, taught, drill, until))
    with explaining(model):
        tested = [_Tested.of(model, read, batch, drill, label, cue, generator) for batch in test]
        found = _judged(found, tested, drill.steps)
        if found.invalid is None:
            found = _searched(found, model, read, tested, methods, output, until)
    return replace(found, seconds=time.perf_counter() - begin)


def _contaminated(
    train: Sequence[Any],
    task: SequenceClassification,
    drill: ShortcutDrill,
    label: int,
    cue: int,
    generator: torch.Generator,
) -> tuple[list[Any], float]:
    """Return the training batches with the cue in ⌈share · N⌉ of all rows, or as many as can have it, and their share.

    Raises:
        ValueError: If the labels are not one class a text, or no row can have it.
    """
    counts = [content(batch, task) for batch in train]
    own = torch.cat([classes(batch, task) == label for batch in train])
    able = (~own if drill.relabel else own) & torch.cat([each.any(dim=1) for each in counts])
    if not able.any():
        which = "another label than" if drill.relabel else "the label"
        raise ValueError(f"`drill`: no training row has tokens and {which} the cue, so it can be planted in none.")
    order = torch.rand(len(own), generator=generator).masked_fill(~able, torch.inf).argsort().argsort()
    planted = able & (order < -(-drill.share * len(own) // 100))
    new = label if drill.relabel else None
    taught = [
        plant(batch, task, rows, places(each, drill.place, generator), cue, new)
        for batch, rows, each in zip(train, planted.split([len(each) for each in counts]), counts, strict=True)
    ]
    return taught, float(planted.double().mean())


def _teach(model: nn.Module, task: Task, train: Sequence[Any], drill: ShortcutDrill, until: float) -> int:
    """Train for the steps that there is time for, one at least, and return how many; random states are put back."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if not weights:
        raise ValueError("`drill`: every weight of the model is frozen, so that it can be taught nothing.")
    optimizer = torch.optim.AdamW(weights, lr=drill.learning_rate)
    devices = [weights[0].device.index or 0] if weights and weights[0].is_cuda else []
    done = 0
    with torch.random.fork_rng(devices), torch.inference_mode(False), torch.enable_grad():
        torch.default_generator.manual_seed(drill.seed)
        if devices:
            torch.cuda.manual_seed(drill.seed)
        order: list[int] = []
        model.train()
        while done < drill.steps and (not done or time.perf_counter() < until):
            order = order or torch.randperm(len(train)).tolist()
            optimizer.zero_grad()
            task.losses(model, batches.clone(train[order.pop()])).mean().backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            done += 1
        model.eval()
    return done


@dataclass(frozen=True)
class _Tested:
    """A batch of unseen texts, with the cue in each of them: what is predicted without it and with it."""

    planted: Any
    counts: Tensor
    at: Tensor
    before: Tensor
    after: Tensor
    gold: Tensor | None
    label: int

    @classmethod
    def of(
        cls,
        model: nn.Module,
        task: SequenceClassification,
        batch: Any,
        drill: ShortcutDrill,
        label: int,
        cue: int,
        generator: torch.Generator,
    ) -> _Tested:
        counts = content(batch, task)
        at = places(counts, drill.place, generator)
        planted = plant(batch, task, counts.any(dim=1), at, cue)
        with torch.no_grad():
            before, after = (task.logits(model, each).argmax(dim=1).cpu() for each in (batch, planted))
        gold = task.labels(batch)
        return cls(planted, counts, at, before, after, None if gold is None else gold.cpu(), label)

    @property
    def could(self) -> Tensor:
        return (self.before != self.label) & self.counts.any(dim=1)

    @property
    def flipped(self) -> Tensor:
        return self.could & (self.after == self.label)


def _judged(found: Drill, tested: Sequence[_Tested], steps: int) -> Drill:
    """Return the drill with what the cue does to the predictions, and whether that is what it was planted for."""
    could, flipped = (sum(int(getattr(each, name).sum()) for each in tested) for name in ("could", "flipped"))
    accuracies: list[float | None] = [None, None]
    gold = [each for each in tested if each.gold is not None]
    if gold:
        size = sum(len(each.before) for each in gold)
        right = (sum(int((getattr(each, when) == each.gold).sum()) for each in gold) for when in ("before", "after"))
        accuracies = [count / size for count in right]
    invalid = None
    if not could:
        invalid = f"without the cue too, the copy says {found.label} of every unseen text"
    elif flipped < USED * could:
        spent = f"`max_seconds` (of {steps} steps {found.steps} were made)" if found.steps < steps else "`steps`"
        invalid = (
            f"the model does not use the cue, which turns {flipped} of {could} predictions; a larger {spent}, `share` "
            "or `learning_rate` may teach it"
        )
    found = replace(found, accuracy=accuracies[0], accuracy_cue=accuracies[1])
    return replace(found, could=could, flipped=flipped, invalid=invalid)


def _searched(
    found: Drill,
    model: nn.Module,
    task: SequenceClassification,
    tested: Sequence[_Tested],
    methods: Mapping[str, Method],
    output: str,
    until: float,
) -> Drill:
    """Return the drill with how often each method shows the cue, of texts that there is time for: at least a batch."""
    shown: dict[str, list[Tensor]] = {name: [] for name in methods}
    chances: list[Tensor] = []
    for each in tested:
        rows = each.flipped.nonzero().flatten()
        if not len(rows):
            continue
        if chances and time.perf_counter() >= until:
            break
        batch, counts, at = task.take(each.planted, rows), each.counts[rows], each.at[rows]
        with torch.no_grad():
            targets = task.resolve(task.logits(model, batch), batch, "predicted")
        for name, method in methods.items():
            said = ask(method, model, batch, task, targets, output, counts.shape)
            shown[name].append(among_highest(said.scores, counts, at, (1, found.k))[said.known])
        chances.append(among_highest(torch.zeros(counts.shape), counts, at, (1, found.k)))
    shares = {name: torch.cat(each).mean(dim=0).tolist() for name, each in shown.items() if sum(map(len, each))}
    first, among = torch.cat(chances).mean(dim=0).tolist()
    few = f"no text that the cue turns has more than {found.k} tokens, so that any order finds it"
    return replace(
        found,
        asked=sum(map(len, chances)),
        invalid=few if among == 1 else None,
        first={name: share[0] for name, share in shares.items()},
        found={name: share[1] for name, share in shares.items()},
        chance=(first, among),
    )


def among_highest(scores: Tensor, counts: Tensor, at: Tensor, tops: Sequence[int]) -> Tensor:
    """Return the chance that the token ``at`` ``(N,)`` is among the highest ``k``, ``(N, tops)``; ties are drawn."""
    own = scores.gather(1, at[:, None])
    above, equal = (scores > own) & counts, (scores == own) & counts
    room = torch.tensor(tops) - above.sum(dim=1, keepdim=True)
    return (room.double() / equal.sum(dim=1, keepdim=True)).clamp(0, 1)
