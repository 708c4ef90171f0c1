import pytest
import torch

from lightning_interpret.functional.influence.top import TopK


def streamed(scores, k, size, ids=None):
    top = TopK(k)
    ids = torch.arange(scores.shape[1]) if ids is None else ids
    for part in torch.arange(scores.shape[1]).split(size):
        top.update(ids[part], scores[:, part])
    return top


def expected(scores, k, *, largest):
    sign = 1 if largest else -1
    rows = []
    for row in scores.tolist():
        ranked = sorted(enumerate(row), key=lambda pair: (-sign * pair[1], pair[0]))
        rows.append([(i, score) for i, score in ranked[:k] if sign * score > 0])
    return rows


@pytest.mark.parametrize("size", [1, 7, 100])
@pytest.mark.parametrize("k", [1, 5, 200])
def test_a_stream_has_the_top_of_the_whole_however_it_is_cut(size, k):
    scores = torch.randn(4, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64).round(decimals=1)
    top = streamed(scores, k, size)
    for largest in (True, False):
        assert top.found(largest=largest) == expected(scores, k, largest=largest)
    assert (top.examples, top.skipped) == (60, 0)


def test_without_regard_to_the_sign_the_largest_are_the_largest_and_0_is_none():
    top = streamed(torch.tensor([[-3.0, 0.0, 2.0, -1.0], [0.0, 0.0, 0.0, 0.0]]), 3, 2)
    assert top.found(largest=True, signed=False) == [[(2, 2.0), (3, -1.0)], []]
    assert top.found(largest=False, signed=False) == [[(0, -3.0), (3, -1.0)], []]


def test_order_of_the_stream_changes_nothing_and_ties_go_to_the_smaller_id():
    scores = torch.tensor([[1.0, 2.0, 2.0, -1.0, -1.0, 2.0]])
    order = torch.tensor([5, 3, 2, 0, 4, 1])
    shuffled = streamed(scores[:, order], 2, 2, ids=order)
    assert shuffled.found(largest=True) == [[(1, 2.0), (2, 2.0)]]
    assert shuffled.found(largest=False) == [[(3, -1.0), (4, -1.0)]]


@pytest.mark.parametrize("size", [2, 6])
def test_an_id_that_comes_again_counts_once(size):
    scores, ids = torch.tensor([[3.0, 3.0, 2.0, 1.0, 2.0, 3.0]]), torch.tensor([7, 7, 8, 9, 8, 7])
    assert streamed(scores, 2, size, ids=ids).found(largest=True) == [[(7, 3.0), (8, 2.0)]]


def test_examples_without_a_finite_score_are_left_out_and_counted():
    scores = torch.tensor([[1.0, torch.nan, 3.0], [1.0, 2.0, torch.inf]])
    top = streamed(scores, 3, 3)
    assert top.found(largest=True) == [[(0, 1.0)], [(0, 1.0)]]
    assert (top.examples, top.skipped) == (1, 2)


@pytest.mark.parametrize("k", [0, -1, 1.5, True])
def test_a_k_that_is_no_positive_number_is_refused(k):
    with pytest.raises(ValueError, match=f"`k={k!r}`"):
        TopK(k)


def test_training_data_without_examples_are_an_error_that_says_so():
    with pytest.raises(ValueError, match="no batch"):
        TopK(2).found(largest=True)
