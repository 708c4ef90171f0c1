"""`lightning-interpret compare --what methods`: how far each method can be trusted on a saved model."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from lightning_interpret.cards.trust import cells, drill_said
from lightning_interpret.commands.explain import options_from
from lightning_interpret.commands.load import load_classifier
from lightning_interpret.data import TextRow, class_of, read_rows
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.methods import METHODS, Method
from lightning_interpret.names import choose
from lightning_interpret.records.trust import Drill, TrustRow
from lightning_interpret.report import evidence_markdown, trust_picture
from lightning_interpret.report.terminal import table
from lightning_interpret.tasks import OUTPUTS, Task, batches
from lightning_interpret.tasks.encode import encode, max_tokens
from lightning_interpret.trust.compare import compare_methods
from lightning_interpret.trust.drill import ShortcutDrill, run_drill
from lightning_interpret.trust.setting import DEFAULT, Setting, named_methods

_REFERENCES = 32  # examples that a baseline is drawn from, as many as a Monitor reads


def run(options: argparse.Namespace) -> int:
    """Compare and write ``methods.md``, ``methods.json`` and ``methods.png``.

    Returns:
        0.

    Raises:
        ValueError: If there is no model or no input, or an option does not exist or has no use.
    """
    if options.model is None or options.input is None:
        raise ValueError(
            "`compare` of methods needs `--model`, a model of yours, and `--input`, a file of texts; "
            "`--what baselines` and `--what influence` need neither."
        )
    if options.drill is not None and options.train_file is None:
        raise ValueError("`--drill` teaches a copy of the model a cue: give its training rows, `--train-file`.")
    choose("--score", options.score, OUTPUTS)
    methods = [method_of(name) for name in options.methods or DEFAULT]
    named_methods(methods)
    asked = None
    if options.drill is not None:
        asked = ShortcutDrill(**{"seed": options.seed} | options_from(ShortcutDrill, options.drill, "--drill"))
    setting = Setting(
        which=options.which,
        output=options.score,
        baseline=options.baseline,
        sensitivity=options.sensitivity,
        seed=options.seed,
    )
    drawn = any(each.drawn for each in _baselines(methods, setting))
    if options.train_file is not None and asked is None and not drawn:
        raise ValueError(
            "`--train-file` has no use here: leave it out, or give `--drill`, or a method whose baseline is drawn from "
            "data (`--methods expected_gradients`)."
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = load_classifier(options.model).to(device).eval()
    task, limit = module.interpret_task(), max_tokens(module.tokenizer, module.model)

    def read(file: str, label: str | None, rationale: str | None = None) -> Iterator[TextRow]:
        columns = {"text_column": options.text_column, "label_column": label, "rationale_column": rationale}
        path = getattr(options, file)
        try:
            return read_rows(path, **columns)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"`--{file.replace('_', '-')} {path}`: {error}") from error

    def encoded(rows: Sequence[TextRow], label: str | None, rationale: str | None = None) -> Any:
        return encode(
            module.tokenizer,
            [row.text for row in rows],
            max_length=limit,
            labels=[class_of(row.label, module.labels or []) for row in rows] if label else None,
            example_ids=[row.example_id for row in rows],
            rationales=[row.rationale for row in rows] if rationale else None,
        ).to(device)

    label = options.label_column or ("label" if options.which == "gold" else None)
    rows = islice(read("input", label, options.rationale_column), options.examples)
    probes = encoded(list(rows), label, options.rationale_column)
    if drawn and options.train_file is not None:
        references = _spread(list(read("train_file", None)), _REFERENCES)
        task = task.with_references(encoded(references, None))
    drill = None
    if asked is not None:
        column = options.label_column or "label"
        train = encoded(_spread(list(read("train_file", column)), asked.rows), column)
        print(f"Teaching a copy of the model a cue ({asked.steps} steps) ...", file=sys.stderr, flush=True)
        drill = _drill(module, task, train, probes, methods, asked, options)
    print(f"Asking {len(methods)} methods of {batches.batch_size(probes)} texts ...", file=sys.stderr, flush=True)
    found = compare_methods(
        module, probes, task, methods, setting=setting, drill=drill, max_seconds=options.max_seconds
    )
    _write(found, Path(options.output_dir))
    return 0


def _baselines(methods: Sequence[Method], setting: Setting) -> list[Baseline]:
    used = [*(method.baseline_used for method in methods), Baseline.ensure(setting.baseline)]
    return [each for each in used if each is not None]


def _spread(rows: Sequence[TextRow], count: int) -> list[TextRow]:
    """Return so many rows, spread evenly: a file may be sorted by label."""
    count = min(count, len(rows))
    return [rows[i * len(rows) // count] for i in range(count)]


def method_of(name: str) -> Method:
    """Return the method ``NAME[:OPTION=VALUE]``.

    Raises:
        ValueError: If a name or an option does not exist.
    """
    first, *settings = name.split(":")
    cls = METHODS[choose("--methods", first, METHODS)]
    return cls(**options_from(cls, settings, "--methods"))


def _drill(
    module: Any,
    task: Task,
    train: Any,
    probes: Any,
    methods: Sequence[Method],
    asked: ShortcutDrill,
    options: argparse.Namespace,
) -> Drill:
    def parts(batch: Any, count: int) -> list[Any]:
        rows = torch.arange(min(count, batches.batch_size(batch)))
        return [task.take(batch, some) for some in rows.split(asked.batch_size)]

    return run_drill(
        deepcopy(module),
        task,
        parts(train, asked.rows),
        parts(probes, asked.test_rows),
        named_methods(methods),
        asked,
        output=options.score,
        max_seconds=options.max_seconds,
    )


def _write(found: TrustRow, folder: Path) -> None:
    headings, lines = cells(found)
    print(f"\n{table(headings, lines)}\n")
    names = [each.name for each in found.methods]
    taus = {(each.first, each.second): each.kendall for each in found.agreement}
    if taus:
        print("Kendall's τ of two methods' scores:\n")
        known = taus | {(b, a): tau for (a, b), tau in taus.items()}
        print(table(["", *names], [[a, *(_tau(known.get((a, b))) for b in names)] for a in names]) + "\n")
    if found.drill is not None:
        print(" ".join(drill_said(found.drill)))
        shown = found.drill.first
        rows = [[name, f"{shown[name]:.0%}", f"{found.drill.found[name]:.0%}"] for name in shown]
        if found.drill.chance is not None:
            rows.append(["random order", *(f"{share:.0%}" for share in found.drill.chance)])
            print(f"\n{table(['method', 'cue first', f'among the first {found.drill.k}'], rows)}\n")
    print("\n".join([*found.because, *found.notes]))
    page = [
        "# How far each method can be trusted",
        "![gain, error and seconds](methods.png)",
        evidence_markdown.render(found),
    ]
    (folder / "methods.md").write_text("\n\n".join(page) + "\n", encoding="utf8")
    written = json.dumps(found.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "methods.json").write_text(written + "\n", encoding="utf8")
    trust_picture.render(found).save(folder / "methods.png")
    print(f"\nThe page is {folder / 'methods.md'}, with the picture beside it; every number is in methods.json.")


def _tau(value: float | None) -> str | None:
    return None if value is None else f"{value:+.2f}"
