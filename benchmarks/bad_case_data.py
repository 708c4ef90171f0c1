"""The real data sets of `bad_cases.py`, as lists."""

from __future__ import annotations

import gzip
import json
import random
import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pair:
    """A review, and people's least edit of it that turns its label."""

    original: str
    original_label: str
    revised: str
    revised_label: str


def ag_news(folder: Path) -> tuple[list[str], Tensor, Tensor, list[str], Tensor]:
    """Return training texts, their labels as people gave them and the true ones, test texts and their labels."""
    train, test = (_table(folder / "ag_news" / f"{split}.tsv.gz") for split in ("train", "test"))
    given = torch.tensor([int(row["human_noisy_label"]) for row in train])
    true, test_labels = (torch.tensor([int(row["label"]) for row in rows]) for rows in (train, test))
    return [row["text"] for row in train], given, true, [row["text"] for row in test], test_labels


def counterfactuals(folder: Path, pairs: int) -> tuple[list[tuple[str, str]], list[Pair]]:
    """Return the original training reviews with their labels, and pairs of the other splits."""
    read = {split: _objects(folder / "cad_imdb" / f"{split}.jsonl.gz") for split in ("train", "dev", "test")}
    train = [(row["original"]["text"], row["original"]["label"]) for row in read["train"]]
    rows = (read["dev"] + read["test"])[:pairs]
    sides = [(row["original"], row["revised"]) for row in rows]
    return train, [Pair(a["text"], a["label"], b["text"], b["label"]) for a, b in sides]


def hatexplain(folder: Path, count: int, seed: int) -> tuple[list[str], list[int]]:
    """Return posts, and 1 for those that most annotators called hate speech; not those they called offensive only."""
    rows = [row for row in _objects(folder / "hatexplain" / "train.jsonl.gz") if row["label"] != "offensive"]
    rows = random.Random(seed).sample(rows, min(count, len(rows)))
    return [" ".join(row["tokens"]) for row in rows], [int(row["label"] == "hatespeech") for row in rows]


def hatecheck(folder: Path, count: int, seed: int) -> tuple[list[str], list[int], list[str]]:
    """Return cases, 1 for those that are hateful, and the functionality that each of them tests."""
    rows = _table(folder / "hatecheck" / "cases.tsv.gz")
    rows = random.Random(seed).sample(rows, min(count, len(rows)))
    texts, labels = [row["test_case"] for row in rows], [int(row["label_gold"] == "hateful") for row in rows]
    return texts, labels, [row["functionality"] for row in rows]


def words(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    return re.findall(r"\w+", text.lower())


def edited(pair: Pair, side: str) -> set[str]:
    """Return the words of one side of a pair that the other side lacks at their place."""
    mine, other = words(getattr(pair, side)), words(pair.revised if side == "original" else pair.original)
    matcher = SequenceMatcher(None, mine, other, autojunk=False)
    return {word for kind, a, b, _, _ in matcher.get_opcodes() if kind != "equal" for word in mine[a:b]}


def _table(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf8") as file:
        head, *lines = [line.rstrip("\n").split("\t") for line in file]
    return [dict(zip(head, line, strict=True)) for line in lines]


def _objects(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf8") as file:
        return [json.loads(line) for line in file]
