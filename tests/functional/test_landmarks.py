"""Which examples become landmarks: laws that every way to choose keeps, and what each is known for."""

import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits

from lightning_interpret.functional import kernels, landmarks
from lightning_interpret.functional.kernels import KernelMatrix
from lightning_interpret.functional.landmarks import METHODS, choose_landmarks, leverage_scores
from lightning_interpret.functional.nystroem import approximation_error, inverse_root

LABELS = torch.arange(60) % 3


def _points(count=60, seed=0):
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _rbf(x, scale=0.1):
    return KernelMatrix.of_matrix(kernels.rbf(x, x, scale))


def _choose(matrix, count, method, seed=0, labels=LABELS):
    return choose_landmarks(matrix, count, method, labels=labels, seed=seed)


def _error(matrix, places):
    root = inverse_root(matrix.square(places)).factor
    return approximation_error(matrix, matrix.columns(places) @ root)


def _data(name):
    if name == "digits":
        return torch.tensor(load_digits().data[:200] / 16), 1 / 8
    x = torch.tensor(load_breast_cancer().data)
    x = (x - x.mean(dim=0)) / x.std(dim=0)
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:400]], 1 / 30


@pytest.mark.parametrize("method", METHODS)
def test_places_are_distinct_seeded_and_leave_the_global_state_alone(method):
    matrix, state = _rbf(_points()), torch.get_rng_state()
    places = _choose(matrix, 12, method)
    assert places.dtype == torch.long
    assert len(places.unique()) == 12
    assert torch.equal(places, _choose(matrix, 12, method))
    assert torch.equal(torch.get_rng_state(), state)
    assert sorted(_choose(matrix, 60, method).tolist()) == list(range(60))
    if method != "greedy":
        assert not torch.equal(places, _choose(matrix, 12, method, seed=1))


@pytest.mark.parametrize("method", METHODS)
def test_features_and_their_kernel_matrix_choose_the_same(method):
    x = _points()
    by_features = KernelMatrix.of_features(lambda a, b: kernels.rbf(a, b, 0.1), x)
    assert torch.equal(_choose(by_features, 9, method), _choose(_rbf(x), 9, method))


@pytest.mark.parametrize("method", METHODS)
def test_duplicates_are_taken_only_where_nothing_else_is_left(method):
    x = _points(20).repeat(3, 1)
    chosen = _choose(_rbf(x), 20, method)
    assert sorted((chosen % 20).tolist()) == list(range(20))
    with pytest.warns(UserWarning, match="Only 20 of the 60 examples differ"):
        more = _choose(_rbf(x), 30, method)
    assert len(more.unique()) == 30
    assert len((more % 20).unique()) == 20
    with pytest.warns(UserWarning, match="Only 1 of the 60"):
        assert len(_choose(_rbf(torch.ones(60, 4)), 3, method).unique()) == 3


@pytest.mark.parametrize("method", METHODS)
def test_more_landmarks_than_the_kernel_has_dimensions(method):
    x = _points()
    assert len(_choose(KernelMatrix.of_matrix(x @ x.T), 10, method).unique()) == 10


def test_balanced_takes_as_many_of_each_class_as_there_are():
    labels = torch.tensor([0] * 40 + [1] * 18 + [2] * 2)
    counts = labels[_choose(_rbf(_points()), 12, "balanced", labels=labels)].bincount()
    assert counts.tolist() == [5, 5, 2]
    assert labels[_choose(_rbf(_points()), 3, "balanced", labels=labels)].sort().values.tolist() == [0, 1, 2]


def test_k_means_finds_every_far_cluster():
    centres = 100.0 * torch.eye(6, dtype=torch.float64)
    x = centres.repeat_interleave(10, dim=0) + 0.1 * torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
    for seed in range(5):
        found = _choose(KernelMatrix.of_matrix(x @ x.T), 6, "k_means++", seed=seed)
        assert sorted((found // 10).tolist()) == list(range(6))


def test_leverage_scores_are_the_diagonal_of_the_ridge_smoother():
    matrix = _rbf(_points())
    k = matrix.square(torch.arange(60))
    expected = (k @ torch.linalg.inv(k + 0.3 * torch.eye(60))).diagonal()
    torch.testing.assert_close(leverage_scores(matrix, 0.3, torch.arange(60)), expected)
    part = leverage_scores(matrix, 0.3, torch.arange(40))
    assert float(torch.corrcoef(torch.stack([part, expected]))[0, 1]) > 0.6


def test_greedy_takes_what_lowers_the_projection_error_most():
    x = _points()
    matrix, chosen = _rbf(x), []
    for _ in range(6):  # by trying all
        errors = [_error(matrix, torch.tensor([*chosen, i])).projection if i not in chosen else 2 for i in range(60)]
        chosen.append(min(range(60), key=errors.__getitem__))
    assert _choose(matrix, 6, "greedy").tolist() == chosen


@pytest.mark.parametrize("name", ["digits", "breast_cancer"])
@pytest.mark.parametrize("count", [10, 50])
def test_greedy_beats_random_and_k_means(name, count):
    x, scale = _data(name)
    matrix = _rbf(x, scale)
    errors = {
        method: min(_error(matrix, choose_landmarks(matrix, count, method, seed=seed)).gram for seed in range(3))
        for method in ("greedy", "random", "k_means++")
    }
    assert errors["greedy"] < 0.9 * min(errors["random"], errors["k_means++"])


def test_past_their_bounds_greedy_and_leverage_go_by_samples(monkeypatch):
    x, scale = _data("digits")
    matrix = _rbf(x, scale)
    exact = _error(matrix, choose_landmarks(matrix, 20, "greedy")).gram
    monkeypatch.setattr(landmarks, "GREEDY_POOL", 100)
    monkeypatch.setattr(landmarks, "GREEDY_SAMPLE", 50)
    monkeypatch.setattr(landmarks, "LEVERAGE_SAMPLE", 50)
    random = sum(_error(matrix, choose_landmarks(matrix, 20, "random", seed=seed)).gram for seed in range(5)) / 5
    assert exact < _error(matrix, choose_landmarks(matrix, 20, "greedy")).gram < random
    assert len(choose_landmarks(matrix, 150, "greedy").unique()) == 150
    assert len(choose_landmarks(matrix, 20, "leverage").unique()) == 20


def test_what_cannot_be_chosen_is_refused():
    matrix = _rbf(_points())
    with pytest.raises(ValueError, match="only 60 examples"):
        _choose(matrix, 61, "random")
    with pytest.raises(ValueError, match="`count=2` landmarks cannot stand for 3 classes"):
        _choose(matrix, 2, "balanced")
    with pytest.raises(ValueError, match="needs the `labels`"):
        _choose(matrix, 5, "balanced", labels=None)
    with pytest.raises(ValueError, match="60 examples, but 59 labels"):
        _choose(matrix, 5, "balanced", labels=LABELS[1:])
    with pytest.raises(ValueError, match="Did you mean 'greedy'"):
        _choose(matrix, 5, "gready")
