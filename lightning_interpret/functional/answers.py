"""Answers that are stretches of a context: the best one, and how near it is to what people said (SQuAD)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def best_spans(start: Tensor, end: Tensor, allowed: Tensor, longest: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return first and last token of the best span of each text, and its score, each ``(B,)``.

    A span is scored by its start score plus its end score, and start ≤ end < start + ``longest``; it starts and ends at
    tokens that are allowed. A text without such a token has the score −∞.

    Args:
        start: Scores of starting at each token, ``(B, T)``.
        end: Scores of ending at each token, ``(B, T)``.
        allowed: Bool ``(B, T)``.
        longest: Tokens that a span may have.
    """
    length = start.shape[1]
    fits = torch.ones(length, length, dtype=torch.bool, device=start.device).triu().tril(longest - 1)
    pairs = allowed[:, :, None] & allowed[:, None, :] & fits
    scores = (start[:, :, None] + end[:, None, :]).masked_fill(~pairs, -torch.inf).flatten(1)
    best, place = scores.max(dim=1)
    return place // length, place % length, best


def null_places(attention_mask: Tensor) -> Tensor:
    """Return where "no answer" stands, ``(B,)``: at the first token of each text, which most models call CLS."""
    return (attention_mask != 0).long().argmax(dim=1)


def normalised(answer: str) -> str:
    """Return an answer as SQuAD compares it: in lower case, without punctuation, articles and further spaces."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Return whether a prediction is one of the answers once both are :func:`normalised`, 1 or 0.

    Without answers the right prediction is the empty one.
    """
    return float(normalised(prediction) in _known(answers))


def token_f1(prediction: str, answers: Sequence[str]) -> float:
    """Return the F1 of the words that a prediction and an answer share, :func:`normalised`; that of the best answer."""
    return max(_f1(normalised(prediction).split(), answer.split()) for answer in _known(answers))


def _known(answers: Sequence[str]) -> list[str]:
    return [answer for answer in map(normalised, answers) if answer] or [""]


def _f1(said: list[str], wanted: list[str]) -> float:
    if not said or not wanted:
        return float(said == wanted)
    shared = sum((Counter(said) & Counter(wanted)).values())
    return 2 * shared / (len(said) + len(wanted))
