"""The card of influence: what helped and what harmed, and how that was approximated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lightning_interpret.cards.card import EXAMPLE, NAME, Table, scale_of, score_lines
from lightning_interpret.cards.parts import Bar, Bars
from lightning_interpret.evidence import Approximation, InfluenceRow, TrainingExample
from lightning_interpret.texts import shortened, signed


def tables(row: InfluenceRow) -> Iterator[Table]:
    """Yield the examples of each sign; of a mere similarity the alike alone."""
    scale = scale_of((*row.helpful, *row.harmful))
    measure = row.approximation.measure
    helpful = score_lines(row.helpful, scale)
    positive = "No example has a positive score."
    if measure is None:
        yield Table("Alike", "most like the query in the model's features", "score", helpful, positive, 1)
        return
    yield Table("Helpful", f"removing one of these would raise the {measure}", "score", helpful, positive, 1)
    harmful, negative = score_lines(row.harmful, scale), "No example has a negative score."
    yield Table("Harmful", f"removing one of these would lower the {measure}", "score", harmful, negative, -1)


def tokens(row: InfluenceRow) -> tuple[Bars, ...]:
    """Return each token of the query's output with the training example that it is owed to most."""
    if not row.by_token:
        return ()
    best = [each.helpful[0] if each.helpful else None for each in row.by_token]
    scale = scale_of([each for each in best if each is not None])

    def bar(token: str, loss: float | None, example: TrainingExample | None) -> Bar:
        score = None if example is None else example.score
        return Bar.of(
            token,
            "–" if score is None else signed(score),
            None if score is None else score / scale,
            loss=None if loss is None else f"{loss:.2g}",
            owed_to=None if example is None else _owed(example),
        )

    pairs = zip(row.by_token, best, strict=True)
    bars = tuple(bar(each.token, each.loss, example) for each, example in pairs)
    meaning = "each token with the training example without which its own loss would rise most"
    return (Bars("Token by token", meaning, "token", "score", bars),)


def _owed(example: TrainingExample) -> str:
    return f"#{example.example_id}" + (f" {shortened(example.text, EXAMPLE)}" if example.text else "")


def stated(row: InfluenceRow) -> list[str]:
    """Return what a score is, and how it was approximated."""
    return [_sign(row.approximation), "Approximation: " + "; ".join(_how(row)) + "."]


def _sign(stated: Approximation) -> str:
    if stated.measure is None:
        return f"Score: {stated.unit}. It is a similarity, and says nothing of a removal."
    measured = "query's loss" if stated.measure == "loss" else stated.measure
    return (
        f"Score: {stated.unit}. Positive is helpful: removing the example would raise the {measured}. "
        "Negative is harmful: removing it would lower it."
    )


def _how(row: InfluenceRow) -> Iterator[str]:
    how = row.approximation
    if how.read == "gradients":
        curvature = "no curvature" if how.curvature is None else f"curvature {how.curvature}"
        measured = "" if how.examples is None else f" of {how.examples:,} examples"
        yield f"{how.method}, {curvature}{measured}"
    else:
        yield how.method
    if how.samples is not None:
        yield f"{how.samples} labels drawn for each" + ("" if how.seed is None else f" (seed {how.seed})")
    elif how.seed is not None:
        yield f"seed {how.seed}"
    if how.damping is not None:
        yield f"damping {how.damping:.3g}"
    if how.weight_decay is not None:
        yield f"weight decay {how.weight_decay:.3g}"
    layers = _layers(how.layers)
    if how.coverage is not None:
        yield f"{100 * how.coverage:.3g}% of the trainable parameters" + (f" ({layers})" if layers else "")
    elif layers:
        yield layers
    if how.converged is not None:
        residual = "" if how.residual is None else f" (residual {how.residual:.1g})"
        yield ("solver converged" if how.converged else "solver NOT CONVERGED") + residual
    yield f"{row.examples:,} training examples scored"
    if row.skipped:
        yield f"{row.skipped:,} skipped, as their {how.read} were not finite"


def _layers(names: Sequence[str]) -> str:
    if not names:
        return ""
    return f"layer {shortened(names[0], NAME)}" if len(names) == 1 else f"{len(names)} layers"
