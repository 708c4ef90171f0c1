"""e-SNLI: pairs of a premise and a hypothesis, and whether the evidence is at the words that people marked."""

from __future__ import annotations

import random
import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from task_runs import Figures, batches, errors, fitted, mean, padded, read, tiny, written

from lightning_interpret import SaliencyMonitor, TextClassifier, TextDataModule
from lightning_interpret.explanations import AttributionRow
from lightning_interpret.functional.plausibility import auprc, token_f1
from lightning_interpret.methods import method_named

LABELS = ["contradiction", "entailment", "neutral"]
SIDES = ("premise", "hypothesis")
ORDERS = 20  # random orders of the words, to compare with


def generated(folder: Path, count: int) -> None:
    """Write pairs that differ in one word, which is marked."""
    drawn, people = random.Random(0), ["anna", "ben", "carla", "a man"]
    for split in ("train.jsonl", "dev.jsonl"):
        rows = []
        for _ in range(count):
            label, who = drawn.choice(LABELS), drawn.choice(people)
            said = {"contradiction": "sits", "entailment": "runs", "neutral": "smiles"}[label]
            marks = {"premise": [len(who.split())], "hypothesis": [len(who.split())]}
            pair = {"premise": f"{who} runs today", "hypothesis": f"{who} {said} today"}
            rows.append(pair | {"label": label, "annotations": [marks] * 3})
        written(folder / split, rows)


def run(args: Namespace, folder: Path) -> dict[str, Figures]:
    """Return the figures of a run: of the model, its attributions, and how they agree with people's marks."""
    given = folder / "esnli"
    if args.quick:
        generated(folder, 48)
        given = folder
    train, val = (next(given.glob(f"{split}.jsonl*")) for split in ("train", "dev"))
    data: Any = TextDataModule(
        train_file=str(train),
        val_file=str(val),
        text_column="premise",
        pair_column="hypothesis",
        label_column="label",
        labels=LABELS,
        max_length=96,
        batch_size=args.batch_size,
    )
    if args.quick:
        data.setup("fit")
        options = tiny([f"{row.text} {row.pair}" for row in data.rows["train"]])
    else:
        options = {"model": args.encoder_folder}
    module: Any = TextClassifier(labels=LABELS, learning_rate=args.learning_rate or 1e-4, **options)
    monitor = SaliencyMonitor(output="log_prob", probes=args.probes or 3, max_seconds=None, on_error="raise")
    module, figures = fitted(args, module, data, monitor)
    return {"model": figures} | explained(args, module, data.val_dataloader(), read(val))


def explained(args: Namespace, module: Any, loader: Any, rows: list[dict[str, Any]]) -> dict[str, Figures]:
    """Return the figures of the predictions on the first pairs, for either text and either kind of score."""
    task, method = module.interpret_task(), method_named("integrated_gradients")
    found = [row for batch in batches(loader, args.examples) for row in method(module, batch, task, output="log_prob")]
    figures = {"attributions": errors(found)}
    for part, side in enumerate(SIDES):
        kept = [(row, rows[row.example_id or 0]) for row in found]
        signed = [words(row, part, pair[side]) for row, pair in kept]
        marks = [marked(pair, side) for _, pair in kept]
        figures[f"people's marks of the {side}"] = agreement(signed, marks)
    return figures


def words(row: AttributionRow, part: int, text: str) -> list[float]:
    """Return the score of each word of one of the two texts, where words have spaces between them, as people read."""
    assert row.offsets is not None
    assert row.segment is not None
    starts = [found.start() for found in re.finditer(r"(?:^|(?<= ))", text)]
    scores = [0.0] * len(text.split(" "))
    for score, (begin, _), segment, special in zip(row.scores, row.offsets, row.segment, row.special, strict=True):
        if segment == part and not special:
            scores[sum(start <= begin for start in starts) - 1] += score
    return scores


def marked(row: dict[str, Any], side: str) -> list[bool]:
    """Return which words most of those who marked the pair have marked."""
    votes = [set(each[side]) for each in row["annotations"]]
    return [2 * sum(i in vote for vote in votes) > len(votes) for i in range(len(row[side].split(" ")))]


def agreement(scores: list[list[float]], marks: list[list[bool]]) -> Figures:
    """Return AUPRC and F1 of scores, of their sizes, and of random orders, on texts of which a word is marked.

    F1 is that of as many words as people marked in the text.
    """
    width = max(len(row) for row in marks)
    known, gold = padded(scores, width), padded([[float(each) for each in row] for row in marks], width).bool()
    counts = padded([[1.0] * len(row) for row in marks], width).bool()
    drawn = torch.rand(ORDERS, *gold.shape, generator=torch.Generator().manual_seed(0))
    orders = {"evidence for the prediction": [known], "size of it": [known.abs()], "random order": list(drawn)}
    figures: Figures = {
        "texts with a mark": int(gold.any(dim=1).sum()),
        "words marked in them %": 100 * mean((gold.sum(dim=1) / counts.sum(dim=1))[gold.any(dim=1)].tolist()),
    }
    for name, rankings in orders.items():
        areas, parts = [], []
        for ranking in rankings:
            places = ranking.double().masked_fill(~counts, -torch.inf).argsort(dim=1, descending=True).argsort(dim=1)
            chosen = (places < gold.sum(dim=1, keepdim=True)) & counts
            areas += auprc(ranking, gold, counts).tolist()
            parts += token_f1(chosen, gold, counts, empty="skip").tolist()
        figures |= {f"AUPRC, {name}": mean(areas), f"F1, {name}": mean(parts)}
    return figures
