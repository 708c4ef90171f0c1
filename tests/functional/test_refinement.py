"""What adaptive refinement has to obey, on functions as steep as a network becomes."""

import math

import pytest
import torch

from lightning_interpret.functional.path import integrate, relative_error

STEPS, FINER, TOLERANCE, FLOOR = 8, 17, 0.01, 0.01


class Steep:
    """Sums of sigmoids of slope 200 at random places of each row's path; counts what it is asked."""

    def __init__(self, rows=12, seed=0, slope=200.0):
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(rows, 5, dtype=torch.float64, generator=generator)
        self.baseline = torch.randn(rows, 5, dtype=torch.float64, generator=generator)
        self.places = torch.rand(rows, 4, dtype=torch.float64, generator=generator)
        self.heights = torch.randn(rows, 4, dtype=torch.float64, generator=generator)
        self.slopes = torch.full((rows,), slope, dtype=torch.float64)
        self.slopes[::3] = 1.0  # every third row is easy
        difference = self.x - self.baseline
        self.direction = difference / difference.square().sum(dim=1, keepdim=True)
        self.gradients = torch.zeros(rows, dtype=torch.long)
        self.forwards = torch.zeros(rows, dtype=torch.long)

    def __call__(self, points, rows):
        counted = self.gradients if points.requires_grad else self.forwards
        counted += torch.bincount(rows, minlength=len(self.x))
        along = ((points - self.baseline[rows]) * self.direction[rows]).sum(dim=1, keepdim=True)
        rises = torch.sigmoid(self.slopes[rows, None] * (along - self.places[rows])) * self.heights[rows]
        return rises.sum(dim=1) + 0.1 * points.pow(2).sum(dim=1)

    def ends(self):
        with torch.no_grad():
            every = torch.arange(len(self.x))
            return {"target": self(self.x, every), "baseline_target": self(self.baseline, every)}

    def integrate(self, rows=None, **options):
        """The integral of the given rows, and the relative error of each."""
        rows = torch.arange(len(self.x)) if rows is None else torch.tensor(rows)
        ends = {name: values[rows] for name, values in self.ends().items()}
        options = {"steps": STEPS, "tolerance": TOLERANCE, "max_steps": 512} | options
        self.gradients.zero_()
        self.forwards.zero_()
        result = integrate(
            lambda points, which: self(points, rows[which]), self.x[rows], self.baseline[rows], **ends, **options
        )
        missed = result.contributions.sum(dim=1) - (ends["target"] - ends["baseline_target"])
        return result, relative_error(missed, ends["target"] - ends["baseline_target"], FLOOR)


def test_rows_above_tolerance_are_refined_and_only_those():
    steep = Steep()
    _, before = steep.integrate(tolerance=None)
    result, after = steep.integrate()
    hard = before > TOLERANCE
    assert 3 <= int(hard.sum()) <= len(hard) - 3  # the test has both kinds
    assert bool((result.steps[hard] > STEPS).all())
    assert result.steps[~hard].tolist() == [STEPS] * int((~hard).sum())
    assert bool((after[hard] < before[hard]).all())


def test_the_result_is_within_tolerance():
    _, relative = Steep().integrate()
    assert float(relative.max()) <= TOLERANCE


@pytest.mark.parametrize("tolerance", [0.1, 0.01, 1e-3, 1e-5])
def test_a_smaller_tolerance_costs_more_and_is_met(tolerance):
    steep = Steep()
    result, relative = steep.integrate(tolerance=tolerance, max_steps=4096)
    looser, _ = steep.integrate(tolerance=10 * tolerance, max_steps=4096)
    assert float(relative.max()) <= tolerance
    assert bool((result.steps >= looser.steps).all())


@pytest.mark.parametrize("max_steps", [8, 15, 16, 17, 20, 34, 50, 64])
def test_never_more_than_max_steps(max_steps):
    result, relative = Steep().integrate(tolerance=1e-9, max_steps=max_steps)
    assert int(result.steps.max()) <= max_steps
    assert all(steps == FINER or steps % STEPS == 0 for steps in result.steps.tolist())
    assert float(relative.max()) > 1e-9  # and the error says that it was not enough


def test_the_budget_is_used_before_giving_up():
    result, relative = Steep(slope=20_000.0).integrate(tolerance=1e-12, max_steps=64)
    unmet = relative > 1e-12
    assert bool(unmet.any())
    assert result.steps[unmet].tolist() == [64] * int(unmet.sum())


@pytest.mark.parametrize("options", [{}, {"tolerance": None}, {"max_steps": 40}, {"chunk": 3}, {"steps": 3}])
def test_gradients_and_forwards_are_the_true_counts(options):
    steep = Steep()
    result, _ = steep.integrate(**options)
    assert result.gradients.tolist() == steep.gradients.tolist()
    assert result.forwards.tolist() == steep.forwards.tolist()
    assert bool((result.gradients >= result.steps).all())


def test_an_easy_and_a_hard_row_give_together_what_each_gives_alone():
    steep = Steep()
    together, _ = steep.integrate(rows=[0, 1])
    assert int(together.steps[0]) < int(together.steps[1])
    for place, row in enumerate([0, 1]):
        alone, _ = steep.integrate(rows=[row])
        torch.testing.assert_close(alone.contributions[0], together.contributions[place], rtol=0, atol=1e-12)
        for name in ("steps", "gradients", "forwards"):
            assert int(getattr(alone, name)) == int(getattr(together, name)[place])


def test_refined_contributions_are_those_of_a_fine_grid():
    """Not only their sum: each unit's contribution, against 200,000 midpoints of a steep function in closed form."""
    x, baseline = torch.tensor([[1.0, 2.0]], dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)

    def function(points):
        return torch.sigmoid(200 * (points[:, 0] - 0.3)) * points[:, 1] + points[:, 1] ** 2

    ends = {"target": function(x), "baseline_target": function(baseline)}
    result = integrate(lambda p, rows: function(p), x, baseline, **ends, tolerance=1e-6, max_steps=4096)
    fine = integrate(
        lambda p, rows: function(p), x, baseline, **ends, steps=200_000, rule="midpoint", tolerance=None, chunk=50_000
    )
    torch.testing.assert_close(result.contributions, fine.contributions, rtol=0, atol=1e-5)


def test_a_flat_target_is_held_to_the_floor():
    """F(x) = F(x'), with a wall and a ditch between: the tolerance is a share of the floor, not of nothing."""
    x, baseline = torch.tensor([[1.0]], dtype=torch.float64), torch.tensor([[0.0]], dtype=torch.float64)

    def function(points):
        return (torch.sigmoid(100 * (points - 0.31)) - torch.sigmoid(100 * (points - 0.57)))[:, 0]

    ends = {"target": function(x), "baseline_target": function(baseline)}
    for floor in (0.01, 1.0):
        result = integrate(
            lambda p, rows: function(p), x, baseline, **ends, error_floor=floor, tolerance=0.01, max_steps=4096
        )
        assert abs(float(result.contributions)) <= 0.01 * floor + abs(float(ends["target"]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["target", "baseline_target"])
def test_an_end_that_is_no_number_ends_the_loop(bad, where):
    steep = Steep()
    ends = steep.ends()
    ends[where][1] = bad
    result = integrate(steep, steep.x, steep.baseline, **ends, steps=STEPS, tolerance=TOLERANCE, max_steps=512)
    missed = result.contributions.sum(dim=1) - (ends["target"] - ends["baseline_target"])
    relative = relative_error(missed, ends["target"] - ends["baseline_target"], FLOOR)
    assert not bool(relative[1] <= TOLERANCE)
    others = [i for i in range(len(relative)) if i != 1]
    assert float(relative[others].max()) <= TOLERANCE  # the rest of the batch is served
    assert int(result.steps[1]) == STEPS


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_path_that_is_no_number_in_the_middle_ends_the_loop(bad):
    steep = Steep()

    def score(points, rows):
        values = steep(points, rows)
        along = ((points - steep.baseline[rows]) * steep.direction[rows]).sum(dim=1)
        inside = (rows == 2) & (along > 0.4) & (along < 0.6)
        return values * torch.ones_like(values).masked_fill(inside, bad)

    result = integrate(score, steep.x, steep.baseline, **steep.ends(), steps=STEPS, tolerance=TOLERANCE, max_steps=512)
    assert not bool(result.contributions[2].isfinite().all())
    assert int(result.steps[2]) <= 512
    others = [i for i in range(len(steep.x)) if i != 2]
    assert bool(result.contributions[others].isfinite().all())


def test_a_jump_does_not_hang():
    """A step function has no gradient anywhere: nothing can converge, and the budget ends it."""
    x, baseline = torch.tensor([[1.0]], dtype=torch.float64), torch.tensor([[0.0]], dtype=torch.float64)

    def function(points):
        return (points[:, 0] > 0.37).double() + 0 * points[:, 0]

    ends = {"target": function(x), "baseline_target": function(baseline)}
    result = integrate(lambda p, rows: function(p), x, baseline, **ends, tolerance=0.01, max_steps=256)
    assert result.steps.tolist() == [256]
    assert float(result.contributions) == 0


def test_an_infinite_slope_is_not_chased():
    """Finer nodes make nothing finite, so that no gradient is spent on them."""
    x, baseline = torch.tensor([[1.0]], dtype=torch.float64), torch.tensor([[0.0]], dtype=torch.float64)

    class Wall(torch.autograd.Function):
        @staticmethod
        def forward(ctx, points):
            ctx.save_for_backward(points)
            return points[:, 0].clone()

        @staticmethod
        def backward(ctx, grad):
            (points,) = ctx.saved_tensors
            return torch.where(points > 0.5, math.inf, 1.0)

    ends = {"target": x[:, 0], "baseline_target": baseline[:, 0]}
    result = integrate(lambda p, rows: Wall.apply(p), x, baseline, **ends, steps=STEPS, max_steps=512)
    assert result.contributions.tolist() == [[math.inf]]
    assert result.gradients.tolist() == [STEPS]


def test_a_sum_that_is_right_by_chance_is_told_by_its_parts():
    """One unit rises before the middle and another falls after it: by symmetry every rule has the sum, and not them."""
    x, baseline = torch.ones(1, 2, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)

    def function(points):
        return torch.sigmoid(60 * (points[:, 0] - 0.3)) + torch.sigmoid(60 * (0.7 - points[:, 1]))

    ends = {"target": function(x), "baseline_target": function(baseline)}
    coarse = integrate(lambda p, rows: function(p), x, baseline, **ends, steps=4, tolerance=None)
    assert abs(float(coarse.contributions.sum())) <= 1e-9
    assert float(coarse.partial_error) > 0.05
    assert float((coarse.contributions - torch.tensor([[1.0, -1.0]])).abs().max()) > 0.05
    result = integrate(lambda p, rows: function(p), x, baseline, **ends, steps=4, tolerance=0.01)
    assert float(result.partial_error) <= 0.01
    torch.testing.assert_close(
        result.contributions, torch.tensor([[1.0, -1.0]], dtype=torch.float64), rtol=0, atol=0.03
    )


@pytest.mark.parametrize("tolerance", [0.1, 0.01, 1e-3, 1e-4])
def test_at_kinks_the_errors_are_met_and_honest(tolerance):
    """Contributions in closed form: each unit has a kink of its own, and its share is known."""
    kinks = torch.tensor([0.113, 0.402, 0.457, 0.781], dtype=torch.float64)
    x, baseline = torch.ones(1, 4, dtype=torch.float64), torch.zeros(1, 4, dtype=torch.float64)
    slopes = torch.tensor([3.0, -2.0, 1.0, 5.0], dtype=torch.float64)

    def function(points):
        return ((points - kinks).relu() * slopes).sum(dim=1)

    ends = {"target": function(x), "baseline_target": function(baseline)}
    result = integrate(lambda p, rows: function(p), x, baseline, **ends, tolerance=tolerance, max_steps=4096)
    exact = (1 - kinks) * slopes
    missed = result.contributions.sum(dim=1) - exact.sum()
    assert float(relative_error(missed, ends["target"] - ends["baseline_target"], FLOOR)) <= tolerance
    assert float(result.partial_error) <= tolerance
    distance = float((result.contributions[0] - exact).abs().sum() / exact.abs().sum())
    assert distance <= 5 * tolerance


def test_the_first_doubling_keeps_every_node():
    steep = Steep(slope=30.0)
    result, _ = steep.integrate(steps=16)
    doubled = result.steps == 33
    assert bool(doubled.any())
    assert result.gradients[doubled].tolist() == [33] * int(doubled.sum())
