"""What a negation does to a phrase: trees of spans of a small GRU that was trained on reviews, while it trains.

python examples/hierarchy.py
tensorboard --logdir hierarchy
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader

from lightning_interpret import AgglomerativeContextualDecomposition, Hedge, HierarchyMonitor, SequenceClassification
from lightning_interpret.data import ReviewCorpus
from lightning_interpret.modules.from_scratch import word_piece

LABELS = ["negative", "positive"]
train, val = ReviewCorpus(2000, seed=0), ReviewCorpus(200, seed=1)
tokenizer = word_piece([review.text for review in (train[i] for i in range(len(train)))])


def batch_of(texts):
    """Make a batch of texts."""
    return dict(tokenizer(list(texts), padding=True, return_tensors="pt"))


def collate(reviews):
    """Make a batch of reviews."""
    labels = torch.tensor([LABELS.index(review.label) for review in reviews])
    return batch_of(review.text for review in reviews) | {"labels": labels}


class Gru(LightningModule):
    """Embedding, GRU, mean over the tokens, head."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(len(tokenizer), 32)
        self.gru = nn.GRU(32, 32, batch_first=True)
        self.head = nn.Linear(32, 2)

    def forward(self, ids, mask):
        hidden, _ = self.gru(self.embedding(ids))
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return self.head((hidden * weights).sum(dim=1) / weights.sum(dim=1))

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch["input_ids"], batch["attention_mask"]), batch["labels"])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx), prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=5e-3)


class GruTask(SequenceClassification):
    """How Monitors and methods read it."""

    def logits(self, module, batch):
        return module(batch["input_ids"], batch["attention_mask"])

    def layer(self, module):
        return "embedding"


if __name__ == "__main__":
    seed_everything(0)
    module, task = Gru(), GruTask(tokenizer, labels=LABELS)
    hedge = Hedge(baseline="delete")  # words that are absent are taken out: the model has seen short texts, but no gaps
    negated = sorted((i for i in range(len(val)) if "not" in val[i].words), key=lambda i: len(val[i].words))
    trainer = Trainer(
        max_epochs=6,
        check_val_every_n_epoch=2,
        accelerator="cpu",
        logger=TensorBoardLogger("hierarchy", name="runs"),
        callbacks=[HierarchyMonitor(hedge, task=task, probes=negated[:3])],
    )
    trainer.fit(
        module,
        DataLoader(train, batch_size=32, shuffle=True, collate_fn=collate),
        DataLoader(val, batch_size=32, collate_fn=collate),
    )
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})

    review = "the food was not very good but the staff was friendly ."
    for method in (hedge, AgglomerativeContextualDecomposition()):
        print(f"\n{method(module, batch_of([review]), task)[0]}")

    # the same phrase with a negation before it: what its words say alone, and what the span says
    texts = ["the food was good", "the food was not good"]
    spans = [[(3, 4)], [(3, 4), (4, 5), (3, 5)]]
    (good,), (no, word, turned) = AgglomerativeContextualDecomposition().score_spans(
        module, batch_of(texts), task, spans, which="positive", output="logit"
    )
    print(f"\n'good' {good:+.2f}; of 'not good': 'not' {no:+.2f}, 'good' {word:+.2f}, together {turned:+.2f}")
