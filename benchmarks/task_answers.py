"""XQuAD: answers in a passage, and how much of their evidence stands in the question and in the answer's sentence."""

from __future__ import annotations

import random
import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from task_runs import Erasure, Figures, batches, errors, fitted, mean, read, tiny, written

from lightning_interpret import QuestionAnswerer, QuestionDataModule, SaliencyMonitor
from lightning_interpret.explanations import AttributionRow
from lightning_interpret.methods import method_named
from lightning_interpret.methods.perturbed import Perturbed

PLACES = ("the question", "the answer", "the rest of its sentence", "elsewhere")
SPECIAL = "special tokens"


def generated(path: Path, count: int) -> None:
    """Write questions of where somebody lives."""
    drawn, rows = random.Random(0), []
    for _ in range(count):
        people, towns = drawn.sample(["anna", "ben", "carla"], 2), drawn.sample(["paris", "rome", "oslo"], 2)
        lives = list(zip(people, towns, strict=True))
        context = " ".join(f"{name} lives in {town} ." for name, town in lives)
        name, town = drawn.choice(lives)
        answer = {"text": town, "start": context.index(town)}
        rows.append({"context": context, "question": f"where does {name} live ?", "answers": [answer]})
    written(path, rows)


def split(args: Namespace, folder: Path) -> dict[str, str]:
    """Write training and validation rows, of different paragraphs, and return the files.

    A paragraph of more than ``--longest`` characters is left out where training on it would take too long.
    """
    output = Path(args.output)
    if args.quick:
        for part in ("train", "val"):
            generated(output / f"{part}.jsonl", 48)
    else:
        rows = [row for row in read(folder / "xquad_en" / "test.jsonl.gz") if len(row["context"]) <= args.longest]
        paragraphs = sorted({row["context"] for row in rows})
        random.Random(args.seed).shuffle(paragraphs)
        held = set(paragraphs[: len(paragraphs) // 5])
        written(output / "train.jsonl", (row for row in rows if row["context"] not in held))
        written(output / "val.jsonl", (row for row in rows if row["context"] in held))
    return {f"{part}_file": str(output / f"{part}.jsonl") for part in ("train", "val")}


def run(args: Namespace, folder: Path) -> dict[str, Figures]:
    """Return the figures of a run: of the model, its attributions, erasure, and where the evidence stands."""
    files: dict[str, Any] = split(args, folder)
    data: Any = QuestionDataModule(**files, max_length=256, batch_size=args.batch_size)
    if args.quick:
        data.setup("fit")
        options = tiny([f"{row.question} {row.context}" for row in data.rows["train"]])
    else:
        options = {"model": args.encoder_folder}
    module: Any = QuestionAnswerer(learning_rate=args.learning_rate or 2e-4, **options)
    monitor = SaliencyMonitor(output="logit", probes=args.probes or 3, max_seconds=None, on_error="raise")
    module, figures = fitted(args, module, data, monitor)
    counted = {f"{name} questions": len(rows) for name, rows in data.rows.items()}
    return {"model": counted | figures} | explained(args, module, data.val_dataloader())


def explained(args: Namespace, module: Any, loader: Any) -> dict[str, Figures]:
    """Return the figures of the answers that are predicted in the first examples."""
    task, method = module.interpret_task(), method_named("integrated_gradients")
    shares: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    even: list[dict[str, float]] = []
    rows: list[AttributionRow] = []
    erasure = Erasure()
    for batch in batches(loader, args.examples):
        found = method(module, batch, task, output="logit")
        erasure.add(Perturbed(module, batch, task), found.scores, torch.arange(min(args.erased, len(found))))
        for row, context in zip(found, batch["context"], strict=True):
            rows.append(row)
            if row.span is not None:  # an answer, and not that there is none
                shares[row.prediction == row.gold].append(placed(row, context, [abs(each) for each in row.scores]))
                even.append(placed(row, context, [1.0] * len(row.scores)))
    parts = {"evidence of right answers": shares[True], "evidence of wrong answers": shares[False], "tokens": even}
    figures = {"attributions": errors(rows), "erasure of the answer's probability": erasure.figures()}
    return figures | {name: _shares(some) for name, some in parts.items()}


def placed(row: AttributionRow, context: str, sizes: list[float]) -> dict[str, float]:
    """Return what share of the sizes stands in each place: of the words, and of all of it in special tokens."""
    assert row.span is not None
    assert row.offsets is not None
    assert row.segment is not None
    begin, end = row.offsets[row.span[0]][0], row.offsets[row.span[1] - 1][1]
    ends = [0, *(found.end() for found in re.finditer(r"[.!?][\"')]*\s", context)), len(context) + 1]
    first = max(at for at in ends if at <= begin)
    last = min(at for at in ends if at >= end)
    found = dict.fromkeys((*PLACES, SPECIAL), 0.0)
    for size, offset, segment, special in zip(sizes, row.offsets, row.segment, row.special, strict=True):
        inside = segment == 1 and first <= offset[0] < last
        own = inside and begin <= offset[0] < end
        found[SPECIAL if special else PLACES[0 if segment == 0 else 1 if own else 2 if inside else 3]] += size
    total, words = sum(found.values()) or 1.0, sum(found[place] for place in PLACES) or 1.0
    return {place: size / (total if place == SPECIAL else words) for place, size in found.items()}


def _shares(rows: list[dict[str, float]]) -> Figures:
    if not rows:
        return {"answers": 0}
    return {"answers": len(rows)} | {f"{place} %": 100 * mean(row[place] for row in rows) for place in rows[0]}
