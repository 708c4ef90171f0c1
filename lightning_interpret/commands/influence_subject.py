"""What `compare --what influence` asks about: a small text classifier, its data, and how it is trained anew."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.data import ReviewCorpus, TextRow, class_of, read_rows
from lightning_interpret.functional.fingerprint import digest_of
from lightning_interpret.functional.influence.ensembles import MinusLoss, SubsetTrainer, perceptron, sgd
from lightning_interpret.tasks import batches
from lightning_interpret.tasks.bag_of_words import BagOfWords, Vocabulary

WEIGHT_DECAY = 1e-3
_FLIPPED = 0.1
_WORDS, _HIDDEN, _RATE, _EPOCHS, _BATCH, _CHECKPOINTS = 512, 8, 0.5, 40, 50, 5


@dataclass(frozen=True)
class InMemory:
    """Examples of one batch, whose ids are their places.

    Attributes:
        batch: The batch.
        size: Examples that are read at once.
    """

    batch: dict[str, Any]
    size: int

    def batches(self) -> Iterator[tuple[Tensor, Any]]:
        """Yield ids and batches in order."""
        return self.take(self.batch["example_id"].tolist())

    def take(self, ids: Sequence[int]) -> Iterator[tuple[Tensor, Any]]:
        """Yield the examples with these ids."""
        for rows in torch.tensor(ids, dtype=torch.long).split(self.size):
            yield rows, batches.take(self.batch, rows)


@dataclass(frozen=True)
class Subject:
    """A network of one hidden layer on bags of words, small enough for the exact curvature and for many trainings.

    Attributes:
        title: What it is, in a line.
        labels: Names of the classes.
        train: The training examples; ``example_id`` is their place.
        queries: The validation examples.
        wrong: Bool ``(n,)``, whose label was made wrong.
        seed: Of the network that is explained; the first of those that are trained anew.
    """

    title: str
    labels: tuple[str, ...]
    train: dict[str, Any]
    queries: dict[str, Any]
    wrong: Tensor
    seed: int

    @property
    def task(self) -> BagOfWords:
        """How module and batches are read."""
        return BagOfWords(self.labels)

    @property
    def examples(self) -> InMemory:
        """The training examples as influence methods read them."""
        return InMemory(self.train, 256)

    @property
    def trainer(self) -> SubsetTrainer:
        """What trains on a part of the examples."""
        vectors = self.train["vectors"]
        make = partial(perceptron, vectors.shape[1], _HIDDEN, len(self.labels))
        optimizer = partial(sgd, lr=_RATE, weight_decay=WEIGHT_DECAY)
        return SubsetTrainer(make, vectors, self.train["labels"], optimizer, _EPOCHS, _BATCH)

    @property
    def outcome(self) -> MinusLoss:
        """What is measured at the queries."""
        return MinusLoss(self.queries["vectors"], self.queries["labels"])

    @property
    def key(self) -> str:
        """A digest of the data and of how they are trained on."""
        data = [each[name] for each in (self.train, self.queries) for name in ("vectors", "labels")]
        return digest_of(data, self.labels, self.seed, _HIDDEN, _RATE, _EPOCHS, _BATCH, WEIGHT_DECAY)

    @cached_property
    def module(self) -> nn.Module:
        """The network that is explained: trained on all examples."""
        return self.trainer(torch.ones(len(self.wrong), dtype=torch.bool), self.seed)

    def checkpoints(self, folder: Path) -> list[str]:
        """Write some of the states that training went through, as a Lightning run keeps them, and return the files."""
        folder.mkdir(parents=True, exist_ok=True)
        every, files = max(1, _EPOCHS // _CHECKPOINTS), []
        for epoch, (network, rate) in enumerate(self.trainer.course(torch.ones_like(self.wrong), self.seed), 1):
            if (epoch % every and epoch != _EPOCHS - 1) or not rate:  # the last state has no step left to take
                continue
            names = list(range(len(list(network.parameters()))))
            state = {"state": {}, "param_groups": [{"lr": rate, "params": names}]}
            files.append(str(folder / f"epoch={epoch}.ckpt"))
            torch.save({"epoch": epoch, "state_dict": network.state_dict(), "optimizer_states": [state]}, files[-1])
        return files


def find_subject(options: argparse.Namespace) -> Subject:
    """Return the generated reviews, or the user's own texts.

    Raises:
        ValueError: If a share is none, a label of the validation rows is not in the training rows, or there are too few
            rows.
    """
    if options.flipped is not None and not 0 <= options.flipped < 1:
        raise ValueError(f"`--flipped {options.flipped}` is a share of labels: give a number from 0 to 1, without 1.")
    if options.train_file is not None:
        return _given(options)
    if options.val_file is not None:
        raise ValueError("`--val-file` goes with `--train-file`.")
    flipped = _FLIPPED if options.flipped is None else options.flipped
    corpus = ReviewCorpus(options.examples, seed=options.seed, flipped=flipped)
    unseen = ReviewCorpus(options.queries, seed=options.seed + 1)
    train, asked = list(map(corpus.__getitem__, range(len(corpus)))), [unseen[i] for i in range(len(unseen))]
    rows = [TextRow(row.text, row.label, 0, row.example_id) for row in train]
    queries = [TextRow(row.text, row.label, 0, row.example_id) for row in asked]
    wrong = torch.tensor([row.flipped for row in train])
    return _subject(f"{len(rows)} generated reviews", rows, queries, wrong, options.seed)


def _given(options: argparse.Namespace) -> Subject:
    columns = {"text_column": options.text_column, "label_column": options.label_column}
    source = read_rows(options.train_file, **columns)
    rows = list(islice(source, options.examples))
    source = source if options.val_file is None else read_rows(options.val_file, **columns)
    queries = list(islice(source, options.queries))
    labels = _labels(rows, queries)
    generator = torch.Generator().manual_seed(options.seed)
    wrong = torch.rand(len(rows), generator=generator) < (options.flipped or 0.0)
    moved = torch.randint(1, len(labels), (len(rows),), generator=generator)
    for i in wrong.nonzero().flatten().tolist():
        row = rows[i]
        label = labels[(labels.index(str(row.label)) + int(moved[i])) % len(labels)]
        rows[i] = TextRow(row.text, label, row.line, row.example_id)
    return _subject(f"{len(rows)} rows of {Path(options.train_file).name}", rows, queries, wrong, options.seed)


def _subject(what: str, rows: Sequence[TextRow], queries: Sequence[TextRow], wrong: Tensor, seed: int) -> Subject:
    labels = _labels(rows, queries)
    classes = [[class_of(row.label, labels) for row in each] for each in (rows, queries)]
    vocabulary = Vocabulary.of([row.text for row in rows], classes[0], _WORDS)

    def batch(of: Sequence[TextRow], gold: list[int]) -> dict[str, Any]:
        texts = [row.text for row in of]
        ids = torch.arange(len(texts))
        return {"vectors": vocabulary.vectors(texts), "labels": torch.tensor(gold), "text": texts, "example_id": ids}

    train, asked = batch(rows, classes[0]), batch(queries, classes[1])
    made = f", {int(wrong.sum())} with a label that was made wrong" if wrong.any() else ""
    return Subject(f"{what}{made}; {len(queries)} to ask about", labels, train, asked, wrong, seed)


def _labels(rows: Sequence[TextRow], queries: Sequence[TextRow]) -> tuple[str, ...]:
    labels = tuple(sorted({str(row.label) for row in rows}))
    if len(labels) < 2 or not queries:
        raise ValueError(
            f"There are {len(rows)} training rows with {len(labels)} labels, and {len(queries)} rows to ask about: "
            "give `--val-file`, or other `--examples`, so that there are two labels, and rows left to ask about."
        )
    return labels
