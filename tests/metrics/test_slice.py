"""Accuracy on a slice: beside a loop, in pieces, and what it refuses."""

import pytest
import torch

from lightning_interpret.metrics.slice import SliceAccuracy

DRAW = torch.Generator().manual_seed(0)
PREDICTED = torch.randint(3, (50,), generator=DRAW)
GOLD = torch.randint(-1, 3, (50,), generator=DRAW)
MEMBER = torch.rand(50, generator=DRAW) < 0.4


def test_it_is_the_share_of_a_loop_and_in_pieces_the_same():
    rows = zip(PREDICTED.tolist(), GOLD.tolist(), MEMBER.tolist(), strict=True)
    counted = [predicted == gold for predicted, gold, there in rows if there and gold >= 0]
    whole, parts = SliceAccuracy(), SliceAccuracy()
    whole.update(PREDICTED, GOLD, MEMBER)
    for start in range(0, 50, 7):
        parts.update(*(each[start : start + 7] for each in (PREDICTED, GOLD, MEMBER)))
    assert float(whole.compute()) == float(parts.compute()) == pytest.approx(sum(counted) / len(counted))
    assert int(whole.size) == int(parts.size) == len(counted)
    parts.reset()
    assert int(parts.size) == 0


def test_a_slice_of_none_is_not_a_number():
    metric = SliceAccuracy()
    metric.update(PREDICTED, GOLD, torch.zeros(50, dtype=torch.bool))
    metric.update(torch.tensor([1]), torch.tensor([-1]), torch.tensor([True]))  # without a label
    assert metric.compute().isnan()


def test_members_may_be_numbers():
    metric = SliceAccuracy()
    metric.update(torch.tensor([1, 1]), torch.tensor([1, 0]), torch.tensor([1, 0]))
    assert float(metric.compute()) == 1.0


@pytest.mark.parametrize("short", range(3))
def test_another_shape_is_refused_by_name(short):
    given = [each[: 9 if i == short else 10] for i, each in enumerate((PREDICTED, GOLD, MEMBER))]
    with pytest.raises(ValueError, match=r"`predicted` \(\d+,\), `gold` \(\d+,\) and `member` \(\d+,\) must have one"):
        SliceAccuracy().update(*given)
