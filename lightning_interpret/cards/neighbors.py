"""The card of neighbours: the nearest examples, their labels, and what each token of the query does to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lightning_interpret.cards.card import NAME, Label, Line, Strip, Table, percent
from lightning_interpret.evidence import NeighborsRow
from lightning_interpret.texts import shortened

_LABELS = 10  # of a distribution, the largest; the others are summed up
_LEAST = 0.005  # share from which a label is shown


def facts(row: NeighborsRow) -> Iterator[tuple[str, str]]:
    """Yield what the neighbours say of the query."""
    if row.means:
        yield (
            "neighbours' mean",
            ", ".join(
                f"{shortened(name, NAME)} {'–' if value is None else f'{value:.4g}'}"
                for name, value in row.means.items()
            ),
        )
    said = row.probabilities or row.shares
    if said:
        best = max(said, key=lambda name: said[name] or 0.0)
        yield "neighbours say", f"{best} ({percent(said[best])})"
    if row.mixture is not None:
        asked = {True: " (unsure: the neighbours were asked)", False: " (sure: as the model)", None: ""}
        yield "mixture says", row.mixture + asked[row.backed_off]
    if row.conformity is not None:
        yield "conformity", percent(row.conformity)
    if row.credibility is not None:
        yield "credibility", percent(row.credibility)


def table(row: NeighborsRow) -> Table:
    """Return the nearest examples with their distances."""
    lines = [Line.of(e, "–" if e.distance is None else f"{e.distance:.3g}") for e in row.neighbors]
    return Table("Nearest", "closest in the model's features, the nearest first", "distance", tuple(lines))


def labels(row: NeighborsRow) -> tuple[Label, ...]:
    """Return the largest labels, the others summed up."""
    kinds = (row.shares, row.probabilities or {}, row.model_probabilities or {})
    names = list(dict.fromkeys(name for kind in kinds for name in kind))
    ranked = sorted(names, key=lambda name: [-(kind.get(name) or 0.0) for kind in kinds])
    seen = [name for name in ranked if any((kind.get(name) or 0.0) >= _LEAST for kind in kinds)][:_LABELS]
    rest = [name for name in ranked if name not in seen]

    def label(name: str, of: Sequence[str]) -> Label:
        sums = (sum(kind.get(each) or 0.0 for each in of) if kind else None for kind in kinds)
        return Label(shortened(name, NAME), *sums)

    shown = [label(name, [name]) for name in seen]
    return (*shown, label(f"{len(rest)} more", rest)) if rest else tuple(shown)


def strip(row: NeighborsRow) -> Strip | None:
    """Return the tokens with the drop of conformity when each is left out."""
    said = ("without it fewer neighbours have the predicted label", "without it more of them have it")
    return Strip.of("drop of conformity", *said, row.tokens, row.scores)


def searched(row: NeighborsRow) -> str:
    """Return how the neighbours were found."""
    parts = [f"Neighbours: {row.metric} distance"]
    parts += [] if row.layer is None else [f"in the features of {shortened(row.layer, NAME)}"]
    parts += [] if row.examples is None else [f"among {row.examples:,} training examples"]
    parts += [] if row.k is None else [f"k {row.k}"]
    parts += [] if row.temperature is None else [f"temperature {row.temperature:.3g}"]
    said = ", ".join(parts) + "."
    said += "" if row.conformity is None else " Conformity: share of neighbours with the predicted label."
    said += (
        "" if row.credibility is None else " Credibility: share of calibration examples that conform no more than this."
    )
    return said
