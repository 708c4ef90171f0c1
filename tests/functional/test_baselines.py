import math

import pytest
import torch

from lightning_interpret import Baseline
from lightning_interpret.functional.baselines import (
    blur,
    check_shapes,
    content_mean,
    entropy,
    fill_features,
    fill_tokens,
    lay,
    nearest,
    pooled,
    tile_tokens,
)

IDS = torch.tensor([[2, 5, 6, 7, 3, 0], [2, 8, 3, 0, 0, 0]])
ABSENT = torch.tensor([[0, 1, 1, 1, 0, 0], [0, 1, 0, 0, 0, 0]]).bool()


def test_a_token_stands_at_the_absent_places_only():
    assert fill_tokens(IDS, ABSENT, 4).tolist() == [[2, 4, 4, 4, 3, 0], [2, 4, 3, 0, 0, 0]]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([9], [[2, 9, 9, 9, 3, 0], [2, 9, 3, 0, 0, 0]]),
        ([9, 8], [[2, 9, 8, 9, 3, 0], [2, 9, 3, 0, 0, 0]]),
        ([9, 8, 7, 6, 5], [[2, 9, 8, 7, 3, 0], [2, 9, 3, 0, 0, 0]]),
    ],
)
def test_a_neutral_text_is_repeated_or_cut(tokens, expected):
    assert tile_tokens(IDS, ABSENT, torch.tensor(tokens)).tolist() == expected


def test_a_neutral_text_begins_anew_at_each_row_and_skips_what_stays():
    ids = torch.tensor([[0, 0, 2, 5, 3, 6, 7, 3]])  # left padding, and a pair of texts
    absent = torch.tensor([[0, 0, 0, 1, 0, 1, 1, 0]]).bool()
    assert tile_tokens(ids, absent, torch.tensor([9, 8])).tolist() == [[0, 0, 2, 9, 3, 8, 9, 3]]


def test_a_vector_stands_at_the_absent_places_only():
    features = torch.randn(2, 6, 3, dtype=torch.float64)
    filled = fill_features(features, ABSENT, torch.tensor([1.0, 2.0, 3.0]))
    assert filled.dtype == torch.float64
    assert torch.equal(filled[~ABSENT], features[~ABSENT])
    assert filled[ABSENT].tolist() == [[1, 2, 3]] * 4


@pytest.mark.parametrize(
    ("given", "kind", "text", "name"),
    [
        ("pad", "pad", None, "pad"),
        (" mask ", "mask", None, "mask"),
        ("text: it is: what it is", "text", "it is: what it is", "text: it is: what it is"),
        (Baseline("zero", keep_special=False), "zero", None, "zero (special tokens too)"),
        (Baseline("text", "so so"), "text", "so so", "text: so so"),
        ("blur", "blur", None, "blur: 0.25"),
        ("blur: 0.1", "blur", None, "blur: 0.1"),
        ("default", "default", None, "default"),
    ],
)
def test_names(given, kind, text, name):
    baseline = Baseline.ensure(given)
    assert (baseline.kind, baseline.text, baseline.name) == (kind, text, name)


def test_an_unknown_name_is_told_the_near_ones():
    with pytest.raises(
        ValueError, match=r"`baseline='masks'` does not exist\. Did you mean 'mask'.*There is: pad, mask"
    ):
        Baseline.ensure("masks")


@pytest.mark.parametrize("wrong", ["text", "text:", "text:  ", "pad: a film"])
def test_a_text_goes_with_its_kind_and_no_other(wrong):
    with pytest.raises(ValueError, match="write a neutral text as 'text: the film was a film'"):
        Baseline.ensure(wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("blur: much", "give a blur as 'blur' or 'blur: 0.2'"),
        ("blur: 0", "give a blur as"),
        ("black: 1", "no text with"),
    ],
)
def test_a_blur_has_a_positive_width_and_others_have_none(wrong, message):
    with pytest.raises(ValueError, match=message):
        Baseline.ensure(wrong)


def test_a_blur_is_a_gaussian_of_each_channel_that_goes_on_at_the_edges():
    images = torch.rand(2, 3, 9, 12, dtype=torch.float64)
    sigma, radius, expected = 1.4, 4, torch.zeros(2, 3, 9, 12, dtype=torch.float64)
    weights = torch.zeros(9, 12, dtype=torch.float64)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            weight = torch.exp(torch.tensor(-(dy**2 + dx**2) / (2 * sigma**2), dtype=torch.float64))
            y, x = (torch.arange(9) + dy).clamp(0, 8), (torch.arange(12) + dx).clamp(0, 11)
            expected += weight * images[:, :, y][..., x]
            weights += weight
    torch.testing.assert_close(blur(images, sigma), expected / weights)
    flat = torch.full((1, 3, 5, 5), 0.3)
    torch.testing.assert_close(blur(flat, 20.0), flat)  # wider than the image


# What is drawn from other examples


@pytest.mark.parametrize("name", ["training_mean", "nearest", "distribution", "uniform"])
def test_names_of_what_is_drawn_or_found(name):
    assert Baseline.ensure(name).name == name
    assert Baseline.ensure(name).drawn == (name != "uniform")


def test_content_is_laid_on_content_again_and_again_or_cut():
    features = torch.arange(12.0).reshape(2, 6, 1)
    others = torch.tensor([[[0.0], [91.0], [0.0], [92.0]], [[70.0], [71.0], [72.0], [73.0]]])
    other_content = torch.tensor([[0, 1, 0, 1], [1, 1, 1, 1]]).bool()
    laid = lay(features, ABSENT, others, other_content)
    assert laid[..., 0].tolist() == [[0, 91, 92, 91, 4, 5], [6, 70, 8, 9, 10, 11]]


def test_an_example_without_positions_is_the_other_as_it_is():
    images, others = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    every = torch.ones(2).bool()
    assert torch.equal(lay(images, every, others, every), others)
    torch.testing.assert_close(content_mean(others, every), others.mean(dim=0))
    torch.testing.assert_close(pooled(others, every), others.flatten(1))
    filled = fill_features(images, torch.tensor([True, False]), others[0])
    assert torch.equal(filled[0], others[0])
    assert torch.equal(filled[1], images[1])
    with pytest.raises(ValueError, match=r"shape \(3, 5, 5\), the example of \(3, 4, 4\)"):
        check_shapes(images, every, torch.randn(2, 3, 5, 5), every)
    check_shapes(images, every, others, every)


def test_means_are_over_the_content():
    features = torch.randn(2, 6, 3, dtype=torch.float64)
    torch.testing.assert_close(content_mean(features, ABSENT), (features[0, 1:4].sum(0) + features[1, 1]) / 4)
    assert torch.equal(pooled(features, ABSENT)[1], features[1, 1])
    torch.testing.assert_close(pooled(features, ABSENT)[0], features[0, 1:4].mean(0))
    assert pooled(features, torch.zeros(2, 6).bool()).abs().sum() == 0


def test_the_nearest_has_the_largest_cosine_of_those_allowed():
    inputs = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    others = torch.tensor([[5.0, 0.5], [0.1, 0.0], [-1.0, 1.0]])
    allowed = torch.tensor([[1, 1, 1], [1, 1, 0]]).bool()
    assert nearest(inputs, others, allowed).tolist() == [1, 0]
    assert nearest(inputs, others, torch.tensor([[1, 0, 1], [0, 1, 1]]).bool()).tolist() == [0, 2]


def test_entropy_is_a_share_of_the_largest():
    logits = torch.tensor([[0.0, 0.0, 0.0], [500.0, 0.0, 0.0], [1.0, 1.0, -float("inf")]], dtype=torch.float64)
    found = entropy(logits.log_softmax(dim=1))
    assert found.tolist() == pytest.approx([1, 0, math.log(2) / math.log(3)])
    start = torch.tensor([[300.0, 0.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(entropy(start.log_softmax(dim=1)).sum(), start)
    assert bool(slope.isfinite().all())  # where a probability underflows to 0
