"""`lightning-interpret methods`: what there is, by where the evidence lies."""

import re

from lightning_interpret.methods import METHODS
from lightning_interpret.methods.hierarchy import HIERARCHICAL
from lightning_interpret.methods.influence import INFLUENCE
from lightning_interpret.methods.neighbors import NearestNeighbors
from lightning_interpret.report.terminal import table


def run() -> int:
    """Print each method with where its evidence lies, its default baseline and its first line."""
    rows: list[list[str | None]] = []
    for name, method in sorted(METHODS.items()):
        baseline = method().baseline_name
        shown = "pad; of images blur" if baseline == "default" else baseline
        rows.append([name, "the input", shown, _first_line(method)])
    for name, tree in sorted(HIERARCHICAL.items()):
        used = tree().baseline
        rows.append([name, "spans of the text", "pad" if used == "default" else str(used), _first_line(tree)])
    of_training = {**INFLUENCE, "nearest_neighbors": NearestNeighbors}
    rows += [[name, "training data", None, _first_line(each)] for name, each in sorted(of_training.items())]
    print(table(["method", "evidence", "baseline", "what it is"], rows))
    return 0


def _first_line(method: type) -> str:
    return re.sub(r":\w+:`(\w+)`", r"\1", (method.__doc__ or "").strip().splitlines()[0])
