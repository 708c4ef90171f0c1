"""The ways to train, for joint methods: a small module of texts that can be trained in all of them, and what it saw."""

import torch
from lightning.pytorch import LightningModule
from purity import Texts, ToyTask
from tiny import quiet_trainer, wordpiece
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from lightning_interpret import (
    ConceptBottleneckMixin,
    JointMixin,
    KernelMixin,
    SpanExplanationMixin,
    TurnOverDropoutMixin,
)

WIDTH = 8
SITES = ["first", "input of last"]  # the first is what is written down
RADIAL = {"kernel": "rbf", "kernel_rtol": 1e-2, "kernel_refresh": "epoch"}


class Net(LightningModule):
    """Embedding, mean, a hidden layer and a head; it writes down the mask and the loss that each example met last.

    Args:
        way: How it is trained: ``manual``, ``checkpointed``, ``late`` (layers are made in ``configure_model``),
            ``closures`` (L-BFGS) or ``alternating`` (two optimizers by hand); else as usual.
        rate: Learning rate.
    """

    def __init__(self, way="", rate=0.5, **options):
        super().__init__(**options)
        self.way, self.rate = way, rate
        self.automatic_optimization = way not in ("manual", "alternating")
        self.losses, self.met, self.told = [], {}, {}
        if way != "late":
            self.build()

    def build(self):
        self.embedding, self.first, self.last = nn.Embedding(24, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for part in (self.embedding, self.first, self.last):
                for weight in part.parameters():
                    weight.normal_(0, 0.5, generator=generator)

    def configure_model(self):
        if not hasattr(self, "last"):
            self.build()

    def interpret_task(self):
        return ToyTask(wordpiece())

    def body(self, ids):
        hidden = self.first(self.embedding(ids).mean(dim=1))
        return hidden, torch.tanh(hidden)

    def forward(self, ids):
        return self.scores(ids)[1]

    def scores(self, ids):
        by = checkpoint if self.way == "checkpointed" and self.training else None
        hidden, values = by(self.body, ids, use_reentrant=False) if by else self.body(ids)
        return hidden, self.last(values)

    def loss(self, batch):
        hidden, logits = self.scores(batch["input_ids"])
        losses = F.cross_entropy(logits.float(), batch["labels"], reduction="none")
        self.write_down(batch, hidden, losses)
        return losses.mean()

    @torch.compiler.disable
    def write_down(self, batch, hidden, losses):
        for i, example in enumerate(batch["example_id"].tolist()):
            self.met[example], self.told[example] = (hidden[i] != 0).tolist(), losses[i].item()
        self.losses.append(losses.mean().item())

    def training_step(self, batch, batch_idx):
        if self.automatic_optimization:
            return self.loss(batch)
        optimizers = self.optimizers()
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            optimizer.zero_grad()
            loss = self.loss(batch)
            self.manual_backward(loss + self.auxiliary_loss() if isinstance(self, JointMixin) else loss)
            optimizer.step()
        return None

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self(batch["input_ids"]).float(), batch["labels"]))

    def configure_optimizers(self):
        if self.way == "closures":
            return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)
        if self.way == "alternating":
            body = [*self.embedding.parameters(), *self.first.parameters()]
            rest = [each for each in self.parameters() if all(each is not one for one in body)]
            return [torch.optim.SGD(each, lr=self.rate) for each in (body, rest)]
        return torch.optim.SGD(self.parameters(), lr=self.rate, momentum=0.5)


class TurnOver(TurnOverDropoutMixin, Net):
    def __init__(self, **options):
        super().__init__(**{"turn_over_layers": SITES} | options)


class Kernel(KernelMixin, Net):
    def __init__(self, **options):
        super().__init__(**RADIAL | options)


class Both(TurnOverDropoutMixin, KernelMixin, Net):
    def __init__(self, **options):
        super().__init__(**{"turn_over_layers": SITES} | RADIAL | options)


class Reversed(KernelMixin, TurnOverDropoutMixin, Net):
    def __init__(self, **options):
        super().__init__(**{"turn_over_layers": SITES} | RADIAL | options)


class Concepts(ConceptBottleneckMixin, Net):
    """With two named concepts; the layers that are put in are the same each time."""

    def __init__(self, **options):
        super().__init__(**{"concept_names": ["seven", "nine"]} | options)

    def attach(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            super().attach()


class WithConcepts(Texts):
    """Texts with labels of concepts."""

    def __getitem__(self, i):
        found = [(self.ids[i] == word).any() for word in (7, 9)]
        return super().__getitem__(i) | {"concepts": torch.stack(found).float()}


class Spans(SpanExplanationMixin, Net):
    def __init__(self, **options):
        super().__init__(**{"span_layer": "embedding", "span_width": 3, "span_ramp": 0.0} | options)

    def attach_spans(self):
        super().attach_spans()
        generator = torch.Generator().manual_seed(1)
        for weight in self.spans.parameters():  # whatever has been drawn before
            torch.nn.init.normal_(weight, 0, 0.5, generator=generator)


KINDS = {
    "turn_over": TurnOver,
    "kernel": Kernel,
    "both": Both,
    "reversed": Reversed,
    "concepts": Concepts,
    "spans": Spans,
}


def made(name, **options):
    """A module with joint methods; as many landmarks as its head reads numbers, so that it stays the head it is."""
    own = {"kernel_landmarks": WIDTH} if issubclass(KINDS[name], KernelMixin) else {}
    if issubclass(KINDS[name], TurnOverDropoutMixin):
        own["turn_over_layers"] = ["first", "input of last"]
    return KINDS[name](**own, **options)


def loaders(batch_size=4):
    return [DataLoader(WithConcepts(seed=seed), batch_size=batch_size) for seed in (0, 1)]


def fit(module, folder, *, batch_size=4, compiled=None, ckpt_path=None, **options):
    """Fit a module and return the trainer."""
    torch.manual_seed(0)
    trainer = quiet_trainer(folder, **{"max_epochs": 2} | options)
    called = torch.compile(module, backend=compiled) if compiled else module
    trainer.fit(called, *loaders(batch_size), ckpt_path=ckpt_path)
    return trainer


def weights(module):
    """Return the tensors of a module."""
    return {name: value for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
