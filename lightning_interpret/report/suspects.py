"""Suspected label errors as a ranked table: Markdown for the Text tab, and a file of tab-separated values.

No score is best on all data, and the loss alone often is as good as any: the ranks of all stand side by side.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_interpret.evidence import Suspect
from lightning_interpret.files import replacing
from lightning_interpret.report.markdown import cell, escape, table

SCORES = ("self_influence", "loss", "disagreement")
_NAMES = {"self_influence": "self-influence", "loss": "loss", "disagreement": "kNN disagree"}
_TEXT, _LABEL = 200, 60  # characters that are shown
_ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


@dataclass(frozen=True)
class Ranked:
    """A suspect with its rank by each score that it has: 1 is the most suspicious, equal scores share a rank."""

    suspect: Suspect
    ranks: Mapping[str, int]


def ranked(suspects: Iterable[Suspect], by: str = "self_influence") -> list[Ranked]:
    """Return suspects with their ranks, the most suspicious first; one without the score, or with NaN, comes last.

    Args:
        suspects: Training examples, all of which a rank counts.
        by: The score to sort by: ``self_influence``, ``loss`` or ``disagreement``.

    Raises:
        ValueError: If there is no such score.
    """
    if by not in SCORES:
        raise ValueError(f"`by={by!r}` is no score of a suspect; there are {', '.join(SCORES)}.")
    every = list(suspects)
    known = {name: sorted(-score for each in every if (score := _score(each, name)) is not None) for name in SCORES}

    def ranks(suspect: Suspect) -> dict[str, int]:
        scores = {name: _score(suspect, name) for name in SCORES}
        return {name: 1 + bisect_left(known[name], -score) for name, score in scores.items() if score is not None}

    found = [Ranked(each, ranks(each)) for each in every]
    return sorted(found, key=lambda each: (each.ranks.get(by, len(every) + 1), each.suspect.example_id))


def render(found: Sequence[Ranked], *, by: str = "self_influence", limit: int = 50) -> str:
    """Return suspects as Markdown, every text literal: of each score the number and, in brackets, its rank.

    Args:
        found: What :func:`ranked` returned.
        by: The score that it was sorted by.
        limit: Most suspects that are listed.
    """
    if not found:
        return "No training example was scored."
    # a column that nothing stands in says nothing
    names = [name for name in SCORES if any(name in each.ranks for each in found)]
    lines = [[str(at), *_cells(each, names)] for at, each in enumerate(found[:limit], 1)]
    at = ["word"] if any(each.suspect.word is not None for each in found) else []
    if at:
        lines = [[*line[:4], _word(each.suspect), *line[4:]] for line, each in zip(lines, found, strict=False)]
    heads = ["", "id", "label", "model says", *at, *(_NAMES[name] for name in names), "text"]
    parts = [
        f"**Suspected label errors**, by {_NAMES[by]}: the first {len(lines):,} of {len(found):,} training examples",
        table(heads, lines),
        "In brackets the rank by each score. Self-influence: how far the example's own loss would rise without it. "
        "Loss: the model's, in nats. kNN disagree: share of its nearest neighbours with another label.",
    ]
    return "\n\n".join(parts)


def write_tsv(path: str | Path, found: Iterable[Ranked]) -> None:
    r"""Write suspects as tab-separated values with a head line, whole or not at all.

    Columns are ``id``, ``gold``, ``prediction``, each score and its ``_rank``, and ``text``; empty is not known. Where
    words have labels, ``word``, ``word_gold`` and ``word_prediction`` follow.
    In texts a backslash, tab, line feed and carriage return are written ``\\``, ``\t``, ``\n`` and ``\r``, so that a
    line is a suspect.

    Args:
        path: The file; it is replaced.
        found: What :func:`ranked` returned.

    Raises:
        OSError: If the file cannot be written.
    """
    heads = ("id", "gold", "prediction", *(column for name in SCORES for column in (name, f"{name}_rank")), "text")
    found = list(found)
    words = ("word", "word_gold", "word_prediction") if any(each.suspect.word is not None for each in found) else ()
    with replacing(path) as file:
        file.write(("\t".join((*heads, *words)) + "\n").encode())
        for each in found:
            one = each.suspect
            scores = [value for name in SCORES for value in (_score(one, name), each.ranks.get(name))]
            cells = (one.example_id, one.gold, one.prediction, *scores, one.text, *(getattr(one, n) for n in words))
            line = "\t".join("" if cell is None else str(cell).translate(_ESCAPED) for cell in cells)
            file.write((line + "\n").encode(errors="backslashreplace"))  # a lone surrogate, which UTF-8 cannot hold


def _score(suspect: Suspect, name: str) -> float | None:
    score = getattr(suspect, name)
    return None if score is None or math.isnan(score) else score


def _cells(each: Ranked, names: Sequence[str]) -> list[str]:
    one = each.suspect
    said = "–" if one.prediction is None else escape(one.prediction, _LABEL)
    differs = one.prediction is not None and one.gold is not None and one.prediction != one.gold
    label = "–" if one.gold is None else escape(one.gold, _LABEL)
    scores = [_number(each, name) for name in names]
    text = "–" if one.text is None else cell(one.text, _TEXT)
    return [str(one.example_id), label, f"**{said}**" if differs and said else said, *scores, text]


def _word(one: Suspect) -> str:
    """Return the word that it is, its label, and what the model says where that is another."""
    if one.word is None:
        return "–"
    said = escape(one.word, _LABEL)
    said += "" if one.word_gold is None else f": {escape(one.word_gold, _LABEL)}"
    differs = one.word_prediction not in (None, one.word_gold)
    return f"{said} (model: **{escape(str(one.word_prediction), _LABEL)}**)" if differs else said


def _number(each: Ranked, name: str) -> str:
    if name not in each.ranks:
        return "–"
    score = getattr(each.suspect, name)
    return f"{f'{score:.0%}' if name == 'disagreement' else f'{score:.3g}'} ({each.ranks[name]:,})"
