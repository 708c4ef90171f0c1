"""Golden cases T1, T2, T3, T5, T24, G1, G2, G5, G9, G10 (see the case names), and what a quadrature has to obey."""

import math

import pytest
import torch
from torch import nn

from lightning_interpret.functional.gradient import gradient, gradient_times_input
from lightning_interpret.functional.path import RULES, integrate, parameter, quadrature, relative_error, running_weights


def double(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def score_of(function):
    """The score of a function of points ``(M, D)`` that does not depend on the row."""
    return lambda points, rows: function(points)


def path_integral(function, x, baseline, **options):
    """Contributions of fixed nodes on the path itself, 50 unless told otherwise."""
    options = {"steps": 50, "rule": "gauss_legendre", "tolerance": None} | options
    ends = {"target": function(x), "baseline_target": function(baseline)}
    return integrate(score_of(function), x, baseline, **ends, **options)


def contributions(function, x, baseline, **options):
    return path_integral(function, x, baseline, **options).contributions


def late_relu(x):
    return (x[:, 0].relu() - 1 - x[:, 1].relu()).relu()


def early_relu(x):
    return ((x[:, 0] - 1).relu() - x[:, 1].relu()).relu()


def saturating(x):
    return 1 - (1 - x[:, 0]).relu()


def product(x):
    return x[:, 0] * x[:, 1]


def linear(x):
    return x @ double([1, 2, 3])[0]


# Golden cases


@pytest.mark.parametrize("function", [late_relu, early_relu])
def test_t1_implementation_invariance(function):
    x, baseline = double([3, 1]), double([0, 0])
    scores = contributions(function, x, baseline)
    torch.testing.assert_close(scores, double([1.5, -0.5]), rtol=0, atol=1e-9)
    assert float(scores.sum() - (function(x) - function(baseline))) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("function", [late_relu, early_relu])
def test_t1_gradient_times_input_misses_its_target_by_one(function):
    x, baseline = double([3, 1]), double([0, 0])
    scores = gradient_times_input(score_of(function), x, baseline)
    assert scores.tolist() == [[3, -1]]
    assert float(scores.sum() - (function(x) - function(baseline))) == 1


def test_t2_saturation():
    x, baseline = double([2]), double([0])
    assert gradient(score_of(saturating), x).tolist() == [[0]]
    assert float(contributions(saturating, x, baseline)) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("baseline", "expected"), [((0, 0), (3, 3)), ((1, 1), (2, 3))])
def test_t3_the_baseline_matters(baseline, expected):
    scores = contributions(product, double([2, 3]), double(baseline))
    torch.testing.assert_close(scores, double(expected), rtol=0, atol=1e-9)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("nodes", range(2, 41))
def test_t5_quadrature_weights_sum_to_one(rule, nodes):
    places, weights = quadrature(rule, nodes)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-12)
    assert bool((weights > 0).all())
    assert bool(((places >= 0) & (places <= 1)).all())
    scores = contributions(linear, double([1, 1, 1]), double([0, 0, 0]), rule=rule, steps=nodes)
    torch.testing.assert_close(scores, double([1, 2, 3]), rtol=0, atol=1e-6)
    assert float(scores.sum()) == pytest.approx(6, abs=1e-6)


def test_t24_completeness_is_judged_by_tolerance():
    generator = torch.Generator().manual_seed(0)
    inexact = 0
    for _ in range(5):
        weight, x = torch.randn(40, generator=generator), torch.randn(1, 40, generator=generator)
        target, start = x @ weight, torch.zeros(1)
        result = integrate(
            lambda points, rows, weight=weight: points @ weight,
            x,
            torch.zeros_like(x),
            target=target,
            baseline_target=start,
            tolerance=1e-4,
        )
        error = result.contributions.sum(dim=1) - target
        inexact += bool(error != 0)
        assert float(relative_error(error, target - start, 0.01)) <= 1e-4
        assert result.steps.tolist() == [16]  # nothing to refine
    assert inexact  # float32 does not sum to the target to the last bit: equality would call these incomplete


@pytest.mark.parametrize(("rule", "expected"), [("midpoint", 1), ("left", 1), ("right", 0.96), ("gauss_legendre", 1)])
def test_g1_saturating_ramp(rule, expected):
    x, baseline = double([2]), double([0])
    assert float(contributions(saturating, x, baseline, rule=rule)) == pytest.approx(expected, abs=1e-9)
    assert float(gradient_times_input(score_of(saturating), x, baseline)) == 0


def test_g2_product():
    x, baseline = double([3, 2]), double([0, 0])
    first_order = gradient_times_input(score_of(product), x, baseline)
    assert first_order.tolist() == [[6, 6]]
    assert float(first_order.sum() - product(x)) == 6
    torch.testing.assert_close(contributions(product, x, baseline), double([3, 3]), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("rule", "steps", "expected", "within"),
    [("midpoint", 20, 0.499955, 1e-6), ("right", 20, 0.4375, 1e-4), ("right", 300, 0.4958, 1e-4)],
)
def test_g5_saturated_softmax(rule, steps, expected, within):
    def probability(x):
        return torch.cat([x, -x], dim=1).softmax(dim=1)[:, 0]

    x, baseline = double([5]), double([0])
    assert float(probability(x) - probability(baseline)) == pytest.approx(0.49995, abs=1e-5)
    scores = contributions(probability, x, baseline, rule=rule, steps=steps)
    assert float(scores) == pytest.approx(expected, abs=within)
    assert float(gradient_times_input(score_of(probability), x, baseline)) == pytest.approx(4.5e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (torch.float64, 0, 1e-5),
        (torch.float32, 0, 1e-5),
        (torch.bfloat16, 1e-3, 1e-1),
    ],
)
def test_g9_precision(dtype, low, high):
    torch.manual_seed(0)
    net = nn.Sequential(*[part for _ in range(6) for part in (nn.Linear(16, 16), nn.GELU())], nn.Linear(16, 1)).double()
    for weight in net.parameters():
        nn.init.normal_(weight, 0, 0.35)
    x = torch.randn(4, 16, dtype=torch.float64).to(dtype)
    net = net.to(dtype)
    with torch.no_grad():
        target, start = net(x)[:, 0], net(torch.zeros_like(x))[:, 0]
    result = integrate(
        lambda points, rows: net(points)[:, 0],
        x,
        torch.zeros_like(x),
        target=target,
        baseline_target=start,
        steps=64,
        tolerance=None,
    )
    missed = result.contributions.double().sum(dim=1) - (target.double() - start.double())
    relative = relative_error(missed, target.double() - start.double(), 0.01)
    assert low <= float(relative.max()) <= high


def test_g10_an_unchanged_unit_gets_nothing():
    def function(x):
        return product(x) + x[:, 0]

    x, baseline = double([3, 2]), double([0, 2])
    torch.testing.assert_close(contributions(function, x, baseline), double([9, 0]), rtol=0, atol=1e-12)
    first_order = gradient_times_input(score_of(function), x, double([0, 0]))
    assert first_order.tolist() == [[9, 6]]
    assert float(first_order.sum() - (function(x) - function(baseline))) == 6


# Quadrature


@pytest.mark.parametrize("nodes", [1, 2, 5, 20])
def test_gauss_legendre_is_exact_to_its_degree_and_no_further(nodes):
    places, weights = quadrature("gauss_legendre", nodes)
    for degree in range(2 * nodes):
        assert float((weights * places**degree).sum()) == pytest.approx(1 / (degree + 1), abs=1e-13)
    missed = float((weights * places ** (2 * nodes)).sum()) - 1 / (2 * nodes + 1)
    if nodes <= 5:  # with more, what is missed is below rounding
        assert missed < -1e-9


def test_gauss_legendre_nodes_are_those_of_numpy():
    import numpy

    for nodes in (2, 16, 50):
        places, weights = quadrature("gauss_legendre", nodes)
        expected, mass = numpy.polynomial.legendre.leggauss(nodes)
        torch.testing.assert_close(places, torch.from_numpy((expected + 1) / 2), rtol=0, atol=1e-13)
        torch.testing.assert_close(weights, torch.from_numpy(mass / 2), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("rule", "places"),
    [
        ("left", [0, 0.25, 0.5, 0.75]),
        ("midpoint", [0.125, 0.375, 0.625, 0.875]),
        ("right", [0.25, 0.5, 0.75, 1]),
    ],
)
def test_riemann_nodes(rule, places):
    assert quadrature(rule, 4)[0].tolist() == places


def test_unknown_rule_names_the_near_one():
    with pytest.raises(ValueError, match=r"`rule='mid_point'` does not exist\. Did you mean 'midpoint'"):
        quadrature("mid_point", 4)


def test_no_node_is_refused():
    with pytest.raises(ValueError, match=r"`steps=0` must be a whole number of at least 1"):
        quadrature("midpoint", 0)


def test_gauss_legendre_beats_the_midpoint_on_a_smooth_function():
    def smooth(x):
        return (x.sin() * x.roll(1, 1).exp()).sum(dim=1)

    x, baseline = double([1, 2, -1]), double([0, 0, 0])
    errors = {
        rule: abs(float(contributions(smooth, x, baseline, rule=rule, steps=12).sum() - smooth(x) + smooth(baseline)))
        for rule in RULES
    }
    assert errors["gauss_legendre"] < 1e-9 < errors["midpoint"] < errors["right"]


@pytest.mark.parametrize("nodes", [1, 2, 5, 16, 33])
def test_fejer_is_exact_below_the_number_of_its_nodes_up_to_each_of_them(nodes):
    places, weights = quadrature("fejer", nodes)
    running = running_weights(nodes)
    assert running.shape == (nodes + 1, nodes)
    torch.testing.assert_close(running[-1], weights, rtol=0, atol=0)
    ends = torch.cat([places, torch.ones(1, dtype=torch.float64)])
    for degree in range(nodes):
        found = running @ places**degree
        torch.testing.assert_close(found, ends ** (degree + 1) / (degree + 1), rtol=0, atol=1e-13)


@pytest.mark.parametrize("nodes", [1, 4, 16])
def test_fejer_keeps_its_nodes_when_they_are_doubled(nodes):
    finer = quadrature("fejer", 2 * nodes + 1)[0]
    torch.testing.assert_close(finer[1::2], quadrature("fejer", nodes)[0], rtol=0, atol=1e-15)


# The path parameter


def moved_by(*rows):
    return double(*rows), torch.linspace(0, 1, 101, dtype=torch.float64).expand(len(rows), -1)


def test_the_parameter_is_alpha_where_f_moves_evenly_or_not_at_all():
    moved, t = moved_by([3.0] * 12, [0.0] * 12, [math.nan] * 12)
    place, speed = parameter(t, moved)
    torch.testing.assert_close(place, t, rtol=0, atol=1e-12)
    torch.testing.assert_close(speed, torch.ones_like(t), rtol=0, atol=1e-12)


def test_the_parameter_goes_from_end_to_end_and_slowly_where_f_moves():
    moved, t = moved_by([1.0, *[0.0] * 11], [0.0] * 6 + [1.0] + [0.0] * 5, [1.0, 0.2] * 6)
    place, speed = parameter(t, moved)
    torch.testing.assert_close(place[:, [0, -1]], t[:, [0, -1]], rtol=0, atol=1e-12)
    assert bool((place.diff(dim=1) > 0).all())
    torch.testing.assert_close(place[:, 2:] - place[:, :-2], speed[:, 1:-1] * 0.02, rtol=0.1, atol=1e-4)
    assert int((place[0] < 0.25).sum()) > 50  # most of t is spent on the first quarter
    assert 0.4 < float(place[1, 50]) < 0.6
    assert float(speed[1].min()) == float(speed[1, 45:65].min())


# Laws of the integral


@pytest.mark.parametrize("steps", [1, 2, 7, 16])
def test_a_linear_function_is_exact_with_any_number_of_nodes(steps):
    """The parameter is fitted to what is seen, and a slope that does not change is integrated exactly on any."""
    x, baseline = double([1, 1, 1], [2, -1, 0]), double([0, 0, 0], [1, 1, 1])
    scores = contributions(linear, x, baseline, rule="fejer", steps=steps)
    torch.testing.assert_close(scores, (x - baseline) * double([1, 2, 3]), rtol=0, atol=1e-12)


def test_a_constant_function_has_nothing_and_costs_nothing_more():
    x, baseline = double([1, 2, 3]), double([0, 0, 0])
    result = path_integral(lambda p: 0 * p.sum(dim=1) + 5, x, baseline, rule="fejer", steps=4, tolerance=0.01)
    assert result.contributions.tolist() == [[0, 0, 0]]
    assert result.gradients.tolist() == [4]
    assert result.partial_error.tolist() == [0]


def test_fixed_rules_are_not_refined():
    with pytest.raises(ValueError, match=r"`rule='midpoint'` has fixed steps: set `tolerance=None`"):
        path_integral(cubic, double([1, 2, 3]), double([0, 0, 0]), rule="midpoint", tolerance=0.01)


def test_units_are_summed_as_asked_and_rows_come_in_their_own_order():
    torch.manual_seed(4)
    x, baseline = torch.randn(5, 3, 4, dtype=torch.float64), torch.zeros(5, 3, 4, dtype=torch.float64)

    def function(points):
        return torch.sigmoid(8 * points.flatten(1).sum(dim=1)) + points.flatten(1).pow(3).sum(dim=1)

    options = {"rule": "fejer", "tolerance": 1e-4, "steps": 5, "chunk": 3}
    plain = path_integral(function, x, baseline, **options)
    order = torch.tensor([3, 0, 4, 1, 2])
    summed = path_integral(function, x, baseline, per_unit=lambda values: values.sum(dim=-1), order=order, **options)
    assert int(plain.steps.max()) > 5
    torch.testing.assert_close(summed.contributions, plain.contributions.sum(dim=-1), rtol=0, atol=1e-12)
    for name in ("steps", "gradients", "forwards"):
        assert getattr(summed, name).tolist() == getattr(plain, name).tolist()
    torch.testing.assert_close(
        relative_error(
            summed.contributions.sum(dim=1) - function(x) + function(baseline), function(x) - function(baseline), 0.01
        )
        <= 1e-4,
        torch.ones(5, dtype=torch.bool),
    )


def cubic(x):
    return (x**3).sum(dim=1) + product(x) - 2 * x[:, 2]


def test_linearity():
    torch.manual_seed(1)
    x, baseline = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    together = contributions(lambda p: 2 * cubic(p) - 3 * product(p), x, baseline)
    apart = 2 * contributions(cubic, x, baseline) - 3 * contributions(product, x, baseline)
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-12)


def test_units_that_do_not_matter_or_do_not_change_get_nothing():
    torch.manual_seed(1)
    x, baseline = torch.randn(3, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    baseline[:, 0] = x[:, 0]
    scores = contributions(cubic, x, baseline) - contributions(lambda p: (p[:, 4:] ** 3).sum(dim=1), x, baseline)
    assert scores[:, 0].tolist() == [0, 0, 0]
    assert float(scores[:, 4].abs().max()) <= 1e-12


def test_from_a_point_to_itself_all_is_zero():
    x = double([1, 2, 3], [0, 0, 1])
    result = path_integral(cubic, x, x.clone(), rule="fejer", tolerance=0.01, steps=4)
    assert result.contributions.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert result.steps.tolist() == [4, 4]


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 3, 4)])
def test_any_shape_of_features(shape):
    torch.manual_seed(2)
    x, baseline = torch.randn(5, *shape, dtype=torch.float64), torch.randn(5, *shape, dtype=torch.float64)

    def function(points):
        return points.flatten(1).pow(3).sum(dim=1)

    scores = contributions(function, x, baseline, steps=4)
    assert scores.shape == x.shape
    # each unit is on its own here, so its share of the difference is known
    torch.testing.assert_close(scores, x**3 - baseline**3, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 3, 7, 1000])
def test_chunks_change_nothing_and_are_kept(chunk):
    torch.manual_seed(3)
    x, baseline = torch.randn(4, 3, dtype=torch.float64), torch.zeros(4, 3, dtype=torch.float64)
    weight = double([1, 2, 3, 4])[0]
    sizes = []

    def score(points, rows):
        sizes.append(len(points))
        return torch.sigmoid(30 * (points.sum(dim=1) - 0.2)) * weight[rows]

    ends = {"target": score(x, torch.arange(4)), "baseline_target": score(baseline, torch.arange(4))}
    sizes.clear()
    result = integrate(score, x, baseline, **ends, steps=5, tolerance=1e-3, chunk=chunk)
    assert max(sizes) <= chunk
    whole = integrate(score, x, baseline, **ends, steps=5, tolerance=1e-3, chunk=10_000)
    torch.testing.assert_close(result.contributions, whole.contributions, rtol=0, atol=1e-12)
    assert result.steps.tolist() == whole.steps.tolist()


def test_the_score_is_told_which_row_a_point_belongs_to():
    x, baseline, weight = double([1], [1], [1]), double([0], [0], [0]), double([1, 10, 100])[0]
    result = integrate(
        lambda points, rows: points[:, 0] * weight[rows],
        x,
        baseline,
        target=weight,
        baseline_target=torch.zeros(3, dtype=torch.float64),
        chunk=7,
    )
    torch.testing.assert_close(result.contributions, weight[:, None], rtol=0, atol=1e-12)


def test_a_score_that_ignores_its_points_has_no_gradient():
    x, baseline = double([1, 2]), double([0, 0])
    constant = torch.ones(1, dtype=torch.float64, requires_grad=True)
    result = integrate(
        lambda points, rows: constant.expand(len(points)) * 1,
        x,
        baseline,
        target=double([1])[0],
        baseline_target=double([1])[0],
    )
    assert result.contributions.tolist() == [[0, 0]]


def test_nothing_keeps_a_graph():
    x, baseline = double([1, 2, 3]).requires_grad_(), double([0, 0, 0])
    result = path_integral(cubic, x.detach(), baseline)
    assert not result.contributions.requires_grad
    assert not gradient(score_of(cubic), x).requires_grad
    assert x.grad is None


def test_relative_error_has_a_floor():
    error, target, start = double([0.02, 0.02, -0.02])[0], double([2, 0.001, 1])[0], double([0, 0, 1])[0]
    expected = [0.01, 0.2, 0.2]  # |error| / max(|target − start|, 0.1)
    assert relative_error(error, target - start, 0.1).tolist() == pytest.approx(expected)
    assert math.isnan(float(relative_error(double([math.nan]), double([1]), 0.1)))
