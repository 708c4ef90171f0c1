"""The card of landmarks: the sentence that explains, what speaks for and against, and what it all sums to.

The sentence is that of Croce et al. (2019): one landmark, several of one label, or one against another; by the record
alone, so that it is the same at every call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lightning_interpret.cards.card import NAME, Strip, Table, percent, scale_of, score_lines
from lightning_interpret.cards.said import turns
from lightning_interpret.evidence import LandmarksRow, TrainingExample
from lightning_interpret.texts import shortened

_TEXT, _LABEL = 70, 40  # characters of a landmark and of a label in the sentence
_MOST = 3  # landmarks of one label that are named together
_MATTERS = 0.5  # share of the first one's score from which another is named beside it


def facts(row: LandmarksRow) -> Iterator[tuple[str, str]]:
    """Yield what is explained."""
    if row.target is not None:
        name = "" if row.target_name is None else f" ({row.target_name})"
        yield "score", f"{row.target:+.4g}{name}"


def sentence(row: LandmarksRow) -> tuple[str, ...]:
    """Return why the model says what it says: our words and logged texts in turn."""
    said, nothing, texts = _subject(row)
    alike, of_alike = _together(row.like, 1)
    others, of_others = _together(row.unlike, -1)
    words = said + alike if alike else f"{nothing} among the landmarks speaks for it"
    if others:
        words += (", unlike " if alike else "; it is unlike ") + others
    return turns(words + ".", [*texts, *of_alike, *of_others])


def tables(row: LandmarksRow) -> Iterator[Table]:
    """Yield the landmarks that speak for what is explained, and those against."""
    scale = scale_of((*row.like, *row.unlike))
    for title, side, sign, found in (("Like", "for", 1, row.like), ("Unlike", "against", -1, row.unlike)):
        meaning, none = f"landmarks that speak {side} it, the strongest first", f"No landmark speaks {side} it."
        yield Table(title, meaning, "relevance", score_lines(found, scale), none, sign)


def total(row: LandmarksRow) -> tuple[str, ...]:
    """Return what the relevance sums to, with what did not reach the landmarks: our words and logged texts in turn."""
    if row.target is None:
        return ()
    explained = f"F({'x' if row.target_name is None else '{}'}) {_number(row.target)}"
    names = [] if row.target_name is None else [shortened(row.target_name, NAME)]
    absorbed = [shortened(name, NAME) for name in row.absorbed]
    rest = " and ".join(f"{{}} {_number(amount)}" for amount in row.absorbed.values())
    if row.total is None or row.error is None:
        of_it = f", of which {rest}" if rest else ""
        return turns(f"{explained}{of_it}; the sum of all landmarks is not given.", [*names, *absorbed])
    shown = [each.score or 0.0 for each in (*row.like, *row.unlike)]
    listed = f" (the {len(shown)} shown: {_number(sum(shown))})" if 0 < len(shown) < row.landmarks else ""
    words = f"Σ of {_many(row)} {_number(row.total)}{listed}" + (f" and {rest}" if rest else "")
    words += f" = {explained}, error {row.error:+.1e}" + ("." if row.converged else ": it does NOT ADD UP.")
    return turns(words, [*absorbed, *names])


def strip(row: LandmarksRow) -> Strip | None:
    """Return the tokens with their relevance."""
    said = ("speaks for what is explained", "speaks against it")
    return Strip.of("relevance of the tokens", *said, row.tokens, row.scores)


def stated(row: LandmarksRow) -> Iterator[str]:
    """Yield what a score is, and what the landmarks stand for."""
    yield (
        "Relevance: the part of the score F(x) that a landmark, a training example, is given. Positive speaks for what "
        "is explained, negative against it."
    )
    if row.positive is not None:
        yield f"Of {_many(row)} {row.positive:,} speak for it."
    if row.magnitude is not None and row.total is not None:
        yield f"The sizes of all their scores sum to {row.magnitude:.4g}, of which {_cancelled(row)} cancels."
    if any(each.similarity is not None for each in (*row.like, *row.unlike)):
        yield "k: the kernel between query and landmark. One that is near may speak against it all the same."
    kernel = "Kernel layer" if row.kernel is None else f"Kernel {shortened(row.kernel, NAME)}"
    said = f"{kernel} with {_many(row)}."
    if row.approximation_error is not None:
        said += (
            f" They stand for the kernel matrix of the training examples up to a relative error of "
            f"{100 * row.approximation_error:.2g}% (Frobenius)."
        )
    yield said


def _subject(row: LandmarksRow) -> tuple[str, str, list[str]]:
    """Return how the sentence starts where a landmark speaks for it and where none does, and the texts in that."""
    if row.prediction is None or row.target_name not in (None, row.prediction):
        if row.target_name is None:
            return "Like ", "Nothing", []
        return "Score of {}: like ", "Score of {}: nothing", [shortened(row.target_name, _LABEL)]
    said, texts = "Said {}", [shortened(row.prediction, _LABEL)]
    if row.wrong:
        said, texts = "Wrongly said {} (gold {})", [*texts, shortened(str(row.gold), _LABEL)]
    return f"{said} because it is like ", f"{said}, although nothing", texts


def _together(found: Sequence[TrainingExample], sign: int) -> tuple[str, list[str]]:
    """Return the first landmark of a sign, and those of its label that matter beside it; nothing where none is."""
    speaking = [each for each in found if each.score is not None and each.score * sign > 0]
    if not speaking:
        return "", []
    first, least = speaking[0], _MATTERS * abs(speaking[0].score or 0.0)
    alike = [each for each in speaking[1:] if each.gold == first.gold is not None and abs(each.score or 0.0) >= least]
    named = [first, *alike[: _MOST - 1]]
    words = ["'{}'" if each.text else f"example {each.example_id}" for each in named]
    texts = [shortened(each.text, _TEXT) for each in named if each.text]
    said = " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
    return (said, texts) if first.gold is None else (f"{said} ({{}})", [*texts, shortened(first.gold, _LABEL)])


def _cancelled(row: LandmarksRow) -> str:
    return percent(1 - abs(row.total or 0.0) / row.magnitude if row.magnitude else 0.0)


def _many(row: LandmarksRow) -> str:
    return f"{row.landmarks:,} landmarks" if row.landmarks else "its landmarks"


def _number(number: float | None) -> str:
    return "–" if number is None else f"{number:+.4g}"
