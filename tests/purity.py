"""The purity harness: one fit with a callback and one without it, and everything that training could show of it.

A later Monitor is run through it by adding it to a test's parameters.
"""

import random

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lightning_interpret import SequenceClassification


class Texts(Dataset):
    """Token ids of unequal lengths with labels: dicts, so that the default task reads them."""

    def __init__(self, size=24, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.ids = torch.randint(5, 20, (size, 9), generator=generator)
        self.ids[:, 0], self.ids[:, -1] = 2, 3
        self.labels = (self.ids == 7).any(dim=1).long()

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        ids = self.ids[i]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": self.labels[i], "example_id": i}


class Toy(LightningModule):
    """Embedding, dropout, batch normalisation (one of them frozen on purpose), a GRU and a head."""

    def __init__(self, manual=False):
        super().__init__()
        self.embedding = nn.Embedding(24, 12)
        self.rnn = nn.GRU(12, 12, batch_first=True)
        self.norm, self.frozen, self.dropout = nn.BatchNorm1d(12), nn.BatchNorm1d(12), nn.Dropout(0.3)
        self.head = nn.Linear(12, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.automatic_optimization = not manual

    def forward(self, ids):
        self.calls += 1  # a buffer that a forward changes in place
        hidden, _ = self.rnn(self.dropout(self.embedding(ids)))
        return self.head(self.frozen(self.norm(hidden.mean(dim=1))))

    def on_fit_start(self):
        self.frozen.eval()
        self.frozen.weight.requires_grad_(False)

    def loss(self, batch):
        return nn.functional.cross_entropy(self(batch["input_ids"]), batch["labels"])

    def training_step(self, batch, batch_idx):
        self.frozen.eval()
        loss = self.loss(batch)
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("val_loss", self.loss(batch))

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self.loss(batch))

    def predict_step(self, batch, batch_idx):
        return self(batch["input_ids"])

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


class ToyTask(SequenceClassification):
    """Reads a :class:`Toy`."""

    def logits(self, module, batch):
        return module(batch["input_ids"])

    def layer(self, module):
        return "embedding"


class Witness(Callback):
    """Writes down what a Monitor could disturb, at the end of each validation, after all other callbacks."""

    def __init__(self):
        self.seen = []

    def on_validation_end(self, trainer, pl_module):
        self.seen.append(
            {
                "flags": [part.training for part in pl_module.modules()],
                "grads": [None if p.grad is None else p.grad.clone() for p in pl_module.parameters()],
                "requires_grad": [p.requires_grad for p in pl_module.parameters()],
                "parameters": [id(p) for p in pl_module.parameters()],
                "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in pl_module.modules()],
                "random": (torch.get_rng_state(), random.getstate()),
            }
        )


def loaders(workers=0, batch_size=4):
    return [
        DataLoader(Texts(seed=seed), batch_size=batch_size, shuffle=seed == 0, num_workers=workers, drop_last=seed == 0)
        for seed in (0, 1)
    ]


def fit(callbacks, tmp_path, *, module=None, precision="32-true", manual=False, epochs=3, **options):
    """Fit and return everything there is to compare, the module and the trainer."""
    torch.manual_seed(0)
    random.seed(0)
    module = module() if module else Toy(manual)
    witness = Witness()
    trainer = Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_epochs=epochs,
        precision=precision,
        accumulate_grad_batches=1 if manual else 3,
        callbacks=[*callbacks, witness],
        **{
            "val_check_interval": 2,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        | options,
    )
    train, val = loaders()
    trainer.fit(module, train, val)
    return {
        "state": {name: tensor.clone() for name, tensor in module.state_dict().items()},
        "optimizer": trainer.optimizers[0].state_dict()["state"],
        "random": (torch.get_rng_state(), random.getstate()),
        "seen": witness.seen,
        "flags": [part.training for part in module.modules()],
    }, trainer


def assert_same(a, b, where=""):
    """Assert that two nests are equal, tensors to the bit; identities of parameters are compared within a run."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            if key != "parameters":
                assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    else:
        assert a == b, where
