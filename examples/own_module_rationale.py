"""A module of your own that selects the words it decides by, and predicts from these alone: one mixin in its bases.

python examples/own_module_rationale.py
tensorboard --logdir own_module_rationale
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lightning_interpret import RationaleMixin, RationaleMonitor, SequenceClassification
from lightning_interpret.data import ReviewCorpus
from lightning_interpret.modules.from_scratch import word_piece

LABELS = ["negative", "positive"]
train, val = ReviewCorpus(3000, seed=0), ReviewCorpus(200, seed=1)
tokenizer = word_piece([review.text for review in (train[i] for i in range(len(train)))])


def collate(reviews):
    """Make a batch as you would without us; what really decides each review is there to be compared with."""
    batch = tokenizer([review.words for review in reviews], is_split_into_words=True, padding=True, return_tensors="pt")
    batch["labels"] = torch.tensor([LABELS.index(review.label) for review in reviews])
    gold = [[word in reviews[i].rationale for word in batch.word_ids(i)] for i in range(len(reviews))]
    batch["rationale"] = torch.tensor(gold)
    return batch


class Gru(RationaleMixin, LightningModule):
    """Embedding, GRU, the largest of its states, and a head; it reads a fifth of each review."""

    def __init__(self):
        super().__init__(rationale_target=0.2)
        self.embedding = nn.Embedding(len(tokenizer), 64)
        self.gru, self.head = nn.GRU(64, 64, batch_first=True, bidirectional=True), nn.Linear(128, 2)

    def forward(self, batch):
        states, _ = self.gru(self.embedding(batch["input_ids"]))
        return self.head(states.masked_fill(batch["attention_mask"].unsqueeze(-1) == 0, -1).amax(dim=1))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch), batch["labels"])

    def validation_step(self, batch, batch_idx):
        scores = self(batch)
        self.log("val_loss", F.cross_entropy(scores, batch["labels"]), prog_bar=True, batch_size=len(scores))
        self.log("val_accuracy", (scores.argmax(dim=1) == batch["labels"]).float().mean(), batch_size=len(scores))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3)

    def interpret_task(self):
        return GruTask(tokenizer, labels=LABELS)


class GruTask(SequenceClassification):
    """How it is read."""

    def logits(self, module, batch):
        return module(batch)

    def layer(self, module):
        return "embedding"


if __name__ == "__main__":
    seed_everything(0, verbose=False)
    module = Gru()
    trainer = Trainer(
        max_epochs=6,
        accelerator="cpu",
        logger=TensorBoardLogger("own_module_rationale", name="runs"),
        callbacks=[RationaleMonitor(probes=8)],
    )
    trainer.fit(
        module,
        DataLoader(train, batch_size=32, shuffle=True, collate_fn=collate),
        DataLoader(val, batch_size=32, collate_fn=collate),
    )
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})
    print(module.explain(collate([val[0], val[1]])))
