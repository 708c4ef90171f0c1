"""What the benchmarks share: arguments, the SST-2 sentences, the classifier of `examples/sst2.yaml`, the clock."""

from __future__ import annotations

import random
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_interpret import TextClassifier, TextDataModule
from lightning_interpret.commands.load import load_classifier

LABELS = ["negative", "positive"]


def parser(description: str) -> ArgumentParser:
    """Return a parser with the arguments that every benchmark takes."""
    found = ArgumentParser(description=description)
    found.add_argument("--data-folder", required=True, help="holds sst2/train_sentences.tsv.gz and sst2/dev.tsv")
    found.add_argument("--encoder-folder", help="a pretrained MiniLM as a transformers directory, to fine-tune")
    found.add_argument("--batches", type=int, default=160, help="batches of 16 to fine-tune on (default: %(default)s)")
    found.add_argument("--seed", type=int, default=0, help="of the fine-tuning and the choice (default: %(default)s)")
    return found


def parser_of_examples(description: str, examples: int) -> ArgumentParser:
    """Return a parser with the arguments of what explains some sentences by one model."""
    found = parser(description)
    found.add_argument("--model", help="a fine-tuned classifier (directory or checkpoint), in place of fine-tuning one")
    found.add_argument(
        "--examples", type=int, default=examples, help="sentences, chosen by the seed (default: %(default)s)"
    )
    return found


def classifier(args: Any) -> Any:
    """Return the classifier that was named, or else one fine-tuned for the occasion."""
    with tempfile.TemporaryDirectory() as folder:
        return load_classifier(args.model) if args.model else fine_tune(args, folder)


def sentences(args: Any, split: str = "val") -> list[str]:
    """Return as many sentences of a split as were asked for, chosen by the seed."""
    data = data_in(args.data_folder)
    data.setup("validate" if split == "val" else "fit")
    texts = [row.text for row in data.rows[split]]
    return random.Random(args.seed).sample(texts, min(args.examples, len(texts)))


def timed(call: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    """Return what a call returns, and its seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begin = time.perf_counter()
    result = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return result, time.perf_counter() - begin


def quantile(values: list[float], share: float) -> float:
    """Return a quantile of some numbers."""
    return float(torch.tensor(values, dtype=torch.float64).quantile(share))


def where_run(device: torch.device) -> str:
    """Return what the figures were measured on."""
    return device.type + (f", {torch.get_num_threads()} threads" if device.type == "cpu" else "")


def data_in(folder: str) -> TextDataModule:
    """Return the sentences as `examples/sst2.yaml` reads them."""
    files = Path(folder, "sst2")
    return TextDataModule(
        train_file=str(files / "train_sentences.tsv.gz"),
        val_file=str(files / "dev.tsv"),
        text_column="sentence",
        label_column="label",
        batch_size=16,
        max_length=64,
    )


def fine_tune(args: Any, folder: str, callbacks: list[Callback] | None = None) -> TextClassifier:
    """Return MiniLM fine-tuned as `examples/sst2.yaml` says, logged into ``folder``.

    Raises:
        SystemExit: If no encoder was given.
    """
    if args.encoder_folder is None:
        raise SystemExit("Give --encoder-folder, a pretrained encoder to fine-tune.")
    seed_everything(args.seed, verbose=False)
    module = TextClassifier(args.encoder_folder, LABELS, learning_rate=1e-4)
    trainer = Trainer(
        max_epochs=1,
        limit_train_batches=args.batches,
        limit_val_batches=28,
        val_check_interval=max(1, args.batches // 4),
        devices=1,
        logger=TensorBoardLogger(folder, name="runs", default_hp_metric=False),
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data_in(args.data_folder))
    return module
