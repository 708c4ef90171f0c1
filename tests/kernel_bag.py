"""A small text model with a kernel layer whose landmarks are known: a bag of words, eight of them, a head."""

import torch
from tiny import VOCABULARY, bag_task, batch_of, lively
from torch import nn

from lightning_interpret.layers import Landmark, NystroemLayer

LANDMARKS = (
    *("a great film", "dull and bad movie .", "the play was not very good", "he is great"),
    *("bad", "a very good movie", "the film was dull", "not a bad play"),
)
LABELS = ("good", "bad", "dull", "good", "bad", "good", "dull", "good")
TRAINED = list(zip(LANDMARKS, LABELS, strict=True))


class KernelBag(nn.Module):
    """Embeddings, their mean, tanh, a kernel layer, and a head: linear, or one's own."""

    def __init__(self, kernel="rbf", *, head=None, size=6, classes=3, **options):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, size)
        self.hidden = nn.Linear(size, size)
        self.kernel = NystroemLayer(size, len(LANDMARKS), kernel, options)
        self.head = nn.Linear(len(LANDMARKS), classes) if head is None else head
        lively(self)

    def encode(self, ids, mask):
        mask = mask.unsqueeze(-1).to(self.hidden.weight.dtype)
        return torch.tanh(self.hidden((self.embedding(ids) * mask).sum(dim=1) / mask.sum(dim=1)))

    def forward(self, ids, mask):
        return self.head(self.kernel(self.encode(ids, mask)))


def kernel_bag(kernel="rbf", *, dtype=torch.float64, known=True, **options):
    """The model, with the landmarks and their facts, and its task."""
    model, task = KernelBag(kernel, **options).to(dtype), bag_task()
    batch = batch_of(task.tokenizer, LANDMARKS)
    facts = [Landmark(100 + i, text, label) for i, (text, label) in enumerate(TRAINED)] if known else None
    with torch.no_grad():
        model.kernel.set_landmarks(model.encode(batch["input_ids"], batch["attention_mask"]), facts)
        # as if trained: the projection is no identity any more
        model.kernel.projection += 0.2 * torch.randn(8, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    return model, task
