import pytest
import torch

from lightning_interpret.functional.influence.solvers import (
    Inverse,
    check_damping,
    check_tolerance,
    chosen_damping,
    conjugate_gradient,
    largest_eigenvalue,
    stochastic_recursion,
)


def symmetric(eigenvalues, seed=0):
    generator = torch.Generator().manual_seed(seed)
    count = len(eigenvalues)
    q, _ = torch.linalg.qr(torch.randn(count, count, generator=generator, dtype=torch.float64))
    return q, (q * torch.tensor(eigenvalues, dtype=torch.float64)) @ q.T


def vectors(count, size, seed=1):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_positive_matrix_is_inverted_and_nothing_is_noted():
    _, matrix = symmetric([4.0, 1.0, 0.5, 0.1])
    inverse, v = Inverse(matrix), vectors(3, 4)
    assert torch.allclose(inverse.solve(v) @ matrix, v)
    assert torch.allclose(inverse.squares(v), (inverse.solve(v) * v).sum(dim=1))
    assert inverse.notes == ()


def test_zero_eigenvalues_are_left_out_and_negative_ones_said():
    q, matrix = symmetric([4.0, 1.0, 0.0, -0.5])
    inverse, v = Inverse(matrix), vectors(3, 4)
    expected = v @ q @ torch.tensor([0.25, 1.0, 0.0, -2.0], dtype=torch.float64).diag() @ q.T
    assert torch.allclose(inverse.solve(v), expected)
    assert torch.allclose(inverse.squares(v), (expected * v).sum(dim=1))
    assert "1 of 4 eigenvalues of the damped curvature are negative (the lowest -0.5)" in inverse.notes[0]
    assert "1 of 4 eigenvalues of the damped curvature are zero" in inverse.notes[1]
    _, singular = symmetric([1.0, 1.0, 0.0])  # rounding may well give it a Cholesky factor
    assert "zero" in Inverse(singular).notes[0]
    assert torch.equal(Inverse(torch.zeros(2, 2)).solve(torch.ones(1, 2)), torch.zeros(1, 2))


def test_conjugate_gradients_solve_several_at_once_and_measure_what_is_left():
    _, matrix = symmetric([10.0, 5.0, 1.0, 0.5, 0.1])
    targets = torch.cat([vectors(3, 5), torch.zeros(1, 5)])
    found = conjugate_gradient(lambda v: v @ matrix, targets, tolerance=1e-10, max_steps=20)
    assert torch.allclose(found.values, torch.linalg.solve(matrix, targets.T).T)
    assert found.steps <= 7
    assert float(found.residual.max()) <= 1e-10
    assert not found.diverged.any()
    short = conjugate_gradient(lambda v: v @ matrix, targets, tolerance=1e-10, max_steps=2)
    left = (targets - short.values @ matrix).norm(dim=1)[:3] / targets.norm(dim=1)[:3]
    assert torch.allclose(short.residual[:3], left)
    assert (short.steps, bool(short.residual.max() > 1e-3)) == (2, True)


def test_the_recursion_converges_below_twice_the_scale_and_gives_up_above():
    _, matrix = symmetric([4.0, 1.0, 0.5])
    targets = vectors(2, 3)
    full = lambda v: v @ matrix  # noqa: E731
    found = stochastic_recursion(lambda: full, full, targets, scale=5.0, depth=300, bound=20.0, repeats=2)
    assert torch.allclose(found.values, torch.linalg.solve(matrix, targets.T).T)
    assert (found.steps, float(found.residual.max()) < 1e-10) == (600, True)
    lost = stochastic_recursion(lambda: full, full, targets, scale=1.0, depth=300, bound=20.0)
    assert lost.diverged.all()
    assert torch.equal(lost.values, torch.zeros_like(targets))
    assert lost.steps < 20
    assert torch.equal(lost.residual, torch.ones(2, dtype=torch.float64))


def test_noise_of_the_draws_is_halved_by_four_times_the_repeats():
    matrices = torch.stack([symmetric([2.0, 1.0, 0.5], seed=seed)[1] for seed in range(4)])
    mean = matrices.mean(dim=0)
    generator = torch.Generator().manual_seed(0)

    def draw():
        picked = matrices[int(torch.randint(4, (), generator=generator))]
        return lambda v: v @ picked

    def error(repeats):
        found = [
            stochastic_recursion(
                draw, lambda v: v @ mean, vectors(1, 3), scale=4.0, depth=60, bound=100.0, repeats=repeats
            ).residual
            for _ in range(10)
        ]
        return float(torch.stack(found).mean())

    assert error(16) < 0.6 * error(1)


def test_power_iteration_finds_the_largest_eigenvalue():
    _, matrix = symmetric([4.0, 1.0, 0.5])
    found = largest_eigenvalue(lambda v: v @ matrix, vectors(1, 3), torch.Generator().manual_seed(0))
    assert found == pytest.approx(4.0, rel=1e-6)


def test_damping_is_the_objectives_own_or_a_tenth_of_the_mean_eigenvalue():
    assert chosen_damping(None, 0.1, 5.0) == 0.0
    assert chosen_damping(None, 0.0, 5.0) == 0.5
    assert chosen_damping(None, 0.0, -5.0) == 0.0
    assert chosen_damping(0.2, 0.1, 5.0) == 0.2


def test_numbers_that_cannot_be_are_refused_by_name():
    for damping in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"`damping=.*at least 0"):
            check_damping(damping)
    with pytest.raises(ValueError, match=r"`tolerance=1\.0` must lie between"):
        check_tolerance(1.0)
