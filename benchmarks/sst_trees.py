"""SST's parse trees, in which people rated every phrase (Socher et al., 2013), and small models of their words."""

from __future__ import annotations

import gzip
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from lightning_interpret import SequenceClassification

SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
LONGEST = 60  # words


@dataclass(frozen=True)
class Parsed:
    """A sentence with its phrases.

    Attributes:
        words: Its words.
        phrases: ``(start, end)`` of each phrase, words and the sentence itself among them.
        ratings: What people said of each, from −2 (very negative) to 2.
    """

    words: tuple[str, ...]
    phrases: tuple[tuple[int, int], ...]
    ratings: tuple[int, ...]


def parse(line: str) -> Parsed:
    """Return the sentence of one tree, such as ``(3 (2 It) (4 (2 's) (4 good)))``; words in lower case."""
    words: list[str] = []
    phrases: list[tuple[int, int]] = []
    ratings: list[int] = []
    waiting: list[tuple[int, int]] = []
    for piece in line.strip().split(" "):
        if piece.startswith("("):
            waiting.append((len(words), int(piece[1:]) - 2))
            continue
        word = piece.rstrip(")")
        words.append("_".join(word.lower().split()) or "_")
        for _ in range(len(piece) - len(word)):
            start, rating = waiting.pop()
            phrases.append((start, len(words)))
            ratings.append(rating)
    return Parsed(tuple(words), tuple(phrases), tuple(ratings))


def read(folder: Path, split: str) -> list[Parsed]:
    """Return the sentences of ``train``, ``dev`` or ``test``."""
    path = folder / "sst_trees" / (f"{split}.txt.gz" if split == "train" else f"{split}.txt")
    with gzip.open(path, "rt", encoding="utf8") if path.suffix == ".gz" else path.open(encoding="utf8") as file:
        return [parse(line) for line in file if line.strip()]


def rated(sentences: Sequence[Parsed]) -> list[tuple[str, int]]:
    """Return every different phrase that is not neutral, with its class: 0 negative, 1 positive."""
    found = {
        " ".join(each.words[start:end]): int(rating > 0)
        for each in sentences
        for (start, end), rating in zip(each.phrases, each.ratings, strict=True)
        if rating
    }
    return list(found.items())


def words_tokenizer(texts: Sequence[str], fewest: int = 2) -> Any:
    """Return a tokenizer in which each word between blanks is a token; rare ones are unknown."""
    counts = Counter(word for text in texts for word in text.split())
    kept = [*SPECIAL.values(), *sorted(word for word, count in counts.items() if count >= fewest)]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(kept)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, **SPECIAL)


class BiLstm(nn.Module):
    """Embeddings, an LSTM in both directions, the mean over the words, a linear head of two classes."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=0)
        self.dropout = nn.Dropout(0.3)
        self.lstm = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, 2)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the scores of the classes."""
        hidden, _ = self.lstm(self.dropout(self.embedding(ids)))
        weights = mask.unsqueeze(-1).to(hidden)
        return self.head(self.dropout((hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)))


class Words(nn.Module):
    """A bag of words: each has a weight, and they are summed."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.weights = nn.Embedding(vocabulary, 1, padding_idx=0)
        nn.init.zeros_(self.weights.weight)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the scores of the classes, that of the first 0."""
        score = (self.weights(ids).squeeze(-1) * mask).sum(dim=1) + self.bias
        return torch.stack([torch.zeros_like(score), score], dim=1)


class ReadWords(SequenceClassification):
    """How a :class:`BiLstm` is read."""

    def logits(self, module: nn.Module, batch: Any) -> Tensor:
        """Return the scores of the classes."""
        return module(batch["input_ids"], batch["attention_mask"])

    def layer(self, module: nn.Module) -> str:
        """Return the name of the embeddings."""
        return "embedding"


def batches(rows: Sequence[tuple[str, int]], tokenizer: Any, size: int, seed: int) -> Iterator[tuple[Any, Tensor]]:
    """Yield shuffled batches, of texts that are about as long."""
    rng = random.Random(seed)
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i][0].split()), rng.random()))
    parts = [order[i : i + size] for i in range(0, len(order), size)]
    rng.shuffle(parts)
    for part in parts:
        texts = [" ".join(rows[i][0].split()[:LONGEST]) for i in part]
        yield tokenizer(texts, padding=True, return_tensors="pt"), torch.tensor([rows[i][1] for i in part])


def train(
    module: nn.Module, rows: Sequence[tuple[str, int]], tokenizer: Any, *, epochs: int, rate: float, decay: float = 0.0
) -> None:
    """Fit a classifier, and leave it in evaluation mode."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=decay)
    module.train()
    for epoch in range(epochs):
        for batch, labels in batches(rows, tokenizer, 64, epoch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(batch["input_ids"], batch["attention_mask"]), labels).backward()
            optimizer.step()
    module.eval()


def accuracy(module: nn.Module, rows: Sequence[tuple[str, int]], tokenizer: Any) -> float:
    """Return the share of texts whose class is found."""
    with torch.no_grad():
        right = [
            (module(batch["input_ids"], batch["attention_mask"]).argmax(dim=1) == labels).float()
            for batch, labels in batches(rows, tokenizer, 256, 0)
        ]
    return float(torch.cat(right).mean())


def masked_model(vocabulary: int, width: int) -> BertForMaskedLM:
    """Return a small masked language model, untrained."""
    sizes = {"hidden_size": width, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 2 * width}
    return BertForMaskedLM(
        BertConfig(vocab_size=vocabulary, max_position_embeddings=LONGEST + 2, pad_token_id=0, **sizes)
    )


def train_masked(model: BertForMaskedLM, texts: Sequence[str], tokenizer: Any, *, epochs: int) -> None:
    """Fit a masked language model to some texts, one word in five hidden, and leave it in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    for epoch in range(epochs):
        for batch, _ in batches([(text, 0) for text in texts], tokenizer, 64, epoch):
            ids, mask = batch["input_ids"], batch["attention_mask"]
            hidden = (torch.rand(ids.shape, generator=generator) < 0.2) & (mask == 1)
            labels = ids.masked_fill(~hidden, -100)
            optimizer.zero_grad()
            given = ids.masked_fill(hidden, tokenizer.mask_token_id)
            if bool(hidden.any()):
                model(input_ids=given, attention_mask=mask, labels=labels).loss.backward()
                optimizer.step()
    model.eval()
