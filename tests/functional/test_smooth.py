"""Golden case T18, and moments against those of values that are kept."""

import pytest
import torch

from lightning_interpret.functional.gradient import gradient
from lightning_interpret.functional.smooth import Moments, smoothed


def moments(score, x, sigma, samples, **options):
    scale = torch.full((len(x),), sigma, dtype=x.dtype)
    return smoothed(score, x, scale, torch.ones_like(x, dtype=torch.bool), samples=samples, **{"seed": 0} | options)


def linear(points, rows):
    return points @ torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)


def square(points, rows):
    return points.square().sum(dim=1)


X = torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 4.0]], dtype=torch.float64)


@pytest.mark.parametrize(("sigma", "samples"), [(0.0, 1), (0.5, 1), (3.0, 7)])
def test_t18_of_a_linear_score_it_is_the_gradient(sigma, samples):
    mean, _ = moments(linear, X, sigma, samples).estimate("mean")
    torch.testing.assert_close(mean, gradient(linear, X))
    if samples > 1:
        variance, error = moments(linear, X, sigma, samples).estimate("variance")
        assert variance.abs().max() == error.abs().max() == 0


def test_t18_one_sample_without_noise_is_the_gradient():
    found = moments(square, X, 0.0, 1)
    assert torch.equal(found.estimate("mean")[0], gradient(square, X))
    assert torch.equal(found.estimate("squared")[0], gradient(square, X).square())
    assert all(found.estimate(mode)[1].isnan().all() for mode in ("mean", "squared", "variance"))


def test_t18_of_a_square_it_is_within_three_standard_errors():
    """The gradient 2(x + ε) is normal with mean 2x and variance 4σ² = 1."""
    found = moments(square, X, 0.5, 1000)
    mean, error = found.estimate("mean")
    torch.testing.assert_close(mean, 2 * X, rtol=0, atol=0.095)
    torch.testing.assert_close(error, torch.full_like(X, 0.0316), rtol=0.1, atol=0)
    for mode, expected, spread in [("squared", 4 * X**2 + 1, 2 + 16 * X**2), ("variance", torch.ones_like(X), 2.0)]:
        value, error = found.estimate(mode)
        assert bool(((value - expected).abs() < 3 * error).all())
        torch.testing.assert_close(
            error, (torch.as_tensor(spread).double() / 1000).sqrt().expand(2, 3), rtol=0.2, atol=0
        )


def test_t18_one_seed_is_one_result_and_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    first, again, other = (moments(square, X, 0.5, 5, seed=seed).mean for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_passes_rows_and_padding_change_no_noise():
    whole = moments(square, X, 0.5, 6)
    for chunk in (1, 2, 3, 5, 100):
        parts = moments(square, X, 0.5, 6, chunk=chunk, order=torch.tensor([1, 0]))
        for name in ("mean", "second", "third", "fourth"):
            torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=0, atol=1e-12)
    torch.testing.assert_close(moments(square, X[1:], 0.5, 6).mean[0], whole.mean[1])
    wide = torch.cat([torch.full((2, 2), 9.0, dtype=torch.float64), X], dim=1)
    noisy = torch.tensor([False, False, True, True, True]).expand(2, 5)
    padded = smoothed(square, wide, torch.full((2,), 0.5, dtype=torch.float64), noisy, samples=6, seed=0)
    torch.testing.assert_close(padded.mean[:, 2:], whole.mean)
    assert padded.mean[:, :2].unique().tolist() == [18]
    assert padded.second[:, :2].abs().max() == 0


@pytest.mark.parametrize("samples", [2, 3, 5, 40])
def test_moments_are_those_of_values_that_are_kept(samples):
    generator = torch.Generator().manual_seed(0)
    values = 100 + torch.randn(samples, 4, dtype=torch.float64, generator=generator).exp()
    seen = Moments.like(values[0])
    for value in values:
        seen.add(value)
    centred = values - values.mean(dim=0)
    torch.testing.assert_close(seen.mean, values.mean(dim=0))
    for name, power in [("second", 2), ("third", 3), ("fourth", 4)]:
        torch.testing.assert_close(getattr(seen, name), (centred**power).sum(dim=0), rtol=1e-9, atol=1e-9)
    squares = values.square()
    found, error = seen.estimate("squared")
    torch.testing.assert_close(found, squares.mean(dim=0))
    torch.testing.assert_close(error, squares.std(dim=0) / samples**0.5, rtol=1e-6, atol=0)
    torch.testing.assert_close(seen.estimate("variance")[0], values.var(dim=0))
    assert bool((seen.estimate("variance")[1] > 0).all())


def test_the_standard_error_is_how_far_results_of_other_seeds_lie_apart():
    def score(points, rows):
        return (points.relu() ** 3).sum(dim=1)

    x = torch.full((1, 3), 0.3, dtype=torch.float64)
    runs = [moments(score, x, 0.5, 60, seed=seed) for seed in range(60)]
    for mode in ("mean", "squared", "variance"):
        values, errors = (torch.stack(found) for found in zip(*(run.estimate(mode) for run in runs), strict=True))
        said = errors.square().mean(dim=0).sqrt()
        torch.testing.assert_close(said, values.std(dim=0), rtol=0.35, atol=0)


def test_a_mode_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"`mode='square'` does not exist\. Did you mean 'squared'"):
        moments(square, X, 0.5, 2).estimate("square")
