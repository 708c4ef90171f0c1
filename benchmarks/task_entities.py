"""WNUT-17: entities of texts that people wrote on the web, and which words each is found by."""

from __future__ import annotations

import random
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from task_runs import Erasure, Figures, batches, errors, fitted, mean, tiny, written

from lightning_interpret import SaliencyMonitor, TaggingDataModule, TokenTagger
from lightning_interpret.explanations import AttributionRow
from lightning_interpret.methods import method_named
from lightning_interpret.methods.perturbed import Perturbed

TYPES = ("corporation", "creative-work", "group", "location", "person", "product")
LABELS = ["O", *(f"{place}-{kind}" for kind in TYPES for place in "BI")]
NEAR = 2  # words
NAMES = {"person": ["anna smith", "ben", "carla"], "location": ["paris", "new york", "rome"]}
FRAMES = ["person lives in location", "we saw person at location today", "location is far", "hello person", "nothing"]


def generated(folder: Path, count: int) -> None:
    """Write sentences of some frames with names in them."""
    drawn = random.Random(0)
    for split in ("train.jsonl", "dev.jsonl", "test.jsonl"):
        rows = []
        for _ in range(count):
            pairs: list[tuple[str, str]] = []
            for word in drawn.choice(FRAMES).split():
                names = drawn.choice(NAMES[word]).split() if word in NAMES else [word]
                tags = [f"{'BI'[at > 0]}-{word}" if word in NAMES else "O" for at in range(len(names))]
                pairs += zip(names, tags, strict=True)
            rows.append({"tokens": [word for word, _ in pairs], "tags": [tag for _, tag in pairs]})
        written(folder / split, rows)


def run(args: Namespace, folder: Path) -> dict[str, Figures]:
    """Return the figures of a run: of the model, its attributions, erasure, and where the evidence stands."""
    given = folder / "wnut17"
    if args.quick:
        generated(folder, 48)
        given = folder
    splits = {"train_file": "train", "val_file": "dev", "test_file": "test"}
    files: dict[str, Any] = {name: str(next(given.glob(f"{split}.jsonl*"))) for name, split in splits.items()}
    data: Any = TaggingDataModule(**files, labels=LABELS, max_length=96, batch_size=args.batch_size)
    if args.quick:
        data.setup("fit")
        options = tiny([row.text for row in data.rows["train"]])
    else:
        options = {"model": args.encoder_folder}
    module: Any = TokenTagger(labels=LABELS, learning_rate=args.learning_rate or 2e-4, **options)
    monitor = SaliencyMonitor(output="log_prob", probes=args.probes or 3, max_seconds=None, on_error="raise")
    module, figures = fitted(args, module, data, monitor, test=True)
    return {"model": figures} | explained(args, module, data.val_dataloader())


def explained(args: Namespace, module: Any, loader: Any) -> dict[str, Figures]:
    """Return the figures of the entities that are predicted in the first examples that have some."""
    task, method = module.interpret_task(), method_named("integrated_gradients")
    rows: list[AttributionRow] = []
    erasure = Erasure()
    for batch in batches(loader, args.examples):
        found = method(module, batch, task, output="log_prob")  # all entities of the batch in one call
        here = [row.prediction in TYPES for row in found]  # in a text without one the likeliest word is explained
        rows += [row for row, one in zip(found, here, strict=True) if one]
        model = Perturbed(module, batch, task)
        erasure.add(model, found.scores, torch.tensor(here).nonzero().flatten()[: args.erased])
    right = [row for row in rows if row.prediction == row.gold]
    wrong = [row for row in rows if row.prediction != row.gold]
    parts = {f"evidence of {name} entities": placed(some) for name, some in (("right", right), ("wrong", wrong))}
    return {"attributions": errors(rows), "erasure of the entity's probability": erasure.figures()} | parts


def placed(rows: list[AttributionRow]) -> Figures:
    """Return how much of the scores' size stands at the entity and near it, and how much of the text that is."""
    scored: list[list[float]] = []
    even: list[list[float]] = []
    for row in rows:
        assert row.span is not None
        own = {word for word in row.word_ids[slice(*row.span)] if word is not None}
        near = set(range(min(own) - NEAR, max(own) + NEAR + 1)) - own
        texts = [(word, abs(score)) for word, score in zip(row.word_ids, row.scores, strict=True) if word is not None]
        for found, of in ((scored, texts), (even, [(word, 1.0) for word, _ in texts])):
            total = sum(size for _, size in of) or 1.0
            found.append([sum(size for word, size in of if word in part) / total for part in (own, near)])
    names = ("of the scores' size, at the entity %", f"of the scores' size, within {NEAR} words of it %")
    return {
        "entities": len(rows),
        **{name: 100 * mean(row[i] for row in scored) for i, name in enumerate(names)},
        **{
            name.replace("the scores' size", "the tokens"): 100 * mean(row[i] for row in even)
            for i, name in enumerate(names)
        },
    }
