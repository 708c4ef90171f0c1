"""`lightning-interpret fresh`: explain a text classifier, keep the rationales, train another one on them alone.

The pipeline of Jain et al., *Learning to Faithfully Rationalize by Construction* (ACL 2020): what the second classifier
says of a text is made of the rationale and of nothing else, whatever the scores that chose it are worth.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_interpret.commands import explain
from lightning_interpret.explanations import AttributionRow
from lightning_interpret.modules import TextClassifier, TextDataModule
from lightning_interpret.modules.from_scratch import small_encoder
from lightning_interpret.names import choose
from lightning_interpret.report import jsonl, terminal

RULES = ("top", "span")
READINGS = ("rationale", "random", "whole")
_TEXTS = 48_000  # that a small encoder reads before it is compared


def run(options: argparse.Namespace) -> int:
    """Explain, cut, train and compare; return the exit status."""
    choose("--rule", options.rule, RULES)
    for control in options.controls:
        choose("--controls", control, READINGS[1:])
    if not 0 < options.rate < 1:
        raise ValueError(f"`--rate {options.rate}` must lie between 0 and 1: it is the share of words that is kept.")
    folder = Path(options.output_dir)
    files = {"train": options.train_file, "val": options.val_file}
    explained = {split: _explained(options, split, file, folder) for split, file in files.items()}
    accuracy, rows = _accuracy(explained["val"])
    results: list[list[Any]] = [["whole text, the model that was explained", f"{accuracy:.3f}", "", "1.00"]]
    named = {
        "rationale": f"rationale alone ({options.rule}, {options.method})",
        "random": "as many words at random",
        "whole": "whole text, a classifier trained like those on rationales",
    }
    figures: dict[str, Any] = {"explained": {"accuracy": accuracy}, "rate": options.rate, "rows": rows}
    for reading in ("rationale", *dict.fromkeys(options.controls)):
        paths, kept = _write(options, explained, reading, folder / reading)
        logged = _train(options, paths, folder, reading)
        figures[reading] = {"accuracy": logged["val_accuracy"], "f1": logged["val_f1"], "kept": kept}
        results.append([named[reading], *(f"{logged[name]:.3f}" for name in ("val_accuracy", "val_f1")), f"{kept:.2f}"])
    (folder / "fresh.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf8")
    print(f"\n{rows} validation texts, of which a classifier reads:\n")
    print(terminal.table(["what it reads", "accuracy", "macro-F1", "words"], results))
    print(f"\nThe rationales are in {folder / 'rationale'}, the classifiers' curves in {folder / 'runs'}.")
    return 0


def _explained(options: argparse.Namespace, split: str, file: str, folder: Path) -> Path:
    """Return the file of explanations of a split; one that an interrupted run has begun is gone on with."""
    path = folder / f"{split}_explained.jsonl"
    words = argparse.Namespace(
        model=options.model,
        input=file,
        output=str(path),
        method=options.method,
        set=options.set,
        references=None,
        layer=None,
        which="predicted",
        score="logit",
        text_column=options.text_column,
        label_column=options.label_column or "label",
        id_column=options.id_column,
        batch_size=options.batch_size,
        overwrite=options.overwrite,
    )
    if explain.run(words):
        raise ValueError(f"No row of {file} could be explained: {path} says why, row by row.")
    return path


def excerpt(scores: Sequence[float], rate: float, rule: str) -> list[int]:
    """Return the places of ⌈rate · n⌉ words, in reading order: those that score most, or the best stretch of so many.

    Args:
        scores: A score a word; of equal ones the first is taken.
        rate: Share of the words.
        rule: ``top`` or ``span``.
    """
    count = min(len(scores), math.ceil(rate * len(scores) - 1e-9))
    if rule == "top":
        return sorted(sorted(range(len(scores)), key=lambda i: -scores[i])[:count])
    total = [0.0]
    for score in scores:
        total.append(total[-1] + score)
    start = max(range(len(scores) - count + 1), key=lambda i: total[i + count] - total[i], default=0)
    return list(range(start, start + count))


def _rationales(options: argparse.Namespace, path: Path, reading: str) -> Iterator[dict[str, Any]]:
    """Yield a row a text, with the words that are read of it; a text that could not be explained has none."""
    draw = random.Random(options.seed)
    for line in jsonl.read(path):
        row = AttributionRow.from_dict(line)
        words = [word for word in row.merged() if not word.special]
        scores = [abs(word.score) if options.absolute else word.score for word in words]
        if not words or line["target"] is None or not all(map(math.isfinite, scores)):
            continue
        if reading == "whole":
            kept = list(range(len(words)))
        elif reading == "random":
            kept = sorted(draw.sample(range(len(words)), len(excerpt(scores, options.rate, options.rule))))
        else:
            kept = excerpt(scores, options.rate, options.rule)
        yield {
            "text": " ".join(words[i].text for i in kept),
            "label": row.gold,
            "example_id": row.example_id,
            "words": kept,
            "of": len(words),
        }


def _write(
    options: argparse.Namespace, explained: dict[str, Path], reading: str, folder: Path
) -> tuple[dict[str, Path], float]:
    """Write what is read of each split; return the files, and the share of the validation words that is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    paths, kept, total = {}, 0, 0
    for split, source in explained.items():
        paths[split] = folder / f"{split}.jsonl"
        kept, total = 0, 0
        with paths[split].open("w", encoding="utf8") as file:
            for row in _rationales(options, source, reading):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                kept, total = kept + len(row["words"]), total + row["of"]
        if not total:
            raise ValueError(f"No row of {source} has words to keep: it says why, row by row.")
    return paths, kept / total


def _train(options: argparse.Namespace, paths: dict[str, Path], folder: Path, reading: str) -> dict[str, float]:
    """Train a classifier on what is read; return what was logged of the validation rows in the end."""
    seed_everything(options.seed, verbose=False)
    data = TextDataModule(
        train_file=str(paths["train"]),
        val_file=str(paths["val"]),
        id_column="example_id",
        batch_size=options.batch_size,
        seed=options.seed,
    )
    module = None
    if options.classifier is not None:
        module = TextClassifier(options.classifier)
        data.labels = module.labels
    data.setup("fit")
    if module is None:
        module = small_encoder([row.text for row in data.rows["train"]], data.labels or [])
    rows = len(data.rows["train"])
    print(f"\ntraining on {reading} of {rows} texts", file=sys.stderr)
    epochs = options.epochs or (min(20, max(1, round(_TEXTS / rows))) if options.classifier is None else 3)
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="auto",
        devices=1,
        logger=TensorBoardLogger(folder / "runs", name=None, version=reading, default_hp_metric=False),
        enable_checkpointing=False,
        enable_model_summary=False,
        log_every_n_steps=max(1, min(10, rows // options.batch_size)),
    )
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(folder / reading / "classifier.ckpt")
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def _accuracy(path: Path) -> tuple[float, int]:
    """Return how often the model that was explained is right, and of how many rows."""
    right = [line["prediction"] == line["gold"] for line in jsonl.read(path) if line["target"] is not None]
    return sum(right) / len(right), len(right)
