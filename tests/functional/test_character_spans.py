"""Rationales of one tokenisation in those of another: by characters, against a loop over them, or refused."""

import random

import pytest
import torch

from lightning_interpret.functional.character_spans import UNKNOWN, tokens_of_spans


def by_characters(spans, offsets):
    """The same, character by character."""
    if spans is None:
        return [UNKNOWN] * len(offsets)
    marked = {at for start, end in spans for at in range(start, end)}
    return [UNKNOWN if a == b else int(any(at in marked for at in range(a, b))) for a, b in offsets]


def test_a_token_is_selected_where_one_of_its_characters_is():
    rng = random.Random(0)
    rows = []
    for _ in range(60):
        length = rng.randrange(40)
        cuts = sorted(rng.randrange(length + 1) for _ in range(16))
        offsets = [(0, 0), *zip(cuts[::2], cuts[1::2], strict=True), (0, 0)]
        ends = [sorted((rng.randrange(length + 1), rng.randrange(length + 1))) for _ in range(rng.randrange(4))]
        rows.append((rng.choice((None, ends, ends, ends)), offsets, length))
    spans, offsets, lengths = map(list, zip(*rows, strict=True))
    found = tokens_of_spans(spans, torch.tensor(offsets), lengths)
    assert found.dtype == torch.long
    assert found.tolist() == [by_characters(s, o) for s, o in zip(spans, offsets, strict=True)]


def test_no_texts_no_tokens_and_no_spans():
    assert tokens_of_spans([], torch.zeros(0, 3, 2, dtype=torch.long), []).shape == (0, 3)
    assert tokens_of_spans([[]], torch.zeros(1, 0, 2, dtype=torch.long), [0]).shape == (1, 0)
    assert tokens_of_spans([[], None], torch.tensor([[[0, 2]], [[0, 2]]]), [2, 2]).tolist() == [[0], [UNKNOWN]]


@pytest.mark.parametrize(
    ("spans", "offsets", "lengths", "words"),
    [
        ([[(0, 4)]], [[(0, 2)]], [3], r"`spans` do not fit the texts: \(0, 4\) of text 0, which has 3 characters"),
        ([[(2, 1)]], [[(0, 2)]], [3], r"`spans` do not fit .* \(2, 1\) of text 0"),
        ([[], []], [[(0, 2)], [(0, 9)]], [3, 3], r"`offsets` do not fit .* token 0 of text 1 is at \(0, 9\), .* has 3"),
        ([[]], [[(2, 1)]], [3], r"`offsets` do not fit the texts"),
        ([[]], [[(0, 1)], [(0, 1)]], [3], r"`offsets` \(2, 1, 2\) must be .* `spans` \(1\)"),
    ],
)
def test_what_does_not_fit_the_text_is_refused_by_its_place(spans, offsets, lengths, words):
    with pytest.raises(ValueError, match=words):
        tokens_of_spans(spans, torch.tensor(offsets), lengths)
