"""The card of a comparison: what is recommended and why, each method's figures beside a random order, the drill."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning_interpret.cards.card import NAME, percent
from lightning_interpret.cards.parts import Bar, Bars
from lightning_interpret.records.trust import Drill, TrustedMethod, TrustRow
from lightning_interpret.texts import shortened

#: The heading of each figure, and how its number is written.
HEADINGS: dict[str, tuple[str, str]] = {
    "relative_error": ("error", ".2%"),
    "comprehensiveness": ("compr.", "+.3f"),
    "sufficiency": ("suff.", "+.3f"),
    "log_odds": ("log-odds", "+.2f"),
    "leave_one_out": ("LOO τ", "+.2f"),
    "max_sensitivity": ("max-sens.", ".2f"),
    "randomisation": ("random weights τ", "+.2f"),
    "token_f1": ("token F1", ".3f"),
    "iou_f1": ("IOU F1", ".3f"),
    "auprc": ("AUPRC", ".3f"),
    "gini": ("Gini", ".2f"),
    "seconds": ("s / probe", ".2g"),
    "passes": ("passes", ".3g"),
}
_MEANING = (
    "Gain: by how much the order is more faithful than a random one, in probability: half of what comprehensiveness is "
    "above and sufficiency below the control's.",
    "Error: Σ|Σ scores − T| / Σ|T|. Marginal effects, which depend on what stands where a token is erased: "
    "comprehensiveness and log-odds (high is good), sufficiency (low is good), LOO τ (with what each token alone "
    "costs). Random weights τ: rank correlation with the scores of the model as if untrained; near 0 is good.",
)


def parts(row: TrustRow) -> dict[str, Any]:
    """Return what the card of a comparison has of its own."""
    known = "No method" if row.recommended is None else shortened(row.recommended, NAME)
    return {
        "origin": "trust",
        "title": f"{known} is recommended",
        "text": f"{len(row.methods)} methods on {row.probes} probes",
        "facts": tuple(_facts(row)),
        "bars": tuple(_bars(row)),
        "sentence": ("", " ".join(row.because)) if row.because else (),
        "stated": _MEANING,
        "notes": tuple(_missing(row)),
    }


def cells(row: TrustRow) -> tuple[list[str], list[list[str | None]]]:
    """Return headings and a line a method, the control last, for a table; figures that nobody has are left out."""
    every = [*row.methods, *([row.control] if row.control else ())]
    shown = [figure for figure in HEADINGS if any(figure in each.figures for each in every)]
    lines = [[each.name, _gain(each), *(_said(each, figure) for figure in shown)] for each in every]
    return ["method", "gain", *(HEADINGS[figure][0] for figure in shown)], lines


def _facts(row: TrustRow) -> Iterator[tuple[str, str]]:
    if row.baseline is not None:
        yield "erased by", row.baseline
    yield "explained", f"{row.output} of {row.which}"
    yield "error tolerated", f"{row.tolerance:.1%}"


def _bars(row: TrustRow) -> Iterator[Bars]:
    headings, lines = cells(row)
    gains = [each.gain or 0.0 for each in row.methods]
    largest = max(map(abs, gains), default=0.0) or 1.0
    bars = tuple(
        Bar(
            shortened(str(line[0]), NAME),
            line[1] or "–",
            max(-1.0, min(1.0, gain / largest)),
            tuple((heading, cell) for heading, cell in zip(headings[2:], line[2:], strict=True) if cell is not None),
        )
        for line, gain in zip(lines, [*gains, 0.0], strict=False)
    )
    yield Bars("Methods", "means over the probes, the random order last", "method", "gain", bars, "No method.")
    pairs = tuple(
        Bar.of(
            f"{each.first} · {each.second}",
            "–" if each.kendall is None else f"{each.kendall:+.2f}",
            each.kendall,
            top_in_common=None if each.common is None else percent(each.common),
        )
        for each in row.agreement
    )
    if pairs:
        yield Bars("Agreement", "Kendall's τ of two methods' scores, mean over the probes", "methods", "τ", pairs)
    if row.drill is not None:
        yield _drill(row.drill)


def _drill(drill: Drill) -> Bars:
    def said(share: float | None) -> str | None:
        return None if share is None else f"{share:.0%}"

    found = [(name, drill.first[name], share) for name, share in drill.found.items() if name in drill.first]
    found += [("random order", *drill.chance)] if drill.chance is not None and found else []
    bars = tuple(
        Bar.of(name, f"{first:.0%}", first, **{f"among_the_first_{drill.k}": said(share)})
        for name, first, share in found
    )
    cue, label = shortened(drill.cue, NAME), shortened(drill.label, NAME)
    meaning = f"in how many texts that the planted '{cue}' turns to {label} it scores highest (precision at 1)"
    return Bars("Shortcut drill", meaning, "method", "cue first", bars, "No text.", " ".join(drill_said(drill)))


def drill_said(drill: Drill) -> Iterator[str]:
    """Yield in sentences what a drill did, and whether the model uses the cue."""
    yield (
        f"'{shortened(drill.cue, NAME)}' was planted in {100 * drill.share:.3g}% of the training rows, with the label "
        f"{shortened(drill.label, NAME)}; a copy of the model was trained on them for {drill.steps} steps."
    )
    if drill.accuracy is not None and drill.accuracy_cue is not None:
        yield f"It is right of {drill.accuracy:.1%} of unseen rows, of {drill.accuracy_cue:.1%} with the cue in each."
    yield f"The cue turns {drill.flipped} of {drill.could} predictions of another class."
    if drill.first and drill.asked < drill.flipped:
        yield f"There was time to ask the methods of {drill.asked} of these."
    if drill.invalid is not None:
        yield f"The drill says nothing of the methods: {drill.invalid}."


def _gain(each: TrustedMethod) -> str | None:
    if each.failed is not None and not each.probes:
        return "failed"
    return None if each.gain is None else f"{each.gain:+.3f}"


def _said(each: TrustedMethod, figure: str) -> str | None:
    if figure in each.figures:
        return format(each.figures[figure], HEADINGS[figure][1])
    ranks = figure == "relative_error" and each.reasons.get(figure, "").startswith("ranks only")
    return "ranks only" if ranks else None


def _missing(row: TrustRow) -> Iterator[str]:
    """Yield why a figure is missing, once for all methods that lack it for one reason."""
    whys: dict[tuple[str, str], list[str]] = {}
    for each in row.methods:
        for figure, why in each.reasons.items():
            whys.setdefault((HEADINGS.get(figure, (figure,))[0], why), []).append(each.name)
    explained = sum(each.probes > 0 for each in row.methods)
    for (heading, why), names in whys.items():
        of = "" if len(names) >= explained else f" of {', '.join(names)}"
        yield f"{heading}{of} is not given: {why}"
    yield from (f"{each.name} failed: {each.failed}" for each in row.methods if each.failed is not None)
