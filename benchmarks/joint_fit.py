"""What `joint_data.py` trains: real texts, by a fine-tuned encoder or by a perceptron on a frozen one's features."""

from __future__ import annotations

import csv
import gzip
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from label_errors import Features, ag_news, encoded
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_interpret import PlainTwin, TextClassifier
from lightning_interpret.explanations import Units
from lightning_interpret.tasks.encode import encode

LENGTH = 128
_SCALE = 5.0  # brings features of MiniLM to a standard deviation of about one
_FEATURES: dict[tuple[str, int], Tensor] = {}


@dataclass
class Texts:
    """Texts with their classes, and which of these are wrong."""

    name: str
    texts: list[str]
    labels: Tensor
    wrong: Tensor


class FeaturesOfTexts(Features):
    """Reads batches of features, and says what landmarks ask of a layer."""

    def layer(self, module: nn.Module) -> str:
        """Return the first layer."""
        return "layers.0"

    def units(self, batch: Any) -> Units:
        """Return the features, by number."""
        return Units.features(*batch["features"].shape)


class Perceptron(LightningModule):
    """Two hidden layers on features of a frozen encoder."""

    def __init__(self, labels: list[str], width: int, learning_rate: float = 1e-3, hidden: int = 512) -> None:
        super().__init__()
        self.labels, self.learning_rate = labels, learning_rate
        sizes = (width, hidden, hidden)
        layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden, len(labels)))

    def forward(self, features: Tensor) -> Tensor:
        """Return class scores."""
        return self.layers(features)

    def interpret_task(self) -> FeaturesOfTexts:
        """Return how batches are read."""
        return FeaturesOfTexts(self.labels)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the cross-entropy."""
        return nn.functional.cross_entropy(self(batch["features"]), batch["labels"])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Validate: what there is to know is logged by callbacks."""

    def configure_optimizers(self) -> Any:
        """Return AdamW, its learning rate falling to nothing."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=0.01)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class Loaders:
    """Loaders of some texts: of their tokens, or of a frozen encoder's features."""

    def __init__(self, args: Namespace, module: LightningModule) -> None:
        self.args, self.tokenizer = args, None if isinstance(module, Perceptron) else module.tokenizer

    def __call__(self, data: Texts, *, shuffle: bool) -> DataLoader:
        """Return a loader; its batches carry ids."""
        rows: list[Any] = list(range(len(data.texts)))
        features = None if self.tokenizer is not None else features_of(self.args, data)

        def collate(places: list[int]) -> Any:
            labels = data.labels[places]
            if features is not None:
                return {"features": features[places], "labels": labels, "example_id": torch.tensor(places)}
            texts = [data.texts[i] for i in places]
            return encode(self.tokenizer, texts, max_length=LENGTH, labels=labels.tolist(), example_ids=places)

        if not shuffle:
            rows.sort(key=lambda i: len(data.texts[i]))
        size = self.args.batch_size if shuffle else 128
        return DataLoader(rows, batch_size=size, shuffle=shuffle, collate_fn=collate)


def features_of(args: Namespace, data: Texts) -> Tensor:
    """Return features of the frozen encoder, computed once."""
    key = (data.name, len(data.texts))
    if key not in _FEATURES:
        kept = Path(args.cache, f"joint_{key[0]}_{key[1]}.pt") if args.cache else None
        _FEATURES[key] = _SCALE * encoded(data.texts, args.encoder_folder, LENGTH, kept)
    return _FEATURES[key]


def fit(args: Namespace, make: Callable[[], LightningModule], train: Texts, test: Texts, seed: int) -> tuple:
    """Train a module and its plain twin on the same batches; return both, and what was logged at the end."""
    seed_everything(seed, verbose=False)
    module, twin = make(), PlainTwin(seed=seed, on_error="raise")
    loaders = Loaders(args, module)
    trainer = Trainer(
        max_epochs=args.epochs,
        check_val_every_n_epoch=args.epochs,
        num_sanity_val_steps=0,
        callbacks=[twin],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loaders(train, shuffle=True), loaders(test, shuffle=False))
    logged = {tag.rpartition("/")[2]: float(value) for tag, value in trainer.callback_metrics.items()}
    return module.eval(), twin.twin.eval(), logged  # type: ignore[union-attr]


def maker(args: Namespace, mixin: type, labels: list[str], **options: Any) -> Callable[[], LightningModule]:
    """Return what makes a module with a mixin."""
    tuned = args.encoder == "tuned"
    base: type = TextClassifier if tuned else Perceptron
    kind = type(f"{mixin.__name__}On{base.__name__}", (mixin, base), {})
    if tuned:
        return lambda: kind(args.encoder_folder, labels, learning_rate=1e-4, **options)
    from transformers import AutoConfig

    width = AutoConfig.from_pretrained(args.encoder_folder).hidden_size
    return lambda: kind(labels, width, **options)


def trec(folder: Path, part: str) -> Texts:
    """Return questions with their coarse classes."""
    path = folder / "trec" / ("train.tsv.gz" if part == "train" else "test.tsv")
    rows = _rows(path)
    names = ["ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"]
    labels = torch.tensor([names.index(row["coarse"]) for row in rows])
    return Texts(f"trec_{part}", [row["question"] for row in rows], labels, torch.zeros(len(rows), dtype=torch.bool))


def noisy_news(folder: Path, seed: int) -> tuple[Texts, Texts]:
    """Return NoisyAG-News with the labels that people gave, and the test split with true ones."""
    texts, given, wrong = ag_news(folder)
    rows = _rows(folder / "ag_news" / "test.tsv.gz")
    true = torch.tensor([int(row["label"]) for row in rows])
    right = torch.zeros(len(rows), dtype=torch.bool)
    return Texts("ag_news", texts, given, wrong), Texts("ag_news_test", [row["text"] for row in rows], true, right)


def flipped_sentences(folder: Path, seed: int) -> tuple[Texts, Texts]:
    """Return sentences of SST-2 of which a tenth have the other label, and the dev split."""
    found = []
    for name, file in (("sst2", "train_sentences.tsv.gz"), ("sst2_dev", "dev.tsv")):
        rows = _rows(folder / "sst2" / file)
        labels = torch.tensor([int(row["label"]) for row in rows])
        found.append(Texts(name, [row["sentence"] for row in rows], labels, torch.zeros(len(rows), dtype=torch.bool)))
    train = found[0]
    train.wrong = torch.rand(len(train.texts), generator=torch.Generator().manual_seed(seed)) < 0.1
    train.labels = torch.where(train.wrong, 1 - train.labels, train.labels)
    return train, found[1]


def some(data: Texts, count: int | None) -> Texts:
    """Return texts spread evenly over the data."""
    if count is None or count >= len(data.texts):
        return data
    places = torch.linspace(0, len(data.texts) - 1, count).long()
    return Texts(data.name, [data.texts[i] for i in places.tolist()], data.labels[places], data.wrong[places])


def _rows(path: Path) -> list[dict[str, str]]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return list(csv.DictReader(data.decode("utf8").split("\n"), delimiter="\t", quoting=csv.QUOTE_NONE))
