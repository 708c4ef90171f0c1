"""The examples of concepts as a Monitor reads them: once, by index, from the training data and from files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch

from lightning_interpret.callbacks.probes import Probes
from lightning_interpret.data.concept_sets import ConceptSource, text_in, value_in
from lightning_interpret.data.random_states import random_states_kept, seed_all
from lightning_interpret.methods.concepts import ConceptActivationVectors, ConceptSets
from lightning_interpret.tasks import Task

T = TypeVar("T")


@torch.inference_mode(False)  # what is made there could be used nowhere else
def read_sets(
    sources: Mapping[str, ConceptSource],
    found: Probes,
    task: Task,
    method: ConceptActivationVectors,
    *,
    columns: Sequence[str],
    encode: Callable[[list[str]], Any],
    batch_size: int,
) -> ConceptSets:
    """Return the examples of concepts, and random ones, as batches on the CPU.

    Of the training examples that are looked through one batch at a time is held, and those that are chosen are read
    again; no loader is iterated, and random states are what they were.

    Args:
        sources: What tells the concepts.
        found: The training examples that are looked through.
        task: How batches are read.
        method: Says how many examples of each set are wanted.
        columns: Names of the concept columns of :class:`.TextRow`, in their order.
        encode: Makes a batch of texts that are written down.
        batch_size: Examples in a batch.

    Raises:
        ValueError: If too few texts of a concept are written down, a column does not exist, or there are too few
            training examples for random concepts.
        OSError: If a file of texts cannot be read.
    """
    written = {name: texts for name, source in sources.items() if (texts := source.written) is not None}
    for name, texts in written.items():
        if len(texts) < method.least:
            raise ValueError(
                f"Concept {name!r} has {len(texts)} texts, and at least {method.least} are needed: write down more."
            )
    scanned = {name: source for name, source in sources.items() if name not in written}
    with random_states_kept():
        having = _having(scanned, found, task, columns, batch_size) if scanned else {}
        missing = {
            name: f"{len(having[name])} of the {len(found.indices)} training examples that were looked through have "
            f"it, and at least {method.least} are needed"
            for name in scanned
            if len(having[name]) < method.least
        }
        drawn = _draw(range(len(found.indices)), method.pool, method.seed)
        rows = {name: _draw(having[name], method.examples, method.seed) for name in scanned if name not in missing}
        places = {
            number: place for place, number in enumerate(sorted({*drawn, *(n for r in rows.values() for n in r)}))
        }
        made = list(_batches(found, list(places), batch_size))
    sets = {name: torch.tensor([places[number] for number in numbers]) for name, numbers in rows.items()}
    size = len(places)
    for name, texts in written.items():
        some = _draw(texts, method.examples, method.seed)
        sets[name] = torch.arange(size, size + len(some))
        size += len(some)
        made += [encode(some[start : start + batch_size]) for start in range(0, len(some), batch_size)]
    kept = {name: sets[name] for name in sources if name in sets}
    others = {name: source.against for name, source in sources.items() if source.against is not None and name in kept}
    for name, other in others.items():
        if other not in kept:
            del kept[name]
            missing[name] = f"{other!r}, which it is set against, has too few examples"
    against = {name: kept[other] for name, other in others.items() if other in kept and name in kept}
    random = torch.tensor([places[number] for number in drawn])
    return ConceptSets(tuple(made), kept, random, against, missing)


def _having(
    sources: Mapping[str, ConceptSource], found: Probes, task: Task, columns: Sequence[str], batch_size: int
) -> dict[str, list[int]]:
    """Return for each concept the numbers of the examples that have it.

    Raises:
        ValueError: If no example has a column that is asked for, or texts are asked for and there are none.
    """
    having: dict[str, list[int]] = {name: [] for name in sources}
    told: set[str] = set()
    by_words = [name for name, source in sources.items() if source.column is None]
    for numbers in _parts(range(len(found.indices)), batch_size):
        examples = [_example(found, number) for number in numbers]
        texts = [text_in(example) for example in examples] if by_words else []
        if None in texts:  # of examples that are tokens already, as the task reads them
            texts = list(task.texts(found.collate(examples)) or texts)
        if None in texts:
            raise ValueError(
                f"`concepts`: {', '.join(map(repr, by_words))} are told by words, and {type(task).__name__} reads no "
                "texts of the training data: tell them by a column, or override `texts`."
            )
        for name, source in sources.items():
            for place, number in enumerate(numbers):
                if source.column is None:
                    has: bool | None = source.said_in(str(texts[place]))
                else:
                    value = value_in(examples[place], source.column, columns)
                    told |= {name} if value is not None else set()
                    has = source.told_by(value, f"training example {found.indices[number]}")
                if has:
                    having[name].append(number)
    for name, source in sources.items():
        if source.column is not None and name not in told:
            raise ValueError(
                f"Concept {name!r}: none of the {len(found.indices)} training examples that were looked through holds "
                f"anything under `column={source.column!r}`: name a column, key or field of the examples."
            )
    return having


def _draw(values: Sequence[T], most: int, seed: int) -> list[T]:
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))[:most]
    return [values[i] for i in order.tolist()]


def _batches(found: Probes, numbers: Sequence[int], size: int) -> Iterator[Any]:
    for some in _parts(numbers, size):
        yield found.collate([_example(found, number) for number in some])


def _example(found: Probes, number: int) -> Any:
    seed_all(number)  # an example that draws is the same each time
    return found.example(number)


def _parts(numbers: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]
