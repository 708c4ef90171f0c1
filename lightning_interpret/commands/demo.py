"""`lightning-interpret demo`: train with Monitors, print what they found, say what to open."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_interpret.callbacks import InfluenceMonitor, SaliencyMonitor
from lightning_interpret.commands.load import load_classifier
from lightning_interpret.data import Review, ReviewCorpus, TextRow
from lightning_interpret.evidence import InfluenceRow
from lightning_interpret.explanations import AttributionRow
from lightning_interpret.methods import explain, method_named
from lightning_interpret.modules import TextClassifier, TextDataModule
from lightning_interpret.modules.from_scratch import small_encoder
from lightning_interpret.report import jsonl, terminal

_VALIDATIONS = 8  # points on the curves, over the whole run
_TEXTS = 48_000  # that a small encoder reads before it knows a negation
_JUDGED = 64  # validation texts explained for the table at the end
_SHOWN = 4
_ASKED = 1000  # training texts that are asked about the worst validation texts


def run(options: argparse.Namespace) -> int:
    """Train, explain and report; return the exit status."""
    if options.model is None:  # as fast on one thread, a model this small, and no slower where the machine is busy
        torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory.*exists and is not empty.*")
    began, folder = time.perf_counter(), Path(options.output_dir)
    if options.val_file and not options.train_file:
        raise ValueError("`--val-file` without `--train-file`: give both, or the training rows alone.")
    method_named(options.method)
    _make(folder)
    seed_everything(options.seed, verbose=False)
    reviews: dict[int, Review] = {}
    if options.train_file is None:
        reviews = _write_reviews(options, folder)
    module, data = _module_and_data(options)
    monitors = [
        SaliencyMonitor(options.method, probes=options.probes, save_jsonl=True),
        InfluenceMonitor(train_examples=_ASKED, save_jsonl=True),
    ]
    trainer = _trainer(options, folder, monitors, from_scratch=options.model is None, rows=len(data.rows["train"]))
    trainer.fit(module, datamodule=data)
    model_folder = folder / "model"
    module.save_pretrained(model_folder)
    module.eval()

    rows = _spread(data.rows["val"], _JUDGED)
    explained = explain(module, module.tokenizer, [row.text for row in rows], method=options.method)
    records = [_labelled(record, row) for record, row in zip(explained, rows, strict=True)]
    print()
    results = _results(trainer, records, rows, reviews) + _suspected(trainer, folder if reviews else None)
    print(terminal.table(["result", "value"], results))
    colour, width = terminal.colour_wanted(sys.stdout), min(100, shutil.get_terminal_size().columns)
    for record, row in _chosen(records, rows):
        print(f"\nvalidation row {row.example_id}:")
        print(terminal.render(record, colour=colour, width=width))
    _show_influence(trainer)
    print(f"\nThe model is in {model_folder}, the records in {trainer.log_dir}/interpret.")
    print(f"It took {time.perf_counter() - began:.0f} s.")
    print("Now open TensorBoard and its Interpret tab (the tabs Images, Text and Scalars hold the same):\n")
    print(f"    {_tensorboard()} --logdir {folder}\n")
    return 0


def _module_and_data(options: argparse.Namespace) -> tuple[TextClassifier, TextDataModule]:
    """Return the classifier and its data, the rows read and checked before anything is trained."""
    columns = {"text_column": options.text_column, "id_column": options.id_column}
    data = TextDataModule(
        train_file=options.train_file,
        val_file=options.val_file,
        label_column=options.label_column or "label",
        batch_size=options.batch_size,
        seed=options.seed,
        **columns,
    )
    module = None
    if options.model is not None and Path(options.model).is_file():
        module = load_classifier(options.model)
        data.labels = module.labels
    elif options.model is not None:
        module = TextClassifier(options.model)
        data.labels = module.labels
    data.setup("fit")
    if module is None:
        module = small_encoder([row.text for row in data.rows["train"]], data.labels or [])
    return module, data


def _trainer(
    options: argparse.Namespace, folder: Path, monitors: list[Any], *, from_scratch: bool, rows: int
) -> Trainer:
    epochs = options.epochs or (min(20, max(1, round(_TEXTS / rows))) if from_scratch else 1)
    batches = -(-rows // options.batch_size)
    return Trainer(
        max_epochs=epochs,
        accelerator="auto",
        devices=1,
        logger=TensorBoardLogger(folder, name="runs", default_hp_metric=False),
        callbacks=[*monitors, ModelCheckpoint(monitor="val_loss", save_last=False)],
        val_check_interval=max(1, min(batches, batches * epochs // _VALIDATIONS)),
        log_every_n_steps=max(1, min(10, batches)),
        enable_model_summary=False,
    )


def _write_reviews(options: argparse.Namespace, folder: Path) -> dict[int, Review]:
    """Write the generated corpus with its ground truth, point the options at it, and return the validation reviews."""
    validation = min(800, max(2, options.size // 10))
    train = ReviewCorpus(options.size, seed=options.seed, flipped=0.02, duplicates=0.05, shortcut=0.2)
    val = ReviewCorpus(validation, seed=options.seed + 1)
    for name, corpus in (("train", train), ("val", val)):
        path = folder / "data" / f"{name}.jsonl"
        _make(path.parent)
        with path.open("w", encoding="utf8") as file:
            file.writelines(json.dumps(corpus[i].to_dict()) + "\n" for i in range(len(corpus)))
        setattr(options, f"{name}_file", str(path))
    options.text_column, options.label_column, options.id_column = "text", "label", "example_id"
    return {i: val[i] for i in range(len(val))}


def _results(
    trainer: Trainer, records: Sequence[AttributionRow], rows: Sequence[TextRow], reviews: dict[int, Review]
) -> list[list[Any]]:
    """Return the table: how good the model is, and how far its explanations can be believed."""
    logged = trainer.callback_metrics
    results: list[list[Any]] = [
        [name.replace("_", " "), f"{float(logged[name]):.3f}"] for name in ("val_accuracy", "val_loss")
    ]
    results.append([f"texts explained ({records[0].method})", len(records)])
    errors = sorted(r.relative_error for r in records if r.relative_error is not None)
    if errors:
        results.append(["relative attribution error, median", f"{errors[len(errors) // 2]:.2%}"])
        results.append(["relative attribution error, largest", f"{errors[-1]:.2%}"])
    if records[0].converged is not None:
        results.append(
            ["explanations within tolerance", f"{sum(bool(r.converged) for r in records)} of {len(records)}"]
        )
    results.append(["gradients a text, mean", f"{sum(r.gradients for r in records) / len(records):.1f}"])
    if reviews:
        found, chance = _rationale_precision(records, rows, reviews)
        results.append(["strongest words that decide the label", f"{found:.1%}"])
        results.append(["the same, of words at random", f"{chance:.1%}"])
    return results


def _suspected(trainer: Trainer, folder: Path | None) -> list[list[Any]]:
    """Return how many of the suspected label errors are wrong, where the truth is known; else how many there are."""
    file = Path(trainer.log_dir or "", "interpret", "influence_suspects.tsv")
    if not file.exists():
        return []
    with file.open(encoding="utf8") as lines:
        suspects = [int(line.split("\t", 1)[0]) for line in list(lines)[1:]]
    if folder is None:
        return [["suspected label errors", len(suspects)]]
    flipped = {row["example_id"] for row in jsonl.read(folder / "data" / "train.jsonl") if row["flipped"]}
    found = sum(i in flipped for i in suspects)
    return [["suspected label errors that are wrong", f"{found} of {len(suspects)}"]]


def _show_influence(trainer: Trainer) -> None:
    """Print the card of the worst validation text."""
    file = Path(trainer.log_dir or "", "interpret", "influence.jsonl")
    rows = [row for row in jsonl.read(file) if row["probe"] == 0] if file.exists() else []
    if rows:
        print("\nwhich training texts made it get its worst validation text wrong:")
        print(InfluenceRow.from_dict(rows[-1]))


def _rationale_precision(
    records: Sequence[AttributionRow], rows: Sequence[TextRow], reviews: dict[int, Review]
) -> tuple[float, float]:
    """Return precision@k of the words by |score| against the true rationale of k words, and that of random words."""
    found, chance = [], []
    for record, row in zip(records, rows, strict=True):
        review = reviews[row.example_id]
        words = [word for word in record.merged() if not word.special]
        if len(words) != len(review.words):  # a word that the tokenizer writes in two
            continue
        order = sorted(range(len(words)), key=lambda i: -abs(words[i].score))
        truth = set(review.rationale)
        found.append(len(truth & set(order[: len(truth)])) / len(truth))
        chance.append(len(truth) / len(words))
    return sum(found) / max(1, len(found)), sum(chance) / max(1, len(chance))


def _chosen(records: Sequence[AttributionRow], rows: Sequence[TextRow]) -> list[tuple[AttributionRow, TextRow]]:
    """Return a few to show: those the model gets wrong first, then others."""
    pairs = list(zip(records, rows, strict=True))
    wrong = [pair for pair in pairs if pair[0].prediction != pair[0].gold][: _SHOWN // 2]
    right = [pair for pair in pairs if pair[0].prediction == pair[0].gold]
    return wrong + right[: _SHOWN - len(wrong)]


def _labelled(record: AttributionRow, row: TextRow) -> AttributionRow:
    """Return the record with what the row says of it, which a text alone does not."""
    reasons = {name: why for name, why in record.reasons.items() if name not in ("gold", "example_id")}
    return replace(record, gold=row.label, example_id=row.example_id, reasons=reasons)


def _spread(rows: Sequence[TextRow], count: int) -> list[TextRow]:
    count = min(count, len(rows))
    return [rows[i * len(rows) // count] for i in range(count)]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"`--output-dir {folder}` cannot be written ({error}): give another.") from error
    if not os.access(folder, os.W_OK):
        raise OSError(f"`--output-dir {folder}` cannot be written: give another.")


def _tensorboard() -> str:
    """Return the command that starts TensorBoard from here: by its name, or beside the interpreter that runs us."""
    if shutil.which("tensorboard"):
        return "tensorboard"
    beside = Path(sys.executable).with_name("tensorboard")
    return os.path.relpath(beside) if beside.exists() and beside.is_relative_to(Path.cwd()) else str(beside)
