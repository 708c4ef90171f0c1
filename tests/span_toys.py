"""Modules whose head reads spans, of every kind of model, and their batches."""

import torch
from lightning.pytorch import LightningModule
from tiny import VOCABULARY, batch_of, classifier, lively, tokenizer_for, wordpiece
from torch import nn
from torch.nn import functional as F

from lightning_interpret import SequenceClassification, SpanExplanationMixin

LABELS = ["bad", "dull", "good"]


class Model(LightningModule):
    """A `transformers` classifier of the user's."""

    def __init__(self, name, dtype=torch.float32, **options):
        super().__init__(**options)
        self.name, self.model = name, classifier(name, dtype=dtype)

    def interpret_task(self):
        return SequenceClassification(tokenizer_for(self.name), LABELS)

    def forward(self, batch):
        return self.interpret_task().logits(self, batch)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch).float(), batch["labels"])


class GruTask(SequenceClassification):
    """Reads a :class:`Gru`."""

    def logits(self, module, batch):
        return module(batch["input_ids"])

    def layer(self, module):
        return "embedding"


class Gru(LightningModule):
    """Embedding, a GRU both ways, and a head on its last states."""

    def __init__(self, **options):
        super().__init__(**options)
        self.embedding, self.gru = nn.Embedding(VOCABULARY, 8), nn.GRU(8, 5, bidirectional=True, batch_first=True)
        self.head = nn.Linear(10, 3)
        lively(self)

    def interpret_task(self):
        return GruTask(wordpiece(), LABELS)

    def forward(self, ids):
        _, last = self.gru(self.embedding(ids))
        return self.head(last.transpose(0, 1).flatten(1))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch["input_ids"]), batch["labels"])


class Spans(SpanExplanationMixin, Model):
    """A classifier of `transformers` with a span layer."""


class GruSpans(SpanExplanationMixin, Gru):
    """The GRU with a span layer."""


def made(kind, *args, seed=0, **options):
    """Return a module with its layer in place; the global random state stays."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = kind(*args, **options)
        module.configure_model()
    return module


def batch_for(name="bert", **options):
    """Return a batch of texts with labels."""
    return batch_of(tokenizer_for(name, **options), labels=[0, 2])
