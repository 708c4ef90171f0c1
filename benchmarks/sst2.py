"""What the benchmarks share: their arguments, the SST-2 sentences, and the classifier of `examples/sst2.yaml`."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_interpret import TextClassifier, TextDataModule

LABELS = ["negative", "positive"]


def parser(description: str) -> ArgumentParser:
    """Return a parser with the arguments that every benchmark takes."""
    found = ArgumentParser(description=description)
    found.add_argument("--data-folder", required=True, help="holds sst2/train_sentences.tsv.gz and sst2/dev.tsv")
    found.add_argument("--encoder-folder", help="a pretrained MiniLM as a transformers directory, to fine-tune")
    found.add_argument("--batches", type=int, default=160, help="batches of 16 to fine-tune on (default: %(default)s)")
    found.add_argument("--seed", type=int, default=0, help="of the fine-tuning and the choice (default: %(default)s)")
    return found


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
