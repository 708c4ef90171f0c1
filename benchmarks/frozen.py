"""Classifiers that are cheap to train: a small head over a frozen encoder, or a small encoder from scratch.

What a benchmark that trains many times can afford on a laptop's processor. Features of whole texts are kept by their
token ids and looked up; what is changed (words left out, a layer of the encoder that something hooks) goes through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from lightning_interpret.modules import TextClassifier
from lightning_interpret.modules.from_scratch import small_encoder
from lightning_interpret.tasks import SequenceClassification
from lightning_interpret.tasks.encode import encode

HIDDEN, EPOCHS, BATCH, WEIGHT_DECAY = 64, 20, 64, 1e-3


class FrozenClassifier(nn.Module):
    """Mean-pooled features of an encoder and a head of two layers.

    Args:
        encoder: A pretrained encoder as a `transformers` directory.
        labels: Names of the classes.
        max_length: Tokens that are read of a text.
    """

    def __init__(self, encoder: str, labels: Sequence[str], max_length: int) -> None:
        super().__init__()
        self.tokenizer = AutoTokenizer.from_pretrained(encoder)
        self.encoder = AutoModel.from_pretrained(encoder).eval().requires_grad_(False)
        self.labels, self.max_length = list(labels), max_length
        self.head = new_head(self.encoder.config.hidden_size, len(labels), seed=0)
        self._kept: dict[bytes, Tensor] = {}

    def forward(self, batch: Any) -> Tensor:
        """Return the scores of the classes ``(B, C)``."""
        return self.head(self.features(batch))

    def features(self, batch: Any) -> Tensor:
        """Return the features of each text ``(B, d)``."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        if not any(part._forward_hooks or part._forward_pre_hooks for part in self.encoder.modules()):
            keys = [row[there != 0].numpy().tobytes() for row, there in zip(ids, mask, strict=True)]
            known = [self._kept.get(key) for key in keys]
            if all(each is not None for each in known):
                return torch.stack([each for each in known if each is not None])
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        there = mask[:, :, None]
        return (hidden * there).sum(dim=1) / there.sum(dim=1)

    @torch.no_grad()
    def keep(self, texts: Sequence[str], file: Path | None = None) -> Tensor:
        """Return the features of some texts ``(n, d)``, read from the file if it is there, and look them up."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found = torch.load(file) if file is not None and file.exists() else None
        computed = torch.empty(len(texts), self.encoder.config.hidden_size) if found is None else found
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            batch = encode(self.tokenizer, [texts[i] for i in rows], max_length=self.max_length)
            if found is None:
                computed[rows] = self.features(batch)
            pairs = zip(rows, batch["input_ids"], batch["attention_mask"], strict=True)
            self._kept |= {ids[there != 0].numpy().tobytes(): computed[i] for i, ids, there in pairs}
        if file is not None and found is None:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.save(computed, file)
        return computed


class FrozenTask(SequenceClassification):
    """How a :class:`FrozenClassifier` is read."""

    def __init__(self, module: FrozenClassifier) -> None:
        super().__init__(module.tokenizer, module.labels)

    def logits(self, module: nn.Module, batch: Any) -> Tensor:
        """Return the scores of the classes ``(B, C)``."""
        return module(batch)

    def layer(self, module: nn.Module) -> str:
        """Return the name of the word embeddings."""
        return "encoder.embeddings.word_embeddings"


def new_head(width: int, classes: int, seed: int) -> nn.Sequential:
    """Return an untrained head."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(width, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, classes))


def fit_head(features: Tensor, labels: Tensor, classes: int, seed: int, epochs: int = EPOCHS) -> nn.Sequential:
    """Return a head trained on features with the labels that are given."""
    head, generator = new_head(features.shape[1], classes, seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=epochs * -(-len(labels) // BATCH))
    for _ in range(epochs):
        for rows in torch.randperm(len(labels), generator=generator).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(features[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    return head.eval()


def fit_small(
    texts: Sequence[str], labels: Sequence[int], names: Sequence[str], *, max_length: int, epochs: int, seed: int
) -> TextClassifier:
    """Return a small encoder trained on some texts from scratch, for where they are too long for a large one."""
    torch.manual_seed(seed)
    module = small_encoder(texts, names, learning_rate=1e-3, max_length=max_length)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=0.01)
    steps = epochs * -(-len(texts) // 16)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    module.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(texts)).split(16):
            chosen = rows.tolist()
            batch = encode(module.tokenizer, [texts[i] for i in chosen], max_length=max_length)
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(batch), torch.tensor([labels[i] for i in chosen])).backward()
            optimizer.step()
            schedule.step()
    return module.eval()
