"""A module of your own, trained so that it can say where its predictions come from: two joint methods in its bases.

python examples/own_module_joint.py
tensorboard --logdir own_module_joint
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lightning_interpret import (
    InfluenceMonitor,
    KernelMixin,
    LandmarkMonitor,
    SaliencyMonitor,
    SequenceClassification,
    TurnOverDropoutMixin,
)
from lightning_interpret.data import ReviewCorpus
from lightning_interpret.modules.from_scratch import word_piece

LABELS = ["negative", "positive"]
train, val = ReviewCorpus(2000, seed=0), ReviewCorpus(200, seed=1)
tokenizer = word_piece([review.text for review in (train[i] for i in range(len(train)))])


def collate(reviews):
    """Make a batch as you would without us, and keep the id of each example."""
    batch = tokenizer([review.text for review in reviews], padding=True, return_tensors="pt")
    batch["labels"] = torch.tensor([LABELS.index(review.label) for review in reviews])
    batch["example_id"] = torch.tensor([review.example_id for review in reviews])
    return batch


class Gru(TurnOverDropoutMixin, KernelMixin, LightningModule):
    """Embedding, GRU, mean over the tokens, a hidden layer, and a head that reads similarities to 64 reviews."""

    def __init__(self):
        super().__init__(kernel="cosine", kernel_landmarks=64)
        self.embedding = nn.Embedding(len(tokenizer), 64)
        self.gru = nn.GRU(64, 64, batch_first=True, bidirectional=True)
        self.hidden, self.head = nn.Linear(128, 64), nn.Linear(64, 2)

    def forward(self, batch):
        states, _ = self.gru(self.embedding(batch["input_ids"]))
        weights = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
        return self.head(torch.tanh(self.hidden((states * weights).sum(dim=1) / weights.sum(dim=1))))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch), batch["labels"])

    def validation_step(self, batch, batch_idx):
        scores = self(batch)
        self.log("val_loss", F.cross_entropy(scores, batch["labels"]), prog_bar=True, batch_size=len(scores))
        self.log("val_accuracy", (scores.argmax(dim=1) == batch["labels"]).float().mean(), batch_size=len(scores))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)

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
        max_epochs=4,
        accelerator="cpu",
        logger=TensorBoardLogger("own_module_joint", name="runs"),
        callbacks=[
            InfluenceMonitor(method="turn_over_dropout"),
            LandmarkMonitor(),
            SaliencyMonitor(),
        ],
    )
    trainer.fit(
        module,
        DataLoader(train, batch_size=32, shuffle=True, collate_fn=collate),
        DataLoader(val, batch_size=32, collate_fn=collate),
    )
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})
    print(module.explain(collate([val[0], val[1]])))
