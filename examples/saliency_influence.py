"""Which training reviews made a word matter: a planted shortcut, found from the word that a prediction leans on.

python examples/saliency_influence.py
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader

from lightning_interpret import SaliencyInfluence, SequenceClassification
from lightning_interpret.data import ReviewCorpus
from lightning_interpret.modules.from_scratch import word_piece

LABELS, SHORTCUT, K, DECAY = ["negative", "positive"], "tuesday", 10, 1e-3
corpus = ReviewCorpus(600, seed=0, shortcut=0.15, shortcut_word=SHORTCUT)  # planted in 15 % of the positive reviews
train, unseen = list(map(corpus.__getitem__, range(600))), ReviewCorpus(200, seed=1)
tokenizer = word_piece([review.text for review in train])


def collate(reviews):
    """Make a batch that carries the reviews' ids."""
    batch = tokenizer([review.text for review in reviews], padding=True, return_tensors="pt")
    batch["labels"] = torch.tensor([LABELS.index(review.label) for review in reviews])
    batch["example_id"] = torch.tensor([review.example_id for review in reviews])
    return batch


class Bag(LightningModule):
    """The mean of word embeddings, a hidden layer and a head."""

    def __init__(self):
        super().__init__()
        self.embedding, self.hidden, self.head = nn.Embedding(len(tokenizer), 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, ids, mask):
        weights = mask.unsqueeze(-1).to(self.head.weight.dtype)
        return self.head(torch.tanh(self.hidden((self.embedding(ids) * weights).sum(dim=1) / weights.sum(dim=1))))

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch["input_ids"], batch["attention_mask"]), batch["labels"])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3, weight_decay=DECAY)


class BagTask(SequenceClassification):
    """How it is read."""

    def logits(self, module, batch):
        return module(batch["input_ids"], batch["attention_mask"])

    def layer(self, module):
        return "embedding"


def misled():
    """Return an unseen negative review with the shortcut word put in front of it."""
    review = next(row for row in map(unseen.__getitem__, range(len(unseen))) if row.label == "negative")
    batch = collate([review])
    text = tokenizer([f"{SHORTCUT} {review.text}"], return_tensors="pt")
    return text | {name: batch[name] for name in ("labels", "example_id")}


if __name__ == "__main__":
    seed_everything(0, verbose=False)
    model, loader = Bag(), DataLoader(train, batch_size=32, shuffle=True, collate_fn=collate)
    options = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    Trainer(max_epochs=15, accelerator="cpu", enable_progress_bar=False, **options).fit(model, loader)

    method = SaliencyInfluence(influence="exact", layers="all")
    examples = DataLoader(train, batch_size=64, collate_fn=collate)
    fitted = method.fit(model, examples, BagTask(tokenizer, LABELS), weight_decay=DECAY)
    (row,) = fitted.scores(misled(), k=K)
    print(row)

    # without these the word would speak less for "positive": they made it speak for it
    found = [SHORTCUT in train[each.example_id].words for each in row.harmful]
    chance = sum(SHORTCUT in review.words for review in train) / len(train)
    print(f"\n{sum(found)} of the {len(found)} reviews that made the word matter contain {SHORTCUT!r}", end="; ")
    print(f"by chance {chance:.0%}")
