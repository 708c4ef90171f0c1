"""`lightning-interpret compare`: methods, or two runs, side by side; each kind of comparison in a file of its own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lightning_interpret.names import choose

DEFAULTS: dict[str, dict[str, Any]] = {
    "baselines": {
        "model": None,
        "input": None,
        "examples": 8,
        "layer": None,
        "which": "predicted",
        "score": "logit",
        "baseline": "default",
        "text_column": "text",
        "seed": 0,
    },
    "influence": {
        "train_file": None,
        "val_file": None,
        "text_column": "text",
        "label_column": "label",
        "examples": 1500,
        "queries": 100,
        "flipped": None,
        "methods": None,
        "subsets": 100,
        "seeds": 1,
        "workers": 1,
        "max_seconds": 60,
        "seed": 0,
    },
    "methods": {
        "model": None,
        "input": None,
        "examples": 64,
        "text_column": "text",
        "label_column": None,
        "rationale_column": None,
        "which": "predicted",
        "score": "logit",
        "baseline": "default",
        "methods": None,
        "sensitivity": 0,
        "drill": None,
        "train_file": None,
        "max_seconds": None,
        "seed": 0,
    },
    "runs": {"before": None, "after": None},
}
"""What is compared, and which options that takes; their defaults are filled in when it runs."""


def run(options: argparse.Namespace) -> int:
    """Compare what ``--what`` says.

    Returns:
        0.

    Raises:
        ValueError: If an option is given that this comparison does not take.
        OSError: If the folder cannot be written.
    """
    own = DEFAULTS[choose("--what", options.what, DEFAULTS)]
    for name in sorted({name for each in DEFAULTS.values() for name in each} - own.keys()):
        if getattr(options, name) is not None:
            of = next(what for what, each in DEFAULTS.items() if name in each)
            raise ValueError(f"`--{name.replace('_', '-')}` is an option of `--what {of}`: leave it out.")
    for name, value in own.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    folder = Path(options.output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"`--output-dir {folder}` cannot be written ({error}): give another.") from error
    if options.what == "influence":
        from lightning_interpret.commands import compare_influence

        return compare_influence.run(options)
    if options.what == "runs":
        from lightning_interpret.commands import compare_runs

        return compare_runs.run(options)
    if options.what == "methods":
        from lightning_interpret.commands import compare_methods

        return compare_methods.run(options)
    from lightning_interpret.commands import compare_baselines

    return compare_baselines.run(options)
