"""Texts whose concepts are known, relevant for the label or not, and a small module with a concept bottleneck."""

import torch
from lightning.pytorch import LightningModule
from tiny import quiet_trainer
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, default_collate

from lightning_interpret import ConceptBottleneckMixin
from lightning_interpret.tasks.classification import Classification

NAMES = ("food", "service", "price", "room", "music")
CUES, NOISE = 6, 40  # words that say a concept is there, as many that say it is not; words that say nothing
MARKS = len(NAMES) * 2 * CUES + NOISE  # the first of the words that tell the label of irrelevant concepts
VOCABULARY = MARKS + 2 * CUES


class ConceptTexts(Dataset):
    """Ids ``(T,)``, ``concepts`` (0 or 1), ``labels`` and ``example_id``.

    Args:
        size: How many texts.
        seed: Seed.
        relevant: Whether the label is what most concepts say; else words of its own tell it.
        known: Share of the concept labels that are there; the others are NaN.
        length: Words of a text.
    """

    def __init__(self, size=200, *, seed=0, relevant=True, known=1.0, length=16):
        generator = torch.Generator().manual_seed(seed)
        count = len(NAMES)
        self.concepts = torch.randint(2, (size, count), generator=generator).float()
        words = 2 * CUES * torch.arange(count) + CUES * self.concepts.long()
        cues = words + torch.randint(CUES, (size, count), generator=generator)
        self.labels = (self.concepts.sum(dim=1) > count / 2).long()
        noise = count * 2 * CUES + torch.randint(NOISE, (size, length - count), generator=generator)
        if not relevant:
            self.labels = torch.randint(2, (size,), generator=generator)
            marks = torch.randint(CUES, (size, 3), generator=generator)
            noise[:, :3] = MARKS + CUES * self.labels[:, None] + marks
        order = torch.rand(size, length, generator=generator).argsort(dim=1)
        self.ids = torch.cat([cues, noise], dim=1).gather(1, order)
        missing = torch.rand(size, count, generator=generator) >= known
        self.given = self.concepts.masked_fill(missing, torch.nan)

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        row = {"input_ids": self.ids[i], "concepts": self.given[i], "labels": self.labels[i]}
        return row | {"example_id": torch.tensor(i)}


class BatchTask(Classification):
    """Calls the module with the batch."""

    def logits(self, module, batch):
        return module(batch)

    def layer(self, module):
        return "embedding"


class Plain(LightningModule):
    """Embedding, mean, a hidden layer and a head."""

    def __init__(self, hidden=24, rate=5e-3, **options):
        super().__init__(**options)
        self.rate, self.losses = rate, []
        self.embedding, self.first, self.last = nn.Embedding(VOCABULARY, hidden), nn.Linear(hidden, hidden), None
        self.last = nn.Linear(hidden, 2)

    def interpret_task(self):
        return BatchTask(["bad", "good"])

    def encode(self, batch):
        return torch.tanh(self.first(self.embedding(batch["input_ids"]).sum(dim=1)))

    def forward(self, batch):
        return self.last(self.encode(batch))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self(batch), batch["labels"])
        self.losses.append(float(loss.detach()))
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self(batch).float(), batch["labels"]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.rate)


class Net(ConceptBottleneckMixin, Plain):
    """With a bottleneck of the five concepts, unless others are asked for."""

    def __init__(self, **options):
        named = {} if "concept_count" in options else {"concept_names": list(NAMES)}
        super().__init__(**named | options)


def seeded(kind=Net, seed=0, **options):
    torch.manual_seed(seed)
    return kind(**options)


def loader(size=200, *, batch_size=32, shuffle=False, **options):
    return DataLoader(ConceptTexts(size, **options), batch_size=batch_size, shuffle=shuffle)


def batch_of(size=8, **options):
    data = ConceptTexts(size, **options)
    return default_collate([data[i] for i in range(size)])


def fit(module, folder, *loaders, max_epochs=1, **options):
    """Fit a module and return the trainer."""
    torch.manual_seed(0)
    trainer = quiet_trainer(folder, max_epochs=max_epochs, **options)
    trainer.fit(module, *(loaders or (loader(), loader(64, seed=1))))
    return trainer


def accuracy(module, batch):
    """Return the share of right predictions."""
    module.eval()
    with torch.no_grad():
        return (module(batch).argmax(dim=1) == batch["labels"]).float().mean().item()
