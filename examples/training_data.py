"""Which training rows made it say this: influence and neighbours of the worst cases, and suspected label errors.

python examples/training_data.py
tensorboard --logdir training_data

The data set gives tuples and knows nothing of us; `WithIds` gives its rows ids, so that what is found can be mended.
"""

import csv
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification

from lightning_interpret import InfluenceMonitor, NeighborMonitor
from lightning_interpret.data import ReviewCorpus, WithIds
from lightning_interpret.modules.from_scratch import word_piece

LABELS = ["negative", "positive"]
corpus = ReviewCorpus(3000, seed=0, flipped=0.05)  # one label in twenty is wrong
rows = [(corpus[i].text, LABELS.index(corpus[i].label)) for i in range(len(corpus))]
unseen = ReviewCorpus(300, seed=1)
val_rows = [(unseen[i].text, LABELS.index(unseen[i].label)) for i in range(len(unseen))]
tokenizer = word_piece([text for text, _ in rows])


def collate(examples):
    """Make a batch as you would without us."""
    texts, labels = zip(*examples, strict=True)
    return tokenizer(list(texts), padding=True, return_tensors="pt"), torch.tensor(labels)


class Classifier(LightningModule):
    """Nothing of ours in it."""

    def __init__(self):
        super().__init__()
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=128,
            id2label=dict(enumerate(LABELS)),
        )
        self.bert = BertForSequenceClassification(config)

    def step(self, batch):
        inputs, labels = batch
        return F.cross_entropy(self.bert(**inputs).logits, labels)

    def training_step(self, batch, batch_idx):
        return self.step(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.step(batch), prog_bar=True, batch_size=len(batch[1]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


if __name__ == "__main__":
    seed_everything(0, verbose=False)
    data = WithIds(rows, collate)
    trainer = Trainer(
        max_epochs=6,
        accelerator="cpu",
        logger=TensorBoardLogger("training_data", name="runs"),
        callbacks=[
            InfluenceMonitor(tokenizer=tokenizer, suspects=50, every_n_validations=5, save_jsonl=True),
            NeighborMonitor(tokenizer=tokenizer, every_n_validations=5),
        ],
    )
    trainer.fit(
        Classifier(),
        DataLoader(data, batch_size=32, shuffle=True, collate_fn=data.collate),
        DataLoader(val_rows, batch_size=32, collate_fn=collate),
    )
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})
    with Path(trainer.log_dir, "interpret", "influence_suspects.tsv").open(encoding="utf8") as file:
        suspects = [int(row["id"]) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    wrong = sum(corpus[i].flipped for i in suspects)
    print(f"Of {len(suspects)} rows that influence themselves most, {wrong} have a wrong label; by chance 5 %.")
