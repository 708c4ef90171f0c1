"""Modules with a gate, small enough to train in a test: on the planted corpus, and around tiny models."""

import torch
from lightning.pytorch import LightningModule
from planted import VOCABULARY, planted
from tiny import classifier, quiet_trainer, tokenizer_for
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification

from lightning_interpret import RationaleMixin, SequenceClassification
from lightning_interpret.tasks.transformer import call


class Reader(LightningModule):
    """A convolution over embeddings, summed: it reads what is not zero."""

    def __init__(self, width=64, rate=2e-3, **options):
        super().__init__(**options)
        self.rate = rate
        self.embedding = nn.Embedding(VOCABULARY, width, padding_idx=0)
        self.convolution, self.head = nn.Conv1d(width, width, 3, padding=1), nn.Linear(width, 2)

    def forward(self, ids):
        return self.head(self.states(self.embedding(ids), ids).sum(dim=1))

    def states(self, embedded, ids):
        return self.convolution(embedded.transpose(1, 2)).relu().transpose(1, 2) * (ids != 0)[..., None]

    def interpret_task(self):
        return ReaderTask(None, ["bad", "good"])

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch["input_ids"]), batch["labels"])

    def validation_step(self, batch, batch_idx):
        logits = self(batch["input_ids"])
        self.log("val_accuracy", (logits.argmax(dim=1) == batch["labels"]).float().mean(), batch_size=len(logits))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), self.rate)


class Attentive(Reader):
    """A BERT of one layer with random weights."""

    def __init__(self, rate=1e-3, **options):
        super().__init__(width=2, rate=rate, **options)
        del self.embedding, self.convolution, self.head
        sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
        still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        config = BertConfig(vocab_size=VOCABULARY, **sizes, **still, max_position_embeddings=64)
        self.model = BertForSequenceClassification(config)

    def forward(self, ids):
        return self.model(input_ids=ids, attention_mask=(ids != 0).long()).logits

    def interpret_task(self):
        return AttentiveTask(None, ["bad", "good"])


class ReaderTask(SequenceClassification):
    def logits(self, module, batch):
        return module(batch["input_ids"])

    def layer(self, module):
        return "embedding"


class AttentiveTask(ReaderTask):
    layer = SequenceClassification.layer


class GatedReader(RationaleMixin, Reader):
    pass


class GatedAttentive(RationaleMixin, Attentive):
    pass


class Wrapped(LightningModule):
    """A tiny `transformers` classifier."""

    def __init__(self, name, rate=1e-3, **options):
        super().__init__(**options)
        self.rate, self.model, self.tokenizer = rate, classifier(name), tokenizer_for(name)

    def forward(self, batch):
        return call(self.model, batch).logits

    def interpret_task(self):
        return SequenceClassification(self.tokenizer, ["bad", "dull", "good"])

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch), batch["labels"])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self(batch), batch["labels"]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), self.rate)


class Gated(RationaleMixin, Wrapped):
    pass


def gated(name, **options):
    """A tiny classifier with a gate, in evaluation mode."""
    torch.manual_seed(0)
    module = Gated(name, **{"rationale_target": 0.3} | options)
    module.configure_model()
    return module.eval()


def planted_loader(count, seed=0, batch_size=64, *, gold=False):
    """Batches of the planted corpus."""
    corpus = planted(count, seed)
    rows = [
        {"input_ids": corpus.ids[i], "labels": corpus.labels[i], **({"rationale": corpus.rationale[i]} if gold else {})}
        for i in range(count)
    ]
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(rows, batch_size=batch_size, shuffle=True, generator=generator)


def trained(folder, module, loader, validation=None, **options):
    """Train a module and return it with its trainer."""
    trainer = quiet_trainer(folder, **options)
    trainer.fit(module, loader, validation)
    return module, trainer


@torch.no_grad()
def scores(module, corpus):
    """Return what a trained module is worth by its own evaluation."""
    module.eval()

    def accuracy():
        return float((module(corpus.ids).argmax(dim=1) == corpus.labels).float().mean())

    with module.rationale.hearing() as heard:
        right = accuracy()
    chosen = heard[0].selected
    with module.rationale.complement():
        rest = accuracy()
    hits = (chosen & corpus.rationale).sum()
    return {
        "f1": float(2 * hits / (chosen.sum() + corpus.rationale.sum())),
        "rate": float(chosen.sum() / (corpus.ids != 0).sum()),
        "accuracy": right,
        "complement": rest,
    }
