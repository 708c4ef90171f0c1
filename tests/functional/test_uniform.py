"""The input at which a prediction is undecided."""

import pytest
import torch

from lightning_interpret.functional.baselines import entropy
from lightning_interpret.functional.uniform import ENOUGH, most_uniform

HEAD = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
START = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
FREE = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [0, 1, 1, 1, 1], [1, 0, 0, 0, 0]]).bool().unsqueeze(-1)


def undecided(points, rows):
    return (torch.tanh(points).sum(dim=1) @ HEAD * 3).log_softmax(dim=1)


def test_the_entropy_reaches_its_bound_and_only_what_is_free_moves():
    found, reached, taken = most_uniform(undecided, START, FREE, torch.full((4,), 2.0))
    assert float(entropy(undecided(START, None)).min()) < 0.1
    torch.testing.assert_close(reached, entropy(undecided(found, None)))
    assert float(reached.min()) >= ENOUGH
    assert torch.equal(found.masked_select(~FREE), START.masked_select(~FREE))
    assert int(taken.max()) <= 64


def test_a_row_goes_its_way_whichever_rows_are_beside_it():
    reach = torch.full((4,), 2.0)
    together = most_uniform(undecided, START, FREE, reach, chunk=3)
    for row in range(4):
        alone = most_uniform(undecided, START[row : row + 1], FREE[row : row + 1], reach[:1])
        for mine, whole in zip(alone, together, strict=True):
            torch.testing.assert_close(mine[0], whole[row], rtol=0, atol=1e-10)


def test_no_step_is_longer_than_its_reach_and_none_goes_away_from_uniform():
    seen, off = START, -undecided(START, None).mean(dim=1)
    begin = off
    for steps in range(2, 12):
        found, _, _ = most_uniform(undecided, START, FREE, torch.full((4,), 0.05).double(), steps=steps)
        assert float((found - seen).flatten(1).norm(dim=1).max()) <= 0.05 + 1e-9
        now = -undecided(found, None).mean(dim=1)
        assert bool((now <= off).all())
        seen, off = found, now
    assert bool((off < begin).all())


def test_where_nothing_moves_the_entropy_it_stays_and_says_so():
    def flat(points, rows):
        return points.sum(dim=1)[:, :2] * 0 + torch.tensor([0.9, 0.1]).double().log()

    found, reached, taken = most_uniform(flat, START, FREE, torch.ones(4))
    assert torch.equal(found, START)
    assert reached.tolist() == pytest.approx([0.469] * 4, abs=1e-3)
    assert taken.tolist() == [1] * 4


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_ends_the_ascent(value):
    def broken(points, rows):
        return points.sum(dim=1)[:, :2] * value

    found, _, taken = most_uniform(broken, START, FREE, torch.ones(4))
    assert torch.equal(found, START)
    assert int(taken.max()) <= 64
