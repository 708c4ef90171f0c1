"""A model that is known to use one word and not another, and texts with and without these words."""

import torch
from torch import nn

from lightning_interpret import SequenceClassification
from lightning_interpret.methods.concepts import ConceptSets

PADDING, USED, UNUSED, WORDS, LENGTH, SIZE = 0, 1, 2, 60, 8, 16


class Planted(nn.Module):
    """Embeddings, their mean, and a score that hears of three directions of it; that of ``UNUSED`` is none of them.

    The logit of class 1 is tanh(6 a) + 0.3 sin(4 b) + 0.3 sin(4 c), of class 0 its negative; a is the component that
    the word ``USED`` adds to, b and c are of all words.
    """

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        directions = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator)).Q.T
        self.embedding = nn.Embedding(WORDS, SIZE)
        self.after = nn.Identity()
        self.register_buffer("directions", directions)
        with torch.no_grad():
            self.embedding.weight.copy_(torch.randn(WORDS, SIZE, generator=generator))
            self.embedding.weight[USED] += 4 * directions[0]
            self.embedding.weight[UNUSED] += 4 * directions[1]
            heard = directions[[0, 2, 3]]
            self.embedding.weight[UNUSED] -= self.embedding.weight[UNUSED] @ heard.T @ heard

    def forward(self, ids):
        there = (ids != PADDING).unsqueeze(-1)
        mean = (self.after(self.embedding(ids)) * there).sum(dim=1) / there.sum(dim=1)
        a, _, b, c = (mean @ self.directions[:4].T).unbind(dim=1)
        score = torch.tanh(6 * a) + 0.3 * torch.sin(4 * b) + 0.3 * torch.sin(4 * c)
        return torch.stack([-score, score], dim=1)


class PlantedTask(SequenceClassification):
    """Reads a :class:`Planted`; a text is spelt as its numbers."""

    def __init__(self):
        super().__init__(labels=["no", "yes"])

    def logits(self, module, batch):
        return module(batch["input_ids"])

    def layer(self, module):
        return "embedding"

    def check(self, module, which, baseline):
        """It needs no tokenizer."""

    def attention_mask(self, parts):
        return (parts["input_ids"] != PADDING).long()

    def texts(self, batch):
        return tuple(" ".join(map(str, row)) for row in batch["input_ids"].tolist())


def texts(count, word=None, *, seed=0, padded=True):
    """Return ids of texts of random words, ``(count, LENGTH)``; all with the word at some place where one is given."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, WORDS, (count, LENGTH), generator=generator)
    if word is not None:
        ids[torch.arange(count), torch.randint(LENGTH - 3, (count,), generator=generator)] = word
    if padded:
        lengths = torch.randint(LENGTH - 3, LENGTH + 1, (count,), generator=generator)
        ids[torch.arange(LENGTH) >= lengths[:, None]] = PADDING
    return ids


def collate(rows):
    return {"input_ids": torch.stack(list(rows))}


def sets(concepts, random=800, **options):
    """Return concept sets of tensors of ids."""
    return ConceptSets.of(
        {name: list(ids) for name, ids in concepts.items()}, list(texts(random, seed=99)), collate, **options
    )


def labelled(module, ids):
    """Return a batch whose labels are what the module says."""
    return {"input_ids": ids, "labels": module(ids).argmax(dim=1).detach()}
