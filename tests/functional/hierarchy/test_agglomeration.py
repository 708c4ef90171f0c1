"""Bottom-up agglomeration: what is joined first, ties, several at once, how often a score is asked for."""

import math
from itertools import pairwise

import pytest
import torch

from lightning_interpret.functional.hierarchy.agglomeration import agglomerate
from lightning_interpret.functional.hierarchy.tree import level_order


def _scores(size, rows=1, seed=0):
    table = torch.randn(rows, size + 1, size + 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return lambda of, start, end: table[of, start, end]


def _slowly(score, length):
    """One pair at a time, all looked at anew before each."""
    spans, made = [(i, i + 1) for i in range(length)], {}

    def s(span):
        return float(score(*(torch.tensor([v]) for v in (0, *span))))

    while len(spans) > 1:
        pairs = [(a, b) for a, b in pairwise(spans)]
        joints = [s((a[0], b[1])) - s(a) - s(b) for a, b in pairs]
        best = max(range(len(pairs)), key=lambda i: (abs(joints[i]), -i))
        a, b = pairs[best]
        made[a[0], b[1]] = ([a, b], pytest.approx(joints[best]))
        spans[best : best + 2] = [(a[0], b[1])]
    return made


@pytest.mark.parametrize("seed", range(5))
def test_the_neighbours_that_do_most_together_are_joined_first(seed):
    score = _scores(9, seed=seed)
    (found,) = agglomerate(score, [9], percentile=100)
    assert found.parts == _slowly(score, 9)


def test_a_negation_is_joined_to_what_it_turns():
    """'not' turns 'good', which stand in a text of words that add up."""
    words = torch.tensor([0.5, 0.0, 2.0, -0.25])

    def score(of, start, end):
        inside = (torch.arange(4) >= start[:, None]) & (torch.arange(4) < end[:, None])
        turned = inside[:, 1] & inside[:, 2]
        return (inside * words).sum(dim=1) - 3.0 * turned

    (found,) = agglomerate(score, [4])
    assert next(iter(found.parts)) == (1, 3)
    assert found.parts[1, 3] == ([(1, 2), (2, 3)], -3.0)
    assert found.scores[1, 3] == -1.0


@pytest.mark.parametrize("percentile", [0, 50, 95, 100])
def test_whatever_is_joined_at_once_the_leaves_are_the_units(percentile):
    lengths = [12, 1, 0, 2, 7]
    found = agglomerate(_scores(12, rows=5), lengths, percentile=percentile)
    for each, length in zip(found, lengths, strict=True):
        nodes = level_order(length, each.parts)
        leaves = sorted((node.start, node.end) for node in nodes if not node.children)
        assert leaves == [(i, i + 1) for i in range(length)]
        assert all((node.start, node.end) in each.scores for node in nodes)
        for (start, end), (parts, interaction) in each.parts.items():
            assert interaction == pytest.approx(each.scores[start, end] - sum(each.scores[p] for p in parts))
        if percentile == 0 and length > 1:
            assert list(each.parts) == [(0, length)]  # all at once


def test_scores_are_asked_for_once_a_span_and_in_few_calls():
    asked, score = [], _scores(30, rows=2)

    def watched(of, start, end):
        asked.append(list(zip(of.tolist(), start.tolist(), end.tolist(), strict=True)))
        return score(of, start, end)

    agglomerate(watched, [30, 20], percentile=100)
    every = [span for call in asked for span in call]
    assert len(every) == len(set(every)) < 4 * 50
    assert len(asked) <= 30
    assert max(map(len, asked[1:])) <= 2 * 2


def test_a_batch_is_its_texts_one_by_one():
    score = _scores(8, rows=3)
    together = agglomerate(score, [8, 3, 5])
    for row, length in enumerate([8, 3, 5]):
        (alone,) = agglomerate(lambda of, *span, row=row: score(of + row, *span), [length])
        assert together[row].parts == alone.parts


@pytest.mark.parametrize("value", [0.0, 1.5, math.nan])
def test_ties_are_joined_from_the_first_on(value):
    generator = torch.Generator().manual_seed(0)

    def score(of, start, end):
        return (end - start) * value + 1e-9 * torch.randn(len(of), generator=generator, dtype=torch.float64)

    (found,) = agglomerate(score, [5], percentile=100, scale=[2.0])
    assert list(found.parts) == [(0, 2), (0, 3), (0, 4), (0, 5)]


def test_a_percentile_out_of_its_range_is_refused():
    with pytest.raises(ValueError, match="`percentile=101` must be from 0 to 100"):
        agglomerate(_scores(3), [3], percentile=101)
