"""From a noisy file to a better model: what it gets wrong and why, a person's answers, a new file, a second training.

python examples/bad_cases.py
tensorboard --logdir bad_cases/runs

Restaurant reviews are generated, so that the truth is known: in the training file some labels are wrong, some rows are
nearly the same and labelled differently, and "tuesday" and "window seat", which say nothing of a restaurant, stand with
one label each. Every step says what it is for; lines that begin with `$` are what you would type. The answers of a
person who reads the rows are taken from the truth.
"""

import csv
import random
import shlex
from argparse import ArgumentParser
from collections import Counter, defaultdict
from pathlib import Path

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_interpret import BadCaseMonitor, TextDataModule
from lightning_interpret.cli import main as lightning_interpret
from lightning_interpret.data import PlantedBadCases
from lightning_interpret.modules.from_scratch import small_encoder

EPOCHS = 10


def write(path, rows):
    """Write rows of an id, a label and a text."""
    with path.open("w", encoding="utf8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerows([("example_id", "label", "text"), *rows])


def read(path):
    """Return the rows of a file with tabs."""
    with path.open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def step(title, why):
    """Say what comes, and what it is for."""
    print(f"\n=== {title}\n{why}\n", flush=True)


def command(*words):
    """Run a command of ours as a shell would."""
    words = [str(word) for word in words]
    print(f"\n$ lightning-interpret {shlex.join(words)}\n", flush=True)
    if status := lightning_interpret(words):
        raise SystemExit(status)


def train(corpus, folder, name, file, val, callbacks=()):
    """Train a small encoder on a file, save it, and return how often it is right on the test rows."""
    seed_everything(corpus.seed, verbose=False)
    texts = [row.text for row in corpus.train]
    model = small_encoder(texts, corpus.labels, learning_rate=1e-3, max_length=corpus.max_words + 2)
    files = {"train_file": str(folder / file), "val_file": str(folder / val), "test_file": str(folder / "test.tsv")}
    data = TextDataModule(**files, id_column="example_id")
    quiet = {"accelerator": "cpu", "enable_checkpointing": False}
    quiet |= {"enable_model_summary": False, "enable_progress_bar": False}
    trainer = Trainer(
        max_epochs=EPOCHS,
        check_val_every_n_epoch=EPOCHS // 2,
        logger=TensorBoardLogger(folder / "runs", name=None, version=name),
        callbacks=list(callbacks),
        **quiet,
    )
    trainer.fit(model, datamodule=data)
    failures = {key: float(value) for key, value in trainer.callback_metrics.items() if key.endswith("failures")}
    # by a Trainer without Monitors: the test rows are counted and not looked at
    (tested,) = Trainer(logger=False, **quiet).test(model, datamodule=data, verbose=False)
    model.save_pretrained(folder / f"model_{name}")
    print(f"{name}: right on {tested['test_accuracy']:.1%} of the test rows {failures or ''}", flush=True)
    return tested["test_accuracy"]


def answer(path, truth):
    """Fill in `relabel.tsv` as a person who reads each text; return how many rows were read, mended and added."""
    rows, found = read(path), defaultdict(set)
    for row in rows:
        right, added = truth[row["file"]][int(row["example_id"])], not row["line"]  # a row to add has no line yet
        if added and row["cause"] != "shortcut":
            continue  # rows with a negation put in are left open: the truth of these is not known here
        row["proposed"] = right  # with "tuesday" put in or taken out the label stays that of the row it is made from
        row["accept"] = "yes" if added or row["label"] != right else "no"
        for what, holds in (("added", added), ("read", not added), ("mended", not added and row["label"] != right)):
            if holds:
                found[row["file"], what].add((row["example_id"], row["text"]))  # two groups may ask about one row
    lines = [row.values() for row in rows]
    path.write_text("".join("\t".join(line) + "\n" for line in [rows[0].keys(), *lines] if rows), encoding="utf8")
    return Counter({what: len(named) for what, named in found.items()})


def at_random(corpus, counts):
    """Return the training rows after as much work on rows that no report has chosen."""
    size, draw = len(corpus.train), random.Random(corpus.seed)
    reread = set(draw.sample(range(size), min(size, counts["train", "read"])))
    rows = [(i, row.true_label if i in reread else row.label, row.text) for i, row in enumerate(corpus.train)]
    more = PlantedBadCases(size, seed=corpus.seed + 1).train[: counts["train", "added"]]
    return [*rows, *((size + i, row.true_label, row.text) for i, row in enumerate(more))]


def main():
    """Walk through all steps."""
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=2500, help="training rows (default: %(default)s)")
    parser.add_argument("--output-dir", type=Path, default=Path("bad_cases"), help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    options = parser.parse_args()
    folder = options.output_dir
    folder.mkdir(parents=True, exist_ok=True)
    reports = {name: folder / f"report_{name}" for name in ("before", "after")}

    step("A noisy file", "The rows have a column of ids, so that a report can say which it means.")
    corpus = PlantedBadCases(options.size, seed=options.seed, validation=options.size * 8 // 25)
    half = len(corpus.val) // 2
    val, test = corpus.val[:half], corpus.val[half:]
    write(folder / "train.tsv", [(row.example_id, row.label, row.text) for row in corpus.train])
    write(folder / "val.tsv", [(row.example_id, row.label, row.text) for row in val])
    write(folder / "test.tsv", [(row.example_id, row.true_label, row.text) for row in test])
    for name, rows in (("train", corpus.train), ("val", val)):
        print(f"{name}.tsv: {len(rows)} rows, {sum(row.label != row.true_label for row in rows)} with a wrong label")
    print(f"test.tsv: {len(test)} rows, every label right; nobody looks at it but to count")

    step(
        "Train, and watch what goes wrong",
        "At each validation BadCaseMonitor groups what the model gets wrong by why it does: see the Interpret tab.",
    )
    before = train(corpus, folder, "before", "train.tsv", "val.tsv", [BadCaseMonitor()])

    step("Ask why", "The same of the saved model, as files: a page to read, a table to answer, all of it as JSON.")
    ask = ["badcases", "--id-column", "example_id", "--cases", half]
    files = ["--train", folder / "train.tsv", "--val", folder / "val.tsv"]
    command(*ask, "--model", folder / "model_before", *files, "--output", reports["before"])

    step(
        "A person answers",
        "In relabel.tsv, row by row: is the label wrong? May a row that is made by putting 'tuesday' in be added?",
    )
    truth = {"train": [row.true_label for row in corpus.train], "val": [row.true_label for row in corpus.val]}
    counts = answer(reports["before"] / "relabel.tsv", truth)
    print("\n".join(f"{count} rows of {file} {what}" for (file, what), count in sorted(counts.items())))
    if not counts["train", "mended"] + counts["train", "added"]:
        print("Nothing to mend in the training rows: with more of them (--size) there will be.")
        return

    step("Make the new files", "What was accepted is changed or added; every other line stays as it is.")
    mended = ["--output", folder / "train_mended.tsv"]
    if counts["val", "mended"]:
        mended += ["--val-output", folder / "val_mended.tsv"]
    command("apply", "--report", reports["before"], *mended)
    val_file = "val_mended.tsv" if counts["val", "mended"] else "val.tsv"

    step("Train again", "As before, on the new file.")
    after = train(corpus, folder, "after", "train_mended.tsv", val_file, [BadCaseMonitor()])

    step("What became of the bad cases", "The report again, then both side by side: what was fixed, and what broke.")
    files = ["--train", folder / "train_mended.tsv", "--val", folder / val_file]
    command(*ask, "--model", folder / "model_after", *files, "--output", reports["after"])
    both = ["--before", reports["before"], "--after", reports["after"]]
    command("compare", "--what", "runs", *both, "--output-dir", folder / "compared")

    step(
        "As much work at random",
        "Was it the report, or would any work have helped? As many rows, drawn by chance, are read and mended, and as "
        "many new reviews are labelled and added.",
    )
    write(folder / "train_random.tsv", at_random(corpus, counts))
    chance = train(corpus, folder, "random", "train_random.tsv", "val.tsv")

    print(f"\nRight of {len(test)} clean test rows: {before:.1%} before, {after:.1%} after, {chance:.1%} at random.")
    print(f"Open {reports['before'] / 'review.html'}, and `tensorboard --logdir {folder / 'runs'}`.")


if __name__ == "__main__":
    main()
