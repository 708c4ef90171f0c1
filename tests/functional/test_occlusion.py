"""Golden case T4, and how a set's loss becomes scores of units."""

import captum.attr
import pytest
import torch

from lightning_interpret.functional.occlusion import differences, share, window_starts

X = torch.tensor([[20.0, 50.0, 30.0]], dtype=torch.float64)


def net(points):
    """Captum's own net: h = relu(Wx + c), W of ones, y = Σh − 1."""
    bias = torch.tensor([-10.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    return (points.sum(dim=1, keepdim=True) + bias).relu().sum(dim=1) - 1


def sets_of(*sets, size=3):
    """The sets of the first row, each given by its units."""
    members = torch.zeros(len(sets), size, dtype=torch.bool)
    for i, units in enumerate(sets):
        members[i, list(units)] = True
    return torch.zeros(len(sets), dtype=torch.long), members


def occlusion(x, sets, baseline=0.0, function=net):
    def without(row, members):
        return function(x[row].masked_fill(members, baseline))

    return differences(without, function(x), [sets])


@pytest.mark.parametrize(
    ("x", "baseline", "sets", "expected"),
    [
        ((20, 50, 30), 0.0, [(0,), (1,), (2,)], (80, 200, 120)),
        ((20, 50, 30), 0.0, [(0, 1), (2,)], (280, 120)),
        ((20, 50, 30), 4.0, [(0, 1), (2,)], (248, 104)),
        ((2, 10, 3), 0.0, [(0,), (1,), (2,)], (8, 35, 12)),
    ],
)
def test_t4_what_is_lost_without_units(x, baseline, sets, expected):
    point = torch.tensor([x], dtype=torch.float64)
    found = occlusion(point, sets_of(*sets), baseline)
    assert found.tolist() == list(expected)
    assert share(found, [sets_of(*sets)], (1, 3)).sum().item() == pytest.approx(sum(expected))


def test_t4_the_parts_of_a_group_are_equal_and_captum_gives_each_the_whole():
    groups = sets_of((0, 1), (2,))
    scores = share(occlusion(X, groups), [groups], (1, 3))
    assert scores.tolist() == [[140, 140, 120]]
    peer = captum.attr.FeatureAblation(net).attribute(X, feature_mask=torch.tensor([[0, 0, 1]]))
    torch.testing.assert_close(scores * torch.tensor([2.0, 2.0, 1.0]), peer, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("length", "window", "stride"), [(7, 1, 1), (7, 3, 1), (7, 3, 3), (8, 3, 2), (2, 5, 1), (5, 2, 2)]
)
def test_windows_agree_with_captum(length, window, stride):
    """Captum gives each unit the mean loss of its windows; shared out, a window of w units gives 1/w of it to each."""
    torch.manual_seed(0)
    x, weight = torch.randn(1, length, dtype=torch.float64), torch.randn(length, length, dtype=torch.float64)

    def function(points):
        return torch.tanh(points @ weight).sum(dim=1) + points[:, 0] * points[:, -1]

    starts = window_starts(length, window, stride).tolist()
    windows = [range(start, min(start + window, length)) for start in starts]
    assert {place for units in windows for place in units} == set(range(length))
    sets = sets_of(*windows, size=length)
    lost = occlusion(x, sets, function=function)
    sizes = torch.tensor([len(units) for units in windows], dtype=torch.float64)
    found = share(lost * sizes, [sets], (1, length))
    peer = captum.attr.Occlusion(function).attribute(x, (min(window, length),), strides=(stride,))
    torch.testing.assert_close(found.float(), peer.float(), rtol=1e-6, atol=1e-6)


def test_no_place_has_no_window():
    assert window_starts(0, 3, 1).tolist() == []


def test_an_additive_score_is_shared_out_to_its_terms_whatever_the_windows():
    weight = torch.full((6,), 1.5, dtype=torch.float64)
    x = torch.ones(1, 6, dtype=torch.float64)
    sets = sets_of(*[range(start, start + 3) for start in range(4)], size=6)
    lost = occlusion(x, sets, function=lambda points: points @ weight)
    torch.testing.assert_close(share(lost, [sets], (1, 6))[0], weight)


def test_rows_and_passes_are_kept_apart():
    x = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]], dtype=torch.float64)
    passes = [
        (torch.tensor([1, 0]), torch.tensor([[True, True, False], [False, False, True]])),
        (torch.tensor([0]), torch.tensor([[True, False, False]])),
    ]
    lost = differences(lambda row, units: x[row].masked_fill(units, 0).sum(dim=1), x.sum(dim=1), passes)
    assert lost.tolist() == [24, 4, 1]
    assert share(lost, passes, (2, 3)).tolist() == [[1, 0, 4], [12, 12, 0]]


def test_without_sets_there_is_nothing():
    lost = differences(lambda row, units: row, torch.ones(2), [])
    assert lost.tolist() == []
    assert share(lost, [], (2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]
