"""How a model attends, followed while it trains, and what attention finds beside a gradient and a random order.

python examples/attention.py
tensorboard --logdir attention
"""

import random

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from lightning_interpret import AttentionMonitor, explain
from lightning_interpret.data import ReviewCorpus
from lightning_interpret.modules.from_scratch import small_encoder
from lightning_interpret.report.terminal import table
from lightning_interpret.tasks.encode import encode

LABELS, EXPLAINED, SHUFFLES = ["negative", "positive"], 8, 50
METHODS = (
    "attention_weights",
    "attention_rollout",
    "attention_flow",
    "gradient_attention",
    "value_zeroing",
    "gradient",
)
seed_everything(0, verbose=False)
corpus, held_out = ReviewCorpus(1500, seed=0), ReviewCorpus(200, seed=1)
train, val = [corpus[i] for i in range(len(corpus))], [held_out[i] for i in range(32)]
model = small_encoder([review.text for review in train], LABELS, learning_rate=2e-3)


def collate(reviews):
    """Make a batch of reviews."""
    labels = [LABELS.index(review.label) for review in reviews]
    return dict(encode(model.tokenizer, [review.text for review in reviews], max_length=64, labels=labels))


def found(words, truth):
    """Return the share of the words that decide the label among as many of the strongest."""
    return len(truth & set(words[: len(truth)])) / len(truth)


def strongest(record):
    """Return the places of the words, the strongest first."""
    words = [word for word in record.merged() if not word.special]
    return sorted(range(len(words)), key=lambda i: -abs(words[i].score))


if __name__ == "__main__":
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=TensorBoardLogger("attention", name="runs"),
        callbacks=[AttentionMonitor(probes=2)],
        enable_checkpointing=False,
    )
    loaders = [DataLoader(rows, batch_size=32, shuffle=rows is train, collate_fn=collate) for rows in (train, val)]
    trainer.fit(model, *loaders)
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})

    explained, lines, rng = sorted(val, key=lambda review: len(review.text))[:EXPLAINED], [], random.Random(0)
    truths = [set(review.rationale) for review in explained]
    for name in METHODS:
        records = explain(model, model.tokenizer, [review.text for review in explained], method=name)
        orders = [strongest(record) for record in records]
        shuffled = [[rng.sample(order, len(order)) for order in orders] for _ in range(SHUFFLES)]
        chance = sum(sum(map(found, each, truths)) for each in shuffled) / EXPLAINED / SHUFFLES
        passes = f"{sum(record.forwards + record.gradients for record in records) / EXPLAINED:.0f}"
        lines.append([name, f"{sum(map(found, orders, truths)) / EXPLAINED:.0%}", f"{chance:.0%}", passes])
    print(table(["method", "finds", "a random order", "passes"], lines))
    print('"finds": the share of the strongest words that decide the label.')
