"""scikit-learn's digits and a small network on them: a data set that is bundled, and small enough to retrain.

1,000 training and 200 query images; 64-32-10 with tanh; SGD with momentum 0.9 and weight decay 1e-3, 40 epochs.
"""

from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import nn

from lightning_interpret.tasks.classification import Classification

WEIGHT_DECAY = 1e-3


class DigitsTask(Classification):
    """Reads batches of ``pixels``, ``labels`` and ``example_id``."""

    def logits(self, module, batch):
        return module(batch["pixels"])


@cache
def digits(dtype=torch.float32):
    """Return training and query batches."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    pixels, labels = torch.tensor(data.data / 16, dtype=dtype)[order], torch.tensor(data.target)[order]
    parts = (slice(0, 1000), slice(1000, 1200))
    return tuple(
        {"pixels": pixels[part], "labels": labels[part], "example_id": torch.arange(part.start, part.stop)}
        for part in parts
    )


def split(batch, size):
    """Return a batch in parts, as a loader would yield them."""
    count = len(batch["labels"])
    return [{name: values[i : i + size] for name, values in batch.items()} for i in range(0, count, size)]


def network(hidden=32, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(64, hidden), nn.Tanh(), nn.Linear(hidden, 10))


def train(batch, seed=0, epochs=40, model=None):
    """Return a network trained on a batch, the same for the same seed."""
    model = network(seed=seed) if model is None else model
    generator, count = torch.Generator().manual_seed(seed), len(batch["labels"])
    steps = epochs * -(-count // 50)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for _ in range(epochs):
        for rows in torch.randperm(count, generator=generator).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch["pixels"][rows]), batch["labels"][rows]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@cache
def trained(dtype=torch.float32):
    """Return the network of seed 0, trained on the 1,000 images. Do not change it."""
    return train(digits(torch.float32)[0]).to(dtype)
