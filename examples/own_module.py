"""The three lines: a LightningModule of yours around a `transformers` classifier, and a SaliencyMonitor.

python examples/own_module.py
tensorboard --logdir own_module
"""

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification

from lightning_interpret import SaliencyMonitor
from lightning_interpret.data import ReviewCorpus
from lightning_interpret.modules.from_scratch import word_piece

LABELS = ["negative", "positive"]
train, val = ReviewCorpus(2000, seed=0), ReviewCorpus(200, seed=1)
# yours: AutoTokenizer.from_pretrained("distilbert-base-uncased")
tokenizer = word_piece([review.text for review in (train[i] for i in range(len(train)))])


def collate(reviews):
    """Make a batch as you would without us."""
    batch = tokenizer([review.text for review in reviews], padding=True, return_tensors="pt")
    batch["labels"] = torch.tensor([LABELS.index(review.label) for review in reviews])
    return batch


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

    def training_step(self, batch, batch_idx):
        return self.bert(**batch).loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.bert(**batch).loss, prog_bar=True, batch_size=len(batch["labels"]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


if __name__ == "__main__":
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=TensorBoardLogger("own_module", name="runs"),
        callbacks=[SaliencyMonitor(tokenizer=tokenizer)],
    )
    trainer.fit(
        Classifier(),
        DataLoader(train, batch_size=32, shuffle=True, collate_fn=collate),
        DataLoader(val, batch_size=32, collate_fn=collate),
    )
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})
