"""A sweep over the layers of a model in numbers: how far the extraction of features has gone at each stage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lightning_interpret.explanations import AttributionRow
from lightning_interpret.report import markdown, terminal

HEADERS = ("layer", "A = Σ scores", "T", "error", "cut", "Σ|A|/|T|")
NOTE = (
    "Layers that are cuts share one T = F(x) - F(x'). Something passes the others by: their T is what goes through "
    "them. Σ|A|/|T| is how much evidence for and against still cancels; at 1 none does."
)


@dataclass(frozen=True)
class Stage:
    """One layer of a sweep.

    Attributes:
        layer: Its name.
        total: A, the sum of the scores.
        target: T, what they are to sum to, or None.
        error: |A - T| / max(|T|, τ), or None.
        cut: Whether the layer is a cut of the graph, found by trial, or None.
        cancelling: Σ|A_i| / |T|: 1 where all evidence points one way, more where it cancels; None without T.
    """

    layer: str
    total: float
    target: float | None
    error: float | None
    cut: bool | None
    cancelling: float | None

    def cells(self) -> list[str]:
        """Return the texts of :data:`HEADERS`."""
        return [
            self.layer,
            f"{self.total:+.4g}",
            "–" if self.target is None else f"{self.target:+.4g}",
            "–" if self.error is None else f"{self.error:.2%}",
            {True: "yes", False: "no", None: "–"}[self.cut],
            "–" if self.cancelling is None else f"{self.cancelling:.3g}",
        ]


def stages(rows: Iterable[AttributionRow]) -> list[Stage]:
    """Return the stages of a sweep, one for each row of one example at different layers."""
    return [
        Stage(
            layer=row.layer,
            total=math.fsum(row.scores) if all(map(math.isfinite, row.scores)) else math.nan,
            target=row.attribution_target,
            error=row.relative_error,
            cut=row.cut,
            cancelling=sum(map(abs, row.scores)) / abs(row.attribution_target) if row.attribution_target else None,
        )
        for row in rows
    ]


def as_markdown(rows: Sequence[AttributionRow]) -> str:
    """Return the stages of a sweep as a Markdown table, with what was explained above it."""
    lines = ([markdown.escape(cell) for cell in stage.cells()] for stage in stages(rows))
    first = rows[0]
    head = f"**{markdown.escape(first.target_name)}** {markdown.escape(f'{first.target:+.4g}')} ({first.output})"
    return "\n\n".join([head, markdown.table([markdown.escape(name) for name in HEADERS], lines), NOTE])


def as_text(rows: Sequence[AttributionRow]) -> str:
    """Return the stages of a sweep as a plain table for a terminal."""
    return f"{terminal.table(HEADERS, [stage.cells() for stage in stages(rows)])}\n{NOTE}"
