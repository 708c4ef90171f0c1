"""`lightning-interpret methods`: what there is, by where the evidence lies."""

import re

from lightning_interpret.methods import METHODS
from lightning_interpret.report.terminal import table


def run() -> int:
    """Print each method with its kind, its default baseline and its first line."""
    rows = []
    for name, method in sorted(METHODS.items()):
        baseline = method().baseline_name
        first_line = re.sub(r":\w+:`(\w+)`", r"\1", (method.__doc__ or "").strip().splitlines()[0])
        rows.append([name, "the input", "pad; of images blur" if baseline == "default" else baseline, first_line])
    print(table(["method", "evidence", "baseline", "what it is"], rows))
    return 0
