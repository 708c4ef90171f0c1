"""The choice of a budget: exactly as many tokens as asked for, or whole words, against a slow one of each row."""

import random

import pytest
import torch

from lightning_interpret.functional.gates import budgets, select


def slow(scores, selectable, share, words=None):
    """Select the tokens of one row."""
    places = [i for i in range(len(scores)) if selectable[i]]
    if not places:
        return set()
    budget = max(1, round(share * len(places)))
    if words is None:
        return set(sorted(places, key=lambda i: (-scores[i], i))[:budget])
    stretches = []
    for i in range(len(scores)):
        if i and words[i] == words[i - 1] and words[i] >= 0:
            stretches[-1].append(i)
        else:
            stretches.append([i])
    stretches = [kept for each in stretches if (kept := [i for i in each if selectable[i]])]
    stretches.sort(key=lambda each: (-max(scores[i] for i in each), each[0]))
    sums = [sum(map(len, stretches[: m + 1])) for m in range(len(stretches))]
    best = min(range(len(sums)), key=lambda m: (abs(sums[m] - budget), m))
    return {i for each in stretches[: best + 1] for i in each}


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_batch_is_selected_as_its_rows_are_one_by_one(dtype, whole):
    random.seed(0)
    generator = torch.Generator().manual_seed(0)
    for share in (0.01, 0.1, 0.25, 0.5, 0.77, 1.0):
        scores = torch.randint(-4, 5, (60, 17), generator=generator).to(dtype) / 3  # many are equal
        selectable = torch.rand(60, 17, generator=generator) < torch.rand(60, 1, generator=generator)
        words = torch.randint(-1, 2, (60, 17), generator=generator) if whole else None  # ids come again
        chosen = select(scores, selectable, share, words)
        assert chosen.dtype == torch.bool
        for i in range(60):
            expected = slow(scores[i].tolist(), selectable[i].tolist(), share, None if words is None else words[i])
            assert set(chosen[i].nonzero()[:, 0].tolist()) == expected
        if not whole:
            assert torch.equal(chosen.sum(dim=1), budgets(selectable, share))


def test_a_budget_is_rounded_and_one_at_least_where_anything_may_be_selected():
    selectable = torch.arange(40) < torch.tensor([[0], [1], [2], [7], [10], [40]])
    assert budgets(selectable, 0.2).tolist() == [0, 1, 1, 1, 2, 8]
    assert budgets(selectable, 0.35).tolist() == [0, 1, 1, 2, 4, 14]  # 3.5 in double precision
    assert select(torch.zeros(6, 40), selectable, 0.2).sum(dim=1).tolist() == [0, 1, 1, 1, 2, 8]


def test_equal_scores_are_taken_in_order_and_no_score_is_too_strange():
    selectable = torch.tensor([[0, 1, 1, 1, 1]]).bool()
    assert select(torch.zeros(1, 5), selectable, 0.5).tolist() == [[False, True, True, False, False]]
    odd = torch.tensor([[torch.inf, torch.nan, -torch.inf, torch.inf, 1e4]])
    assert select(odd, selectable, 0.25).tolist() == [[False, False, False, True, False]]
    assert select(odd, selectable, 0.5).tolist() == [[False, False, False, True, True]]
    assert select(odd, selectable, 1.0).equal(selectable)
    assert select(odd[:, :1], torch.ones(1, 1).bool(), 0.01).tolist() == [[True]]


def test_a_word_is_whole_and_words_of_two_texts_are_two():
    selectable = torch.tensor([[0, 1, 1, 1, 1, 0, 1, 1, 0]]).bool()
    words = torch.tensor([[-1, 0, 1, 1, 1, -1, 0, 1, -1]])  # a pair: the ids start again
    scores = torch.tensor([[9.0, 0.1, 0.2, 0.9, 0.1, 9.0, 0.5, 0.3, 9.0]])
    assert select(scores, selectable, 0.5, words).nonzero()[:, 1].tolist() == [2, 3, 4]
    assert select(scores, selectable, 0.65, words).nonzero()[:, 1].tolist() == [2, 3, 4, 6]
    assert select(scores, selectable, 0.01, words).nonzero()[:, 1].tolist() == [2, 3, 4]  # one word at least


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=r"`share=.*` must be above 0 and at most 1"):
        select(torch.zeros(1, 2), torch.ones(1, 2).bool(), share)
