import pytest
import torch

from lightning_interpret.metrics import BestWindows


def add(metric, *windows):
    row, *numbers = zip(*windows, strict=True)
    metric.update(torch.tensor(row), *(torch.tensor(each, dtype=torch.float32) for each in numbers))


def test_a_row_says_what_its_best_window_says():
    metric = BestWindows()
    add(metric, (7, 1.0, 0.25, -5.0, 0.0), (3, 2.0, 1.0, -5.0, 0.0))
    add(metric, (7, 4.0, 0.5, -5.0, 0.0), (7, 3.0, 1.0, -6.0, 0.0))
    assert metric.compute().item() == pytest.approx((0.5 + 1.0) / 2)


def test_no_answer_needs_the_lowest_of_its_scores_to_be_best():
    metric = BestWindows()
    add(metric, (0, 1.0, 0.0, 3.0, 1.0), (0, 2.0, 0.5, 9.0, 1.0))  # 3 is above 2: no answer
    assert metric.compute() == 1
    metric.reset()
    add(metric, (0, 1.0, 0.0, 1.5, 1.0), (0, 2.0, 0.5, 9.0, 1.0))  # one window is all but sure of an answer
    assert metric.compute() == 0.5


def test_windows_that_come_twice_count_once():
    metric = BestWindows()
    add(metric, (0, 1.0, 1.0, -1.0, 0.0), (1, 1.0, 0.0, -1.0, 0.0))
    add(metric, (0, 1.0, 1.0, -1.0, 0.0))
    assert metric.compute() == 0.5


def test_no_row_is_0_and_shapes_that_differ_are_refused():
    assert BestWindows().compute() == 0
    with pytest.raises(ValueError, match=r"must all be \(B,\), but are \(2,\), \(1,\)"):
        BestWindows().update(torch.arange(2), *(torch.zeros(1) for _ in range(4)))
