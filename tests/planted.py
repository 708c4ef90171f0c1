"""A corpus whose rationale is planted, and a small network with a gate that learns it, in plain PyTorch.

Texts of 25 to 45 tokens have five contiguous polarity tokens, of ten good and ten bad types, with random signs, among
neutral ones; the label is the sign of their sum: every planted token is needed, and no other is. (Where one of them
were enough, a perfect gate would stop at one, and its F1 would say little.)
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from lightning_interpret.functional.gates import score_function
from lightning_interpret.layers.token_gate import TokenGate

VOCABULARY, GOOD, BAD, NEUTRAL = 300, 1, 11, 21  # the first id of each kind; 0 is padding
SHORTEST, LONGEST, PLANTED = 25, 45, 5
RATE = PLANTED / ((SHORTEST + LONGEST) / 2)


@dataclass(frozen=True)
class Corpus:
    """Texts with labels and true rationales: ``ids`` and ``rationale`` are ``(N, 45)``, ``labels`` ``(N,)``."""

    ids: torch.Tensor
    labels: torch.Tensor
    rationale: torch.Tensor

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        return Corpus(self.ids[index], self.labels[index], self.rationale[index])

    @property
    def selectable(self):
        return self.ids != 0


def planted(count, seed=0):
    """Return ``count`` texts."""
    generator = torch.Generator().manual_seed(seed)

    def whole(low, high, *size):
        return torch.randint(low, high, size, generator=generator)

    lengths = whole(SHORTEST, LONGEST + 1, count, 1)
    starts = (torch.rand(count, 1, generator=generator) * (lengths - PLANTED + 1)).long()
    places = torch.arange(LONGEST)
    rationale = (places >= starts) & (places < starts + PLANTED)
    good = whole(0, 2, count, LONGEST).bool()
    polarity = torch.where(good, GOOD, BAD) + whole(0, 10, count, LONGEST)
    ids = torch.where(rationale, polarity, whole(NEUTRAL, VOCABULARY, count, LONGEST))
    labels = ((rationale & good).sum(dim=1) > PLANTED / 2).long()
    return Corpus(ids.masked_fill(places >= lengths, 0), labels, rationale)


class Cnn(nn.Module):
    """Embeddings, a convolution over three tokens and a ReLU; what is multiplied by 0 in z is not read."""

    def __init__(self, width=64):
        super().__init__()
        self.embedding, self.convolution = nn.Embedding(VOCABULARY, width), nn.Conv1d(width, width, 3, padding=1)

    def forward(self, ids, z):
        embedded = self.embedding(ids) * z[..., None]
        return self.convolution(embedded.transpose(1, 2)).relu().transpose(1, 2) * (ids != 0)[..., None]


class Selective(nn.Module):
    """A generator with a gate, and a predictor that reads what it selects."""

    def __init__(self, kind="gumbel", width=64, **options):
        super().__init__()
        self.generator, self.predictor = Cnn(width), Cnn(width)
        self.gate, self.head = TokenGate(width, kind, **options), nn.Linear(width, 2)

    def selection(self, ids, target=None):
        selectable = ids != 0
        return self.gate(self.generator(ids, selectable.float()), selectable, target)

    def predict(self, ids, z):
        return self.head(self.predictor(ids, z).sum(dim=1))


def skew(model, corpus, *, epochs=15, rate=2e-3, seed=0):
    """Train the predictor on the first six tokens alone, to which it then would hold a gate (interlocking)."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam([*model.predictor.parameters(), *model.head.parameters()], rate)
    first = (torch.arange(LONGEST) < 6).float()
    for _ in range(epochs):
        for index in torch.randperm(len(corpus), generator=generator).split(64):
            batch = corpus[index]
            optimizer.zero_grad()
            F.cross_entropy(model.predict(batch.ids, first.expand(len(index), -1)), batch.labels).backward()
            optimizer.step()


def train(model, corpus, control, *, epochs=15, rate=2e-3, seed=0):
    """Train with Adam, 64 texts a step."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    steps = epochs * -(-len(corpus) // 64)
    done = 0
    model.train()
    control.train()
    for _ in range(epochs):
        for index in torch.randperm(len(corpus), generator=generator).split(64):
            batch = corpus[index]
            control.begin(done / steps)
            selection = model.selection(batch.ids, control.target_now)
            losses = F.cross_entropy(model.predict(batch.ids, selection.z), batch.labels, reduction="none")
            loss = losses.mean() + control.term(selection.rate, selection.transitions)
            if selection.log_prob is not None:
                loss = loss + score_function(losses, selection.log_prob)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
    return model


@torch.no_grad()
def scores(model, corpus, target=None):
    """Return what a trained model is worth, evaluated by the gate's own decision."""
    model.eval()
    selection = model.selection(corpus.ids, target)
    chosen = selection.z > 0
    hits = (chosen & corpus.rationale).sum()

    def accuracy(z):
        return float((model.predict(corpus.ids, z).argmax(dim=1) == corpus.labels).float().mean())

    return {
        "f1": float(2 * hits / (chosen.sum() + corpus.rationale.sum())),
        "rate": float(chosen.sum() / corpus.selectable.sum()),
        "accuracy": accuracy(selection.z),
        "complement": accuracy((corpus.selectable & ~chosen).float()),
    }
