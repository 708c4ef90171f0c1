"""A model that is wrong for known causes: trained on the corpus in which every cause of a bad case is planted.

A small encoder is trained from scratch on `PlantedBadCases`, and how many validation rows of each planted cause it gets
wrong is printed; then how many bad cases of each cause the report puts in its group, and how many others. In FOLDER are
left: `train.tsv` and `val.tsv` (columns `example_id`, `label`, `true_label`, `planted`, `cue`, `family`, `text`) and
`model.ckpt`, which `--reuse` reads. `--mended CAUSE ...` (or `all`) trains on data in which these causes are put right,
which shows that what is wrong is wrong because of them; with `truncation` the model reads every text whole.

    python benchmarks/bad_cases_planted.py --output FOLDER
    python benchmarks/bad_cases_planted.py --output FOLDER --mended all
"""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from bad_cases import explained
from lightning.pytorch import Trainer, seed_everything

from lightning_interpret.causes import Found
from lightning_interpret.commands.load import load_classifier
from lightning_interpret.data.planted import PLANTED, PlantedBadCases, PlantedRow
from lightning_interpret.modules import TextClassifier, TextDataModule
from lightning_interpret.modules.from_scratch import small_encoder
from lightning_interpret.tasks.encode import encode

COLUMNS = ("example_id", "label", "true_label", "planted", "cue", "family", "text")
SPECIAL = 2  # tokens that the tokenizer adds


def write(rows: Sequence[PlantedRow], file: Path) -> None:
    """Write rows with all that is known of them."""
    lines = ["\t".join("" if (value := getattr(row, name)) is None else str(value) for name in COLUMNS) for row in rows]
    file.write_text("\n".join(["\t".join(COLUMNS), *lines]) + "\n", encoding="utf8")


def trained(corpus: PlantedBadCases, folder: Path, *, epochs: int, seed: int = 0, rate: float = 1e-3) -> TextClassifier:
    """Write a corpus, train an encoder on it, save it, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    write(corpus.train, folder / "train.tsv")
    write(corpus.val, folder / "val.tsv")
    seed_everything(seed, verbose=False)
    words = max(len(row.text.split()) for row in (*corpus.train, *corpus.val))
    length = SPECIAL + (words if "truncation" in corpus.mended else corpus.max_words)
    module = small_encoder([row.text for row in corpus.train], corpus.labels, learning_rate=rate, max_length=length)
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    files = {"train_file": str(folder / "train.tsv"), "val_file": str(folder / "val.tsv")}
    trainer.fit(module, datamodule=TextDataModule(**files, id_column="example_id"))
    trainer.save_checkpoint(folder / "model.ckpt")
    return module.eval()


def predicted(module: TextClassifier, texts: Sequence[str]) -> torch.Tensor:
    """Return the probabilities of some texts, ``(N, C)``."""
    found = []
    with torch.no_grad():
        for start in range(0, len(texts), 64):
            some = texts[start : start + 64]
            batch = encode(module.tokenizer, some, max_length=module.tokenizer.model_max_length)
            found.append(module(batch).softmax(dim=1))
    return torch.cat(found)


def counted(
    rows: Sequence[PlantedRow], probabilities: torch.Tensor, labels: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return how many validation rows of each cause are wrong, by the label given and by the true one."""
    said = [labels[i] for i in probabilities.argmax(dim=1).tolist()]
    found = {}
    for cause in (*PLANTED, None):
        chosen = [i for i, row in enumerate(rows) if row.planted == cause]
        found[cause or "nothing planted"] = {
            "rows": len(chosen),
            "wrong": sum(said[i] != rows[i].label for i in chosen),
            "confident": sum(said[i] != rows[i].label and float(probabilities[i].max()) >= 0.9 for i in chosen),
            "wrong by the truth": sum(said[i] != rows[i].true_label for i in chosen),
        }
    return found


def sorted_out(rows: Sequence[PlantedRow], found: Found) -> dict[str, dict[str, int]]:
    """Return how many bad cases of each planted cause are put in its group, and how many others are.

    Of a shortcut it is the group of the cue that was planted.
    """
    cases = [(rows[case.index], case) for case in found.cases]
    table: dict[str, dict[str, int]] = {}
    for cause in PLANTED:
        mine = [(row, case) for row, case in cases if row.planted == cause]
        others = [case for row, case in cases if row.planted != cause]
        table[cause] = {
            "bad cases": len(mine),
            "in its group": sum(case.cause == cause and row.cue in (None, case.cue) for row, case in mine),
            "others": len(others),
            "others in it": sum(case.cause == cause for case in others),
        }
    return table


def main() -> None:
    """Train, save, count, explain."""
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", required=True, help="folder to write to")
    parser.add_argument("--size", type=int, default=5000, help="training rows (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the corpus and the training (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=12, help="passes over the training rows (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate (default: %(default)s)")
    parser.add_argument("--mended", nargs="*", default=[], help="causes that are put right, or all")
    parser.add_argument("--reuse", action="store_true", help="the model that is in the folder, in place of a new one")
    args = parser.parse_args()
    torch.set_num_threads(1)
    mended = PLANTED if args.mended == ["all"] else args.mended
    corpus, folder = PlantedBadCases(args.size, seed=args.seed, mended=mended), Path(args.output)
    began = time.perf_counter()
    if args.reuse:
        module = load_classifier(str(folder / "model.ckpt")).eval()
    else:
        module = trained(corpus, folder, epochs=args.epochs, seed=args.seed, rate=args.rate)
    seconds = time.perf_counter() - began
    wrong = counted(corpus.val, predicted(module, [row.text for row in corpus.val]), corpus.labels)
    print(f"{len(corpus.train):,} training rows; the model took {seconds:.0f} s.")
    print(f"Mended: {', '.join(mended) or 'nothing'}.")
    print("\n| planted | rows | wrong | confidently | wrong by the truth |\n| --- | ---: | ---: | ---: | ---: |")
    for cause, row in wrong.items():
        print("| " + " | ".join([cause, *map(str, row.values())]) + " |")
    number = {label: i for i, label in enumerate(corpus.labels)}
    validation, training = (
        ([row.text for row in rows], [number[row.label] for row in rows]) for rows in (corpus.val, corpus.train)
    )
    length = module.tokenizer.model_max_length
    found = explained(module, module.interpret_task(), validation, training, len(corpus.val), length)
    print(f"\n{found.overview.explained} bad cases explained in {found.overview.seconds:.0f} s:")
    print("\n| planted | bad cases | in its group | others in it |\n| --- | ---: | ---: | ---: |")
    put = sorted_out(corpus.val, found)
    for cause, counts in put.items():
        bad, mine, others, theirs = counts.values()
        shares = (f"{a} ({a / max(1, b):.0%})" for a, b in ((mine, bad), (theirs, others)))
        print(f"| {cause} | {bad} | {' | '.join(shares)} |")
    (folder / "figures.json").write_text(json.dumps({"wrong": wrong, "put": put}, indent=2) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
