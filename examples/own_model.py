"""A model of your own, no `transformers` in it: a GRU, and the Task of a few lines that says how to read it.

python examples/own_model.py
tensorboard --logdir own_model
"""

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader

from lightning_interpret import SaliencyMonitor, SequenceClassification
from lightning_interpret.data import ReviewCorpus
from lightning_interpret.modules.from_scratch import word_piece

LABELS = ["negative", "positive"]
train, val = ReviewCorpus(2000, seed=0), ReviewCorpus(200, seed=1)
tokenizer = word_piece([review.text for review in (train[i] for i in range(len(train)))])


def collate(reviews):
    """Make a batch: a tuple of ids, mask and labels."""
    encoded = tokenizer([review.text for review in reviews], padding=True, return_tensors="pt")
    labels = torch.tensor([LABELS.index(review.label) for review in reviews])
    return encoded["input_ids"], encoded["attention_mask"], labels


class Gru(LightningModule):
    """Embedding, GRU, mean over the tokens, head."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(len(tokenizer), 64)
        self.gru = nn.GRU(64, 64, batch_first=True, bidirectional=True)
        self.head = nn.Linear(128, 2)

    def forward(self, ids, mask):
        hidden, _ = self.gru(self.embedding(ids))
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return self.head((hidden * weights).sum(dim=1) / weights.sum(dim=1))

    def training_step(self, batch, batch_idx):
        ids, mask, labels = batch
        return nn.functional.cross_entropy(self(ids, mask), labels)

    def validation_step(self, batch, batch_idx):
        ids, mask, labels = batch
        self.log("val_loss", nn.functional.cross_entropy(self(ids, mask), labels), prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


class GruTask(SequenceClassification):
    """How Monitors read it."""

    def logits(self, module, batch):
        return module(batch[0], batch[1])

    def layer(self, module):
        return "embedding"


if __name__ == "__main__":
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=TensorBoardLogger("own_model", name="runs"),
        callbacks=[SaliencyMonitor(task=GruTask(tokenizer, labels=LABELS))],
    )
    trainer.fit(
        Gru(),
        DataLoader(train, batch_size=32, shuffle=True, collate_fn=collate),
        DataLoader(val, batch_size=32, collate_fn=collate),
    )
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})
