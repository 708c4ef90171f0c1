"""What the parts of `tasks.py` share: a run through `Trainer` with a Monitor, methods on batches, and erasure."""

from __future__ import annotations

import gzip
import json
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from sst2 import quantile
from torch import Tensor
from transformers import BertConfig

from lightning_interpret.callbacks.monitor import Monitor
from lightning_interpret.explanations import AttributionRow
from lightning_interpret.methods.perturbed import Perturbed
from lightning_interpret.metrics import Comprehensiveness, Sufficiency
from lightning_interpret.modules.from_scratch import word_piece
from lightning_interpret.modules.portable import config_values

Figures = dict[str, float]
BINS, ORDERS = (10, 20, 50), 2  # shares of the words that are erased; random orders beside them


def fitted(
    args: Namespace, module: Any, data: LightningDataModule, monitor: Monitor, *, test: bool = False
) -> tuple[Any, Figures]:
    """Return a module trained with a Monitor beside it, or read from the file that was named, and its metrics.

    The run is logged into ``runs/`` of the output folder, and its checkpoint is ``<part>.ckpt`` in there.
    """
    folder = Path(args.output)
    limits: dict[str, Any] = {"limit_train_batches": args.batches or 1.0}
    limits |= {f"limit_{split}_batches": args.val_batches or 1.0 for split in ("val", "test")}
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(
        max_epochs=args.epochs,
        **limits,
        accelerator="cpu",
        logger=TensorBoardLogger(folder / "runs", name=args.part, default_hp_metric=False),
        callbacks=[monitor],
        gradient_clip_val=1.0,
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        **quiet,
    )
    begin = time.perf_counter()
    if args.frozen:
        encoder = module.model.base_model
        for part in (encoder.embeddings, *encoder.encoder.layer[: args.frozen]):
            part.requires_grad_(False)
    if args.trained:
        module = type(module).load_from_checkpoint(args.trained)
    else:
        trainer.fit(module, datamodule=data)
        trainer.save_checkpoint(folder / f"{args.part}.ckpt")
    figures = {"training steps": trainer.global_step, "seconds of training": time.perf_counter() - begin}
    reader = Trainer(**limits, accelerator="cpu", logger=False, **quiet)
    if args.trained:
        figures |= dict(reader.validate(module, datamodule=data, verbose=False)[0])
    else:
        known = {name: float(value) for name, value in trainer.callback_metrics.items()}
        figures |= {name: value for name, value in known.items() if name.startswith("val_")}
    if test:
        figures |= dict(reader.test(module, datamodule=data, verbose=False)[0])
    return module.eval(), figures


def tiny(texts: Sequence[str]) -> dict[str, Any]:
    """Return what an encoder of one layer that reads these texts is built from."""
    tokenizer: Any = word_piece(texts)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=tokenizer.model_max_length,
        pad_token_id=tokenizer.pad_token_id,
    )
    return {"config": config_values(config), "tokenizer": tokenizer}


def batches(loader: Iterable[Any], most: int) -> Iterator[Any]:
    """Yield the first batches of a loader, of so many examples together."""
    seen = 0
    for batch in loader:
        if seen >= most:
            return
        seen += len(batch["input_ids"])
        yield batch


class Erasure:
    """What the probabilities of targets lose without the words that scores rank highest, and with these alone."""

    def __init__(self) -> None:
        self._metrics: dict[str, Any] = {
            "comprehensiveness": Comprehensiveness(bins=BINS, control_orders=ORDERS),
            "sufficiency": Sufficiency(bins=BINS, control_orders=ORDERS),
        }
        self._count, self._probability = 0, 0.0

    def add(self, model: Perturbed, scores: Tensor, chosen: Tensor) -> None:
        """Add some of a batch's targets, by their numbers; ``scores`` ``(N, T)`` are of all of them."""
        if not len(chosen):
            return
        self._count += len(chosen)
        self._probability += float(model.target[chosen].sum())
        for metric in self._metrics.values():
            metric.update(scores[chosen], model.counts[chosen], lambda masks, rows: model.kept(masks, chosen[rows]))

    def figures(self) -> Figures:
        """Return both, beside what random orders lose."""
        found: Figures = {"targets": self._count, "probability": self._probability / max(1, self._count)}
        for name, metric in self._metrics.items() if self._count else ():
            found |= {name: float(metric.compute()), f"{name}, random order": float(metric.control.compute())}
        return found


def errors(rows: Sequence[AttributionRow]) -> Figures:
    """Return how far scores miss what they are to sum to, over the targets explained."""
    known = [100 * row.relative_error for row in rows if row.relative_error is not None]
    return {
        "targets explained": len(rows),
        "relative attribution error %, mean": mean(known),
        "relative attribution error %, p95": quantile(known, 0.95) if known else float("nan"),
        "gradients a target, mean": mean([row.gradients for row in rows]),
    }


def mean(values: Iterable[float]) -> float:
    """Return the mean of some numbers, NaN of none."""
    listed = [float(each) for each in values if each == each]
    return sum(listed) / len(listed) if listed else float("nan")


def padded(rows: Sequence[Sequence[float]], width: int) -> Tensor:
    """Return rows of scores as one tensor, 0 behind the end of each."""
    return torch.tensor([[*row, *[0.0] * (width - len(row))] for row in rows], dtype=torch.float64)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSONL file."""
    with gzip.open(path, "rt", encoding="utf8") if path.suffix == ".gz" else path.open(encoding="utf8") as lines:
        return [json.loads(line) for line in lines]


def written(path: Path, rows: Iterable[dict[str, Any]]) -> str:
    """Write a JSONL file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf8")
    return str(path)
