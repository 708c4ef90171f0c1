"""Real texts whose decisive words were marked by people, and what is read of them: for `rationales.py`."""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from lightning_interpret.tasks.encode import encode

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Marked:
    """A text, its class, and the characters that people marked; ``None`` where they were not asked."""

    text: str
    label: int
    spans: Spans | None


@dataclass(frozen=True)
class Data:
    """A data set: names of its classes, how many tokens a text may have, and its rows by split."""

    labels: list[str]
    length: int
    train: list[Marked]
    test: list[Marked]


def hatexplain(folder: Path, part: Callable[[list[Any]], list[Any]]) -> Data:
    """Return posts of three classes; gold is the union of what annotators marked, and a normal post has none."""
    labels = ["normal", "offensive", "hatespeech"]

    def read(split: str) -> Iterator[Marked]:
        for row in _rows(folder / "hatexplain" / f"{split}.jsonl.gz"):
            marks = row["rationale_union"]
            asked = marks is not None and any(marks)
            yield Marked(
                " ".join(row["tokens"]),
                labels.index(row["label"]),
                _of_words(row["tokens"], [i for i, mark in enumerate(marks) if mark]) if asked else None,
            )

    return Data(labels, 128, part(list(read("train"))), list(read("test")))


def esnli(folder: Path, part: Callable[[list[Any]], list[Any]]) -> Data:
    """Return pairs of sentences; gold is what most of three annotators highlighted."""
    labels = ["entailment", "neutral", "contradiction"]

    def read(split: str) -> Iterator[Marked]:
        for row in _rows(folder / "esnli" / f"{split}.jsonl.gz"):
            premise, hypothesis = row["premise"].split(" "), row["hypothesis"].split(" ")
            words = [*premise, "[SEP]", *hypothesis]
            votes = [0] * len(words)
            for each in row["annotations"]:
                for i in (*each["premise"], *(len(premise) + 1 + i for i in each["hypothesis"])):
                    votes[i] += 1
            chosen = [i for i, count in enumerate(votes) if count >= 2]
            yield Marked(" ".join(words), labels.index(row["label"]), _of_words(words, chosen) if chosen else None)

    return Data(labels, 96, part(list(read("train"))), list(read("test")))


def sst2(folder: Path, part: Callable[[list[Any]], list[Any]]) -> Data:
    """Return sentences, of which nobody marked words; the dev split is read for the figures."""

    def read(name: str) -> Iterator[Marked]:
        path = folder / "sst2" / name
        lines = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        rows = csv.DictReader(lines.decode("utf8").split("\n"), delimiter="\t", quoting=csv.QUOTE_NONE)
        yield from (Marked(row["sentence"], int(row["label"]), None) for row in rows)

    return Data(["negative", "positive"], 64, part(list(read("train_sentences.tsv.gz"))), list(read("dev.tsv")))


def eraser_movies(folder: Path, part: Callable[[list[Any]], list[Any]], words: int = 200) -> Data:
    """Return windows of long reviews, as many words each; a window has its review's label, and the marks inside it.

    Windows of training reviews in which nobody marked anything are left out of neither split.
    """

    def read(split: str) -> Iterator[Marked]:
        for row in _rows(folder / "eraser_movies" / f"{split}.jsonl.gz"):
            tokens, marked = row["text"].split(" "), {i for start, end in row["evidences"] for i in range(start, end)}
            for begin in range(0, len(tokens), words):
                part_of = tokens[begin : begin + words]
                chosen = [i for i in range(len(part_of)) if begin + i in marked]
                yield Marked(" ".join(part_of), int(row["label"] == "POS"), _of_words(part_of, chosen) or None)

    return Data(["negative", "positive"], 256, part(list(read("train"))), list(read("test")))


SETS = {"hatexplain": hatexplain, "esnli": esnli, "sst2": sst2, "eraser_movies": eraser_movies}


def some(count: int | None, seed: int = 0) -> Callable[[list[Any]], list[Any]]:
    """Return what keeps so many rows of a list, drawn by a seed, in their order."""

    def keep(rows: list[Any]) -> list[Any]:
        if count is None or count >= len(rows):
            return rows
        return [rows[i] for i in sorted(random.Random(seed).sample(range(len(rows)), count))]

    return keep


def loader(tokenizer: Any, rows: Sequence[Marked], length: int, size: int, *, shuffle: bool) -> DataLoader:
    """Return batches with ids, labels and people's rationales: 1 and 0 at tokens, −100 where nobody was asked."""
    order = list(range(len(rows)))
    if not shuffle:
        order.sort(key=lambda i: len(rows[i].text))

    def collate(places: list[int]) -> Any:
        texts, labels = [rows[i].text for i in places], [rows[i].label for i in places]
        batch = encode(tokenizer, texts, max_length=length, labels=labels, example_ids=places)
        batch["rationale"] = torch.full(batch["input_ids"].shape, -100)
        for k, place in enumerate(places):
            spans = rows[place].spans
            if spans is None:
                continue
            marks = [
                int(end > begin and any(begin < b and a < end for a, b in spans))
                for begin, end in batch["offset_mapping"][k]
            ]
            batch["rationale"][k, : len(marks)] = torch.tensor(marks)
        return batch

    return DataLoader(order, batch_size=size, shuffle=shuffle, collate_fn=collate)  # type: ignore[arg-type]


def _of_words(words: Sequence[str], chosen: Sequence[int]) -> Spans:
    """Return the characters of some words of a text that is its words with a space between them."""
    starts, at = [], 0
    for word in words:
        starts.append(at)
        at += len(word) + 1
    return tuple((starts[i], starts[i] + len(words[i])) for i in chosen)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf8") as lines:
        yield from map(json.loads, lines)
