"""Any encoder of `transformers` in a module of your own, which predicts from the words that it selects.

python examples/own_module_encoder.py                            # a small BERT that begins from nothing
python examples/own_module_encoder.py distilbert-base-uncased    # or a pretrained one
tensorboard --logdir own_module_encoder
"""

import sys

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from torch.nn import Linear
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoTokenizer, BertConfig

from lightning_interpret import PlainTwin, RationaleMixin, RationaleMonitor, SequenceClassification
from lightning_interpret.data import ReviewCorpus
from lightning_interpret.modules.from_scratch import word_piece

LABELS = ["negative", "positive"]


class Classifier(RationaleMixin, LightningModule):
    """The mean of the encoder's last states, and a head; it reads a fifth of each text."""

    def __init__(self, encoder, tokenizer, learning_rate):
        super().__init__(rationale_target=0.2, rationale_words=True)
        self.encoder, self.tokenizer, self.learning_rate = encoder, tokenizer, learning_rate
        self.head = Linear(encoder.config.hidden_size, len(LABELS))

    def forward(self, input_ids, attention_mask):
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        there = attention_mask.unsqueeze(-1)
        return self.head((states * there).sum(dim=1) / there.sum(dim=1))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch["input_ids"], batch["attention_mask"]), batch["labels"])

    def validation_step(self, batch, batch_idx):
        right = self(batch["input_ids"], batch["attention_mask"]).argmax(dim=1) == batch["labels"]
        self.log("val_accuracy", right.float().mean(), batch_size=len(right))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.learning_rate)

    def interpret_task(self):
        return Called(self.tokenizer, labels=LABELS)


class Called(SequenceClassification):
    """How it is called; its word embeddings are found."""

    def logits(self, module, batch):
        return module(batch["input_ids"], batch["attention_mask"])


if __name__ == "__main__":
    seed_everything(0, verbose=False)
    train, val = ReviewCorpus(3000, seed=0), ReviewCorpus(200, seed=1)
    if len(sys.argv) > 1:
        encoder, tokenizer = AutoModel.from_pretrained(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[1])
    else:
        tokenizer = word_piece([train[i].text for i in range(len(train))])
        sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
        encoder = AutoModel.from_config(BertConfig(vocab_size=len(tokenizer), **sizes))

    def collate(reviews):
        """Make a batch as you would without us."""
        batch = tokenizer([review.text for review in reviews], padding=True, return_tensors="pt")
        batch["labels"] = torch.tensor([LABELS.index(review.label) for review in reviews])
        return batch

    module = Classifier(encoder, tokenizer, 5e-5 if len(sys.argv) > 1 else 1e-3)
    trainer = Trainer(
        max_epochs=6,
        accelerator="cpu",
        logger=TensorBoardLogger("own_module_encoder", name="runs"),
        callbacks=[RationaleMonitor(probes=8), PlainTwin()],
    )
    trainer.fit(
        module,
        DataLoader(train, batch_size=32, shuffle=True, collate_fn=collate),
        DataLoader(val, batch_size=32, collate_fn=collate),
    )
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})
    print(module.explain(collate([val[0], val[1]])))
