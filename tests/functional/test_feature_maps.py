"""Feature maps as published, against closed forms and slow loops; their accounts add up."""

import pytest
import torch

from lightning_interpret.functional.feature_maps import difference_map, layer_cam, min_max, odam, sum_channels
from lightning_interpret.functional.gradient import gradient
from lightning_interpret.functional.path import integrate

SHAPES = [(3, 4, 2, 3), (3, 5, 4)]  # of a convolutional net, of a transformer


def tensors(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(3)]


def total(scores):
    return scores.flatten(1).sum(dim=1)


# Golden cases: F = a − b with a = 3, b = 2 and a baseline of zeros, so T = 1


@pytest.mark.parametrize(
    ("features", "slopes", "published"),
    [
        ([[[3.0]], [[2.0]]], [[[1.0]], [[-1.0]]], 1),  # G3: two channels, one location
        ([[[3.0, 2.0]]], [[[1.0, -1.0]]], 3),  # G4: two locations
    ],
)
def test_g3_g4_a_difference_of_two_features(features, slopes, published):
    features, slopes = torch.tensor([features]), torch.tensor([slopes])
    target = torch.ones(1, dtype=torch.float64)
    cam, boxed = layer_cam(features, slopes), odam(features, slopes)
    assert total(cam.scores).item() == 3
    assert total(boxed.scores).item() == published
    assert total(sum_channels(features * slopes)).item() == 1
    assert cam.account(target) == {"negative gradients": -2, "negative locations": 0, "higher orders": 0}
    assert boxed.account(target) == {"negative locations": 1 - published, "higher orders": 0}


def test_g8_pictures_do_not_subtract_but_attributions_do():
    weights, x = torch.tensor([[1, -2, 0.5], [0.3, 1, -1]]), torch.tensor([[[2.0], [1.0], [3.0]]])  # three units
    one, other = (odam(x, row[None, :, None].expand_as(x)) for row in weights)
    difference = difference_map(one, other)
    torch.testing.assert_close(difference.scores, torch.tensor([[0.4, -1, 0.75]]))
    signed = [x[..., 0] * row for row in weights]
    torch.testing.assert_close(signed[0] - signed[1], torch.tensor([[1.4, -3, 4.5]]))
    torch.testing.assert_close(signed[0] - signed[1], x[..., 0] * (weights[0] - weights[1]))
    target = (x[0, :, 0] @ (weights[0] - weights[1])).double()[None]
    account = difference.account(target)
    assert account["negative locations"].item() == pytest.approx(-2 - -3)
    assert account["scale"].item() == pytest.approx((3.5 - 1.6) - 0.15)
    assert account["higher orders"].item() == pytest.approx(0, abs=1e-6)
    assert (total(difference.scores) + sum(account.values())).item() == pytest.approx(target.item())


def test_g10_zero_features_give_credit_to_a_location_that_did_not_change():
    """F = x1·x2 + x1 at (3, 2) from x' = (0, 2): location 2 is what it was."""

    def score(points, rows):
        one, two = points[:, 0, 0, 0], points[:, 0, 0, 1]
        return one * two + one

    x = torch.tensor([[[[3.0, 2.0]]]], dtype=torch.float64)
    baseline = torch.tensor([[[[0.0, 2.0]]]], dtype=torch.float64)
    target = torch.tensor([9.0], dtype=torch.float64)
    for published in (layer_cam(x, gradient(score, x)), odam(x, gradient(score, x))):
        assert published.scores.flatten().tolist() == [9, 6]
        assert published.account(target)["higher orders"].item() == -6
    repaired = integrate(score, x, baseline, target=target, baseline_target=0 * target, per_unit=sum_channels)
    torch.testing.assert_close(repaired.contributions.flatten(), torch.tensor([9.0, 0.0], dtype=torch.float64))


# Laws


@pytest.mark.parametrize("shape", SHAPES)
def test_maps_are_their_definitions(shape):
    """A loop over rows, locations and channels."""
    features, slopes, _ = tensors(shape)
    maps = layer_cam(features, slopes).scores, odam(features, slopes).scores
    if features.dim() == 4:
        features, slopes = features.flatten(2).transpose(1, 2), slopes.flatten(2).transpose(1, 2)
    maps = [found.flatten(1) for found in maps]
    for n in range(features.shape[0]):
        for place in range(features.shape[1]):
            cam = signed = 0.0
            for k in range(features.shape[2]):
                h, g = features[n, place, k].item(), slopes[n, place, k].item()
                cam += max(g, 0.0) * h
                signed += g * h
            assert maps[0][n, place].item() == pytest.approx(max(cam, 0), abs=1e-12)
            assert maps[1][n, place].item() == pytest.approx(max(signed, 0), abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_account_adds_up(shape):
    features, slopes, other = tensors(shape)
    target = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    for maps in (layer_cam, odam):
        found = maps(features, slopes)
        every = [found, difference_map(found, maps(features, other))]
        for drawn in every:
            account = drawn.account(target)
            torch.testing.assert_close(total(drawn.scores) + sum(account.values()), target)
            first = total(sum_channels(features * (slopes if drawn is found else slopes - other)))
            torch.testing.assert_close(account["higher orders"], target - first)


def test_what_is_dropped_is_nothing_where_nothing_is_negative():
    features, slopes, _ = (values.abs() for values in tensors(SHAPES[0]))
    cam, boxed = layer_cam(features, slopes), odam(features, slopes)
    assert all(not amount.any() for found in (cam, boxed) for amount in found.dropped.values())
    torch.testing.assert_close(cam.scores, boxed.scores)


def test_positive_features_have_no_negative_location_in_layer_cam():
    """After a ReLU the outer one does nothing; after a GELU it cuts."""
    features, slopes, _ = tensors(SHAPES[0])
    assert not layer_cam(features.relu(), slopes).dropped["negative locations"].any()
    assert layer_cam(features, slopes).dropped["negative locations"].all()


def test_what_is_not_shown_is_dropped():
    scores = torch.tensor([[9.0, 1, 3, 2], [5, 2, 2, 2]])
    shown = torch.tensor([[False, True, True, True]] * 2)
    torch.testing.assert_close(min_max(scores)[0], torch.tensor([1, 0, 0.25, 0.125]))
    torch.testing.assert_close(min_max(scores, shown), torch.tensor([[0, 0, 1, 0.5], [0, 0, 0, 0]]))
    features, slopes, other = tensors((2, 4, 3))
    drawn = difference_map(odam(features, slopes), odam(features, other), shown=shown)
    target = torch.tensor([1.0, -2.0], dtype=torch.float64)
    account = drawn.account(target)
    assert drawn.scores[:, 0].tolist() == [0, 0]
    torch.testing.assert_close(total(drawn.scores) + sum(account.values()), target)
    first = [sum_channels(features * g)[:, 0].clamp(min=0) for g in (slopes, other)]
    torch.testing.assert_close(account["special tokens"], first[0] - first[1])
