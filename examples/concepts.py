"""Which concepts a classifier of reviews goes by: good food, bad service, what is spoken of, the day of the week.

That the food was good, or the service bad, decides the label. What is spoken of, in good and bad reviews alike, does
not, nor does the day of the week. Vectors of all of them are found in the layer; the tests beside random concepts say
of which the scores hear, at each validation.

python examples/concepts.py
tensorboard --logdir concepts
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lightning_interpret import ConceptActivationVectors, ConceptMonitor, SequenceClassification
from lightning_interpret.data import ReviewCorpus
from lightning_interpret.modules.from_scratch import word_piece

LABELS = ["negative", "positive"]
CONCEPTS = {
    "good food": {"column": "good_food"},
    "bad service": {"column": "bad_service"},
    "food": {"words": ["steak", "fish", "chicken", "lamb", "pork", "duck"]},
    "service": {"words": ["waiter", "waitress", "staff", "host", "bartender"]},
    "weekday": {"words": ["monday", "wednesday", "thursday", "friday", "saturday", "sunday"]},
}


def rows(size, seed):
    """Return reviews as a table of yours might have them, with a column of each of two concepts."""
    return [
        {
            "text": review.text,
            "label": LABELS.index(review.label),
            "good_food": review.aspects.get("food") == 1,
            "bad_service": review.aspects.get("service") == -1,
        }
        for review in map(ReviewCorpus(size, seed=seed).__getitem__, range(size))
    ]


train, val = rows(3000, seed=0), rows(300, seed=1)
tokenizer = word_piece([row["text"] for row in train])


def collate(reviews):
    """Make a batch as you would without us."""
    batch = tokenizer([row["text"] for row in reviews], padding=True, return_tensors="pt")
    batch["labels"] = torch.tensor([row["label"] for row in reviews])
    return batch


class Gru(LightningModule):
    """Embedding, GRU, the mean of its states, and a head with a hidden layer."""

    def __init__(self):
        super().__init__()
        self.embedding, self.gru = (
            nn.Embedding(len(tokenizer), 48),
            nn.GRU(48, 48, batch_first=True, bidirectional=True),
        )
        self.head = nn.Sequential(nn.Linear(96, 48), nn.ReLU(), nn.Linear(48, 2))

    def forward(self, batch):
        states, _ = self.gru(self.embedding(batch["input_ids"]))
        there = batch["attention_mask"].unsqueeze(-1)
        return self.head((states * there).sum(dim=1) / there.sum(dim=1))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch), batch["labels"])

    def validation_step(self, batch, batch_idx):
        scores = self(batch)
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
    method = ConceptActivationVectors("gru", examples=100, vectors=5)
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=TensorBoardLogger("concepts", name="runs"),
        callbacks=[ConceptMonitor(CONCEPTS, method, save_jsonl=True)],
    )
    trainer.fit(
        Gru(),
        DataLoader(train, batch_size=32, shuffle=True, collate_fn=collate),
        DataLoader(val, batch_size=32, collate_fn=collate),
    )
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})
