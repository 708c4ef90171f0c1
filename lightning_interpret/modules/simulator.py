"""Simulator: a small classifier that foresees what another model predicts, from its input and its explanation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_interpret.data.random_states import random_states_kept, seed_all
from lightning_interpret.functional.simulatability import Simulatability, simulatability
from lightning_interpret.modules.from_scratch import small_encoder
from lightning_interpret.modules.text_classifier import TextClassifier
from lightning_interpret.names import check_seed, check_whole
from lightning_interpret.rationales import GeneratedRationale, GeneratedRow
from lightning_interpret.tasks.encode import max_tokens

_TEXTS, _EPOCHS = 24_000, 30  # that a small encoder reads


class Simulator:
    """Foresees predictions from inputs and explanations, and says what explanations are worth (Hase et al., 2020).

    Args:
        classifier: What foresees: trained on pairs of an input and an explanation, either of which may be empty.
    """

    def __init__(self, classifier: TextClassifier) -> None:
        self.classifier = classifier

    @property
    def labels(self) -> list[str]:
        """The labels that are foreseen."""
        return list(self.classifier.labels or [])

    @torch.no_grad()
    def predict(self, texts: Sequence[str], explanations: Sequence[str], batch_size: int = 64) -> Tensor:
        """Return the class that is foreseen for each pair, ``(N,)``; an empty string is a part that is not shown."""
        model, found = self.classifier.eval(), []
        pairs = list(zip(texts, explanations, strict=True))
        for start in range(0, len(pairs), batch_size):
            batch = _encoded(model, pairs[start : start + batch_size])
            found.append(model({name: each.to(model.device) for name, each in batch.items()}).argmax(dim=1).cpu())
        return torch.cat(found) if found else torch.zeros(0, dtype=torch.long)

    def read(self, rows: Sequence[GeneratedRow]) -> GeneratedRationale:
        """Return rows with what is foreseen of them: ``simulated``, ``simulated_without`` and ``leaks``."""
        known = self.labels
        target, full, without, alone = self._read(rows)
        facts = zip(rows, full.tolist(), without.tolist(), (alone == target).tolist(), strict=True)
        return GeneratedRationale(
            tuple(
                replace(row, simulated=known[one], simulated_without=known[other], leaks=leaks)
                for row, one, other, leaks in facts
            )
        )

    def score(self, rows: Sequence[GeneratedRow]) -> Simulatability:
        """Return the leakage-adjusted simulatability of rows that the simulator was not trained on."""
        return simulatability(*self._read(rows))

    def _read(self, rows: Sequence[GeneratedRow]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        texts, explanations, target = _columns(rows, self.labels)
        nothing = [""] * len(texts)
        shown = ((texts, explanations), (texts, nothing), (nothing, explanations))
        full, without, alone = (self.predict(*each) for each in shown)
        return target, full, without, alone


def train_simulator(
    rows: Sequence[GeneratedRow],
    labels: Sequence[str],
    *,
    model: str | None = None,
    drop: float = 0.25,
    epochs: int | None = None,
    batch_size: int = 32,
    learning_rate: float | None = None,
    seed: int = 0,
) -> Simulator:
    """Return a simulator that has learnt what a model predicts, from rows of its training data.

    In training the input is left out of a share of the pairs, the explanation of another, so that one classifier
    answers from both, from the input alone and from the explanation alone. Global random states stay as they are.

    Args:
        rows: What the model says of examples, with ``text``, ``explanation`` and ``prediction``.
        labels: The model's labels.
        model: Name or directory of an encoder to fine-tune; by default a small one from scratch.
        drop: Share of the pairs without the input, and of those without the explanation.
        epochs: By default as many as make 24,000 pairs, 30 at most; 3 with a ``model``.
        batch_size: Pairs in a batch.
        learning_rate: By default 5e-4; 5e-5 with a ``model``.
        seed: Seed of weights, order and what is left out.

    Raises:
        ValueError: If an option makes no sense, there are no rows, or a row has no text, prediction or known label.
    """
    check_whole(batch_size=batch_size, **({} if epochs is None else {"epochs": epochs}))
    check_seed(seed)
    if not 0 < drop < 0.5:
        raise ValueError(f"`drop={drop}` must lie between 0 and 0.5: it is left out of the pairs twice.")
    if not rows:
        raise ValueError("`rows` are empty: there is nothing to learn from.")
    texts, explanations, target = _columns(rows, labels)
    epochs = epochs or (3 if model else min(_EPOCHS, -(-_TEXTS // len(rows))))
    with random_states_kept():
        seed_all(seed)
        if model is None:
            classifier = small_encoder([*texts, *explanations], labels, learning_rate=learning_rate or 5e-4)
        else:
            classifier = TextClassifier(model, labels=list(labels), learning_rate=learning_rate or 5e-5)
        examples: Any = list(zip(texts, explanations, target.tolist(), strict=True))
        generator = torch.Generator().manual_seed(seed)
        collate = _LeavingOut(classifier, drop, generator)
        loader = DataLoader(examples, batch_size, shuffle=True, collate_fn=collate, generator=generator)
        silent: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        silent |= {"enable_model_summary": False}
        Trainer(max_epochs=epochs, accelerator="auto", devices=1, **silent).fit(classifier, loader)
    return Simulator(classifier.eval())


@dataclass(frozen=True)
class _LeavingOut:
    """Pairs to a batch, some of them without their first part or their second."""

    classifier: TextClassifier
    drop: float
    generator: torch.Generator

    def __call__(self, examples: Sequence[tuple[str, str, int]]) -> dict[str, Tensor]:
        drawn = torch.rand(len(examples), generator=self.generator).tolist()
        pairs = [
            ("" if draw < self.drop else text, "" if self.drop <= draw < 2 * self.drop else explanation)
            for draw, (text, explanation, _) in zip(drawn, examples, strict=True)
        ]
        return {**_encoded(self.classifier, pairs), "labels": torch.tensor([label for _, _, label in examples])}


def _encoded(classifier: TextClassifier, pairs: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    texts, explanations = zip(*pairs, strict=True)
    limit = max_tokens(classifier.tokenizer, classifier)
    options = {"padding": True, "truncation": limit is not None, "max_length": limit, "return_tensors": "pt"}
    return dict(classifier.tokenizer(list(texts), list(explanations), **options))


def _columns(rows: Sequence[GeneratedRow], labels: Sequence[str]) -> tuple[list[str], list[str], Tensor]:
    """Return texts, explanations and predicted classes."""
    places = {label: i for i, label in enumerate(labels)}
    for i, row in enumerate(rows):
        if row.text is None or row.prediction not in places:
            raise ValueError(
                f"`rows[{i}]` has text={row.text!r} and prediction={row.prediction!r}, but a simulator needs a text "
                f"and a prediction among {list(labels)}."
            )
    classes = [places[row.prediction] for row in rows if row.prediction is not None]
    return [row.text or "" for row in rows], [row.explanation for row in rows], torch.tensor(classes)
