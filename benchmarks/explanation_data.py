"""Real texts whose labels people explained in words: for `explanations.py`."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from lightning_interpret.tasks.encode import encode, following


@dataclass(frozen=True)
class Told:
    """A text, its class, and why, as a person put it."""

    text: str
    label: int
    explanation: str


@dataclass(frozen=True)
class Data:
    """A data set: what is written for its classes, what a label is read from, and its rows by split.

    Attributes:
        labels: Words of the classes.
        reads: What a label is read from where the explanation comes first: it alone, or the text with it.
        train: Rows that models are trained on.
        other: Rows of the same file that they are not, for the simulator.
        test: Rows of another file.
    """

    labels: list[str]
    reads: str
    train: list[Told]
    other: list[Told]
    test: list[Told]


def esnli(folder: Path) -> tuple[list[str], str, list[Told], list[Told]]:
    """Return pairs of sentences, each with what its first annotator wrote."""
    labels = ["entailment", "neutral", "contradiction"]

    def read(split: str) -> Iterator[Told]:
        for row in _rows(folder / "esnli" / f"{split}.jsonl.gz"):
            text = f"premise: {row['premise']} hypothesis: {row['hypothesis']}"
            yield Told(text, labels.index(row["label"]), row["annotations"][0]["explanation"].strip())

    return labels, "explanation", list(read("train")), list(read("test"))


def cose(folder: Path) -> tuple[list[str], str, list[Told], list[Told]]:
    """Return questions with three choices; the class is the place of the right one.

    A place means nothing without the choices, so that a label is read from the question with its explanation.
    """
    labels = ["first", "second", "third"]

    def read(split: str) -> Iterator[Told]:
        for row in _rows(folder / "cose" / f"{split}.jsonl.gz"):
            choices = " ".join(f"{place}: {choice}" for place, choice in zip(labels, row["choices"], strict=True))
            yield Told(f"{row['question']} {choices}", row["answer"], row["explanation"].strip())

    return labels, "both", list(read("train")), list(read("dev"))


SETS = {"esnli": esnli, "cose": cose}


def read_some(name: str, folder: Path, examples: int, simulated: int, test: int, seed: int = 0) -> Data:
    """Return so many rows of each part, drawn by a seed; the first two are of one file and share no row.

    Raises:
        ValueError: If the file is too small.
    """
    labels, reads, train, rest = SETS[name](folder)
    if examples + simulated > len(train):
        raise ValueError(f"{name} has {len(train):,} training rows, fewer than {examples:,} + {simulated:,}.")
    drawn = random.Random(seed)
    drawn.shuffle(train)
    drawn.shuffle(rest)
    return Data(labels, reads, train[:examples], train[examples : examples + simulated], rest[:test])


def loader(tokenizer: Any, rows: Sequence[Told], length: int, size: int, *, shuffle: bool = False) -> DataLoader:
    """Return batches with ids, labels and people's explanations; in an order by length where they are not shuffled."""
    order = list(range(len(rows)))
    if not shuffle:
        order.sort(key=lambda i: len(rows[i].text))

    def collate(places: list[int]) -> Any:
        some = [rows[i] for i in places]
        labels = [row.label for row in some]
        batch = encode(tokenizer, [row.text for row in some], max_length=length, labels=labels, example_ids=places)
        ids = [torch.tensor(each, dtype=torch.long) for each in following(tokenizer, [row.explanation for row in some])]
        batch["explanation_ids"] = pad_sequence(ids, batch_first=True, padding_value=-100)
        return batch

    return DataLoader(order, batch_size=size, shuffle=shuffle, collate_fn=collate)  # type: ignore[arg-type]


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf8") as lines:
        yield from map(json.loads, lines)
