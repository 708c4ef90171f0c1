"""`lightning-interpret compare --what influence`: influence beside training on parts of the data."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lightning_interpret.commands.influence_rows import CONTROLS, Bench, chosen
from lightning_interpret.commands.influence_subject import Subject, find_subject
from lightning_interpret.functional.influence.datamodels import subsets
from lightning_interpret.functional.influence.retraining import Retraining, retrain
from lightning_interpret.report import jsonl, markdown
from lightning_interpret.report.terminal import table

_HEADERS = ("method", "LDS", "± (queries)", "fit s", "score s", "coverage", "damping")
_FLIPS = ("AUC", "recall 10 %", "recall 20 %")


def run(options: argparse.Namespace) -> int:
    """Compare and write ``influence.md`` and ``influence.json``; what the folder holds already is used again.

    Returns:
        0.
    """
    names, folder = chosen(options.methods), Path(options.output_dir)
    subject = find_subject(options)
    masks = subsets(len(subject.wrong), 0.5, options.subsets, options.seed)
    truth = _retrained(subject, masks, options, folder)
    facts = _facts(subject, truth)
    bench = Bench(subject, masks, truth.outcomes, folder, options.max_seconds)
    makes: dict[str, Callable[[str], dict[str, Any]]] = dict.fromkeys(CONTROLS, bench.control)
    makes |= dict.fromkeys(names, bench.method)
    rows = [_row(name, make, bench) for name, make in makes.items()]
    rows.sort(key=lambda row: -row["lds"] if row.get("lds") is not None else 2.0)
    headers, lines = summary(rows)
    left_out = [f"{row['name']}: {row['left_out']}" for row in rows if "left_out" in row]
    left_out += [f"{row['name']}: {row['note']}" for row in rows if "note" in row]
    page = ["# Influence beside retraining\n", facts, markdown.table(headers, lines), _MEANING, *_listed(left_out)]
    (folder / "influence.md").write_text("\n".join(page), encoding="utf8")
    found = {"subject": facts, "subsets": options.subsets, "seeds": options.seeds, "rows": rows}
    (folder / "influence.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
    print(f"\n{facts}\n\n{table(headers, lines)}")
    print("".join(f"\nLeft out: {line}" for line in left_out))
    print(f"The page is {folder / 'influence.md'}; every number is in influence.json.")
    return 0


def summary(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return headers and a line a row, in words; columns on wrong labels where there are any."""
    flips = any("auc" in row for row in rows)
    lines = []
    for row in rows:
        if "left_out" in row:
            continue
        line = [row["name"], _said(row.get("lds"), "+.3f"), _said(row.get("lds_error"), ".3f")]
        line += [_said(row.get(name), ".2f") for name in ("fit_seconds", "score_seconds")]
        line += [_said(row.get("coverage"), ".1%"), _said(row.get("damping"), ".3g")]
        line += [_said(row.get(name), ".3f") for name in ("auc", "recall_10", "recall_20")] if flips else []
        lines.append(line)
    return [*_HEADERS, *(_FLIPS if flips else ())], lines


_MEANING = """
**LDS** (linear datamodeling score): the network was trained anew on random halves of the data. For each query, the
halves are put in order by the sum of the scores of the examples in them, and by minus the loss that training on them
left; the score is the rank correlation of the two orders, its mean over queries, ± the standard error over them (all
queries share the halves, so that another draw of halves would change it by more than that). 1 is perfect, 0 is chance.

**AUC** and **recall**: how well an example's influence on its own loss tells the labels that were made wrong from the
others: the chance that a wrong one stands higher, and which part of them is among the highest 10 and 20 %.

**Controls** know less. The training loss and the disagreement of an example's nearest neighbours in the hidden layer
judge each example by itself; chance is drawn. A method that is not better than these is not worth its time here.
"""


def _facts(subject: Subject, truth: Retraining) -> str:
    with torch.no_grad():
        right = [
            (subject.module(each["vectors"]).argmax(dim=1) == each["labels"]).float().mean().item()
            for each in (subject.train, subject.queries)
        ]
    halves, seeds, _ = truth.outcomes.shape
    size = sum(p.numel() for p in subject.module.parameters())
    return (
        f"{subject.title}. A network of {size:,} parameters on words and word pairs, right in {right[0]:.1%} of the "
        f"training labels and {right[1]:.1%} of the queries; trained anew on {halves} halves, {_seeds(seeds)}."
    )


def _retrained(subject: Subject, masks: torch.Tensor, options: argparse.Namespace, folder: Path) -> Retraining:
    print(f"{subject.title}\nTraining {len(masks)} halves, {_seeds(options.seeds)} ...", flush=True)

    def progress(done: int, of: int) -> None:
        print(f"  {done} of {of} trainings", file=sys.stderr, flush=True)

    found = retrain(
        subject.trainer,
        masks,
        subject.outcome,
        seeds=range(options.seed, options.seed + options.seeds),
        folder=folder,
        key=subject.key,
        workers=options.workers,
        progress=progress,
    )
    if found.reused:
        print(f"{found.reused} trainings were there, {found.trained} were run.", flush=True)
    return found


def _row(name: str, make: Callable[[str], dict[str, Any]], bench: Bench) -> dict[str, Any]:
    """Return a method's row: the one that an earlier run kept, or else a new one, which is kept."""
    path = bench.folder / "rows.jsonl"
    for kept in jsonl.read(path) if path.exists() else ():
        at = kept.get("key"), kept.get("name")
        if at == (bench.key, name) and kept.get("expected_seconds", math.inf) > bench.max_seconds:
            print(f"{name}: measured before", flush=True)
            return {field: value for field, value in kept.items() if field != "key"}
    print(f"{name} ...", flush=True)
    row = make(name)
    if "left_out" not in row:  # what was left out may be served next time
        jsonl.append(path, [{"key": bench.key, **row}])
    return row


def _seeds(count: int) -> str:
    return "once each" if count == 1 else f"{count} times each"


def _listed(lines: Sequence[str]) -> list[str]:
    return ["## Left out\n", *(f"* {line}" for line in lines), ""] if lines else []


def _said(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
