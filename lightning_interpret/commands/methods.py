"""`lightning-interpret methods`: what there is, by where the evidence lies."""

from lightning_interpret.methods import METHODS
from lightning_interpret.report.terminal import table


def run() -> int:
    """Print each method with its kind, its default baseline and its first line."""
    rows = []
    for name, method in sorted(METHODS.items()):
        baseline = method().baseline_used
        first_line = (method.__doc__ or "").strip().splitlines()[0]
        rows.append([name, "saliency of the input", baseline.name if baseline else "none", first_line])
    print(table(["method", "evidence", "baseline", "what it is"], rows))
    return 0
