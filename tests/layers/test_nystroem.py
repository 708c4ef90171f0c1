"""The Nyström layer: what it reproduces, learns, and refuses."""

import copy
import math
import warnings
from contextlib import contextmanager

import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.svm import SVC
from torch import nn

from lightning_interpret.functional import kernels
from lightning_interpret.functional.kernels import KernelMatrix
from lightning_interpret.functional.relevance import relevance
from lightning_interpret.layers import Landmark, NystroemLayer

SCALE = 1 / 30


def features(count=40, width=6, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@contextmanager
def precision(dtype):
    """Build with another default: a layer that is cast afterwards has a scale of single precision."""
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def layer_of(count=8, kernel="rbf", *, double=True, x=None, **options):
    """A layer whose landmarks are the first of the features."""
    layer = NystroemLayer(6, count, kernel, **options)
    layer = layer.double() if double else layer
    layer.set_landmarks((features() if x is None else x)[:count])
    return layer


def tanh_kernel(x, y):
    return torch.tanh(x @ y.T - 1.0)


def _breast_cancer():
    data = load_breast_cancer()
    x, y = torch.tensor(data.data), torch.tensor(data.target)
    x = (x - x.mean(dim=0)) / x.std(dim=0)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return x[order[:400]], y[order[:400]], x[order[400:]]


def test_the_support_vectors_as_landmarks_reproduce_a_kernel_machine():
    x, y, held_out = _breast_cancer()
    machine = SVC(gamma=SCALE).fit(x.numpy(), y.numpy())
    support = torch.tensor(machine.support_vectors_)
    expected = torch.tensor(machine.decision_function(held_out.numpy()))
    for dtype, tolerance in ((torch.float64, 1e-8), (torch.float32, 1e-3)):
        with precision(dtype):
            layer, head = NystroemLayer(30, len(support), options={"scale": SCALE}), nn.Linear(len(support), 1)
        layer.set_landmarks(support)
        with torch.no_grad():
            mapped = copy.deepcopy(layer).double()(support)
            head.weight.copy_(torch.tensor(machine.dual_coef_) @ mapped)  # Σ α φ(landmark)
            head.bias.fill_(float(machine.intercept_[0]))
            found = head(layer(held_out.to(dtype)))[:, 0]
        assert layer.rank == len(support)
        assert float((found - expected).abs().max()) < tolerance
        assert torch.equal(found > 0, expected > 0)


def test_all_points_reproduce_the_kernel_and_a_quarter_is_near():
    x, _, _ = _breast_cancer()
    with precision(torch.float64):
        whole = NystroemLayer(30, 400, options={"scale": SCALE})
    whole.set_landmarks(x)
    mapped, k = whole(x).detach(), kernels.rbf(x, x, SCALE)
    assert float((mapped @ mapped.T - k).norm() / k.norm()) < 1e-8
    assert whole.approximation_error(x).gram < 1e-8
    part = NystroemLayer(30, 100, options={"scale": SCALE})
    for method in ("random", "k_means++", "leverage", "greedy"):
        part.choose(x, method)
        assert part.approximation_error(x).gram < 0.06


def test_duplicated_landmarks_are_finite_in_single_precision():
    x = features()[:10].repeat(2, 1)
    layer = layer_of(20, x=x, double=False)
    mapped = layer(x.float()).detach()
    k = layer.gram.kernel.double()(x, x).detach()
    assert layer.rank <= 10
    assert float((mapped.double() @ mapped.double().T - k).norm() / k.norm()) < 1e-4
    assert float(layer.factor.abs().max()) < 1e3


@pytest.mark.parametrize("count", [1, 3])
def test_one_landmark_and_landmarks_that_are_all_the_same(count):
    layer = layer_of(count, x=torch.ones(3, 6, dtype=torch.float64))
    assert layer.rank == 1
    assert bool(layer(features()).isfinite().all())


def test_a_linear_kernel_has_the_rank_of_the_features():
    layer = layer_of(20, "linear")
    assert layer.rank == 6
    mapped = layer(features()).detach()
    torch.testing.assert_close(mapped @ mapped.T, features() @ features().T)


@pytest.mark.parametrize(
    ("kernel", "options"),
    [("rbf", {}), ("polynomial", {}), ("polynomial", {"offset": 0.0, "degree": 3}), ("linear", {}), ("cosine", {})],
)
def test_gradients_are_right_for_features_parameters_and_projection(kernel, options):
    layer = layer_of(4, kernel, options=options)
    x = features(3, seed=1).requires_grad_()
    parameters = dict(layer.named_parameters())
    assert set(parameters) == {"projection"} | {
        f"gram.kernel.log_{name}"
        for name in {"rbf": ["scale"], "polynomial": ["scale", "offset"]}.get(kernel, [])
        if options.get(name, 1.0)
    }

    def call(x, *values):
        return torch.func.functional_call(layer, dict(zip(parameters, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *parameters.values()))


def test_a_scale_is_given_learned_or_found():
    given = layer_of(options={"scale": 0.3, "learned": False})
    assert [name for name, _ in given.named_parameters()] == ["projection"]
    assert float(given.gram.kernel.log_scale) == pytest.approx(math.log(0.3))
    assert float(given.gram.kernel.unit) == 1
    assert torch.allclose(given.gram(features()), torch.exp(-0.3 * torch.cdist(features(), features()[:8]).square()))
    found = layer_of()
    assert found.gram.kernel.log_scale.exp().item() == pytest.approx(0.5)
    assert found.gram.kernel.unit.item() == pytest.approx(kernels.median_square(features()[:8]))
    with torch.no_grad():
        found.gram.kernel.log_scale.fill_(0.5)  # training
    before = found.factor.clone()
    found.refresh()
    assert found.gram.kernel.log_scale.item() == 0.5
    assert not torch.equal(found.factor, before)
    unit = found.gram.kernel.unit.item()
    found.choose(3 * features(), "random")
    assert found.gram.kernel.log_scale.item() == 0.5
    assert found.gram.kernel.unit.item() == pytest.approx(9 * kernels.median_square(features()))
    assert found.gram.kernel.unit.item() != unit


@pytest.mark.parametrize("kernel", ["rbf", "polynomial"])
def test_a_kernel_with_a_unit_is_the_same_of_features_that_have_grown(kernel):
    layer = layer_of(kernel=kernel)
    before = layer(features())
    layer.refresh(10 * features()[:8])
    assert not torch.allclose(layer(10 * features()), before)
    layer.refresh(10 * features()[:8], 10 * features()[:8])
    assert torch.allclose(layer(10 * features()), before)
    copy = layer_of(kernel=kernel)
    copy.load_state_dict(layer.state_dict())
    assert torch.equal(copy(10 * features()), layer(10 * features()))
    given = layer_of(kernel=kernel, options={"scale": 0.1})
    given.refresh(10 * features()[:8], 10 * features()[:8])
    assert given.gram.kernel.unit == 1


def test_refreshing_keeps_the_projection_and_choosing_starts_it_anew():
    layer = layer_of()
    layer.landmarks = [Landmark(i, f"text {i}", "a") for i in range(8)]
    with torch.no_grad():
        layer.projection.mul_(2)
    layer.refresh(features()[:8] + 0.01)
    assert torch.equal(layer.projection, 2 * torch.eye(8, dtype=torch.float64))
    assert torch.equal(layer.features, features()[:8] + 0.01)
    assert layer.landmarks[3].text == "text 3"
    places = layer.choose(features(), "random", seed=3)
    assert torch.equal(layer.projection, torch.eye(8, dtype=torch.float64))
    assert torch.equal(layer.features, features()[places])
    assert layer.landmarks == (Landmark(),) * 8


def test_without_a_projection_there_is_nothing_to_train_but_the_scale():
    layer = layer_of(projection="fixed")
    assert [name for name, _ in layer.named_parameters()] == ["gram.kernel.log_scale"]
    assert torch.equal(layer(features()), layer_of()(features()))


def test_ones_own_kernel_as_a_function_a_path_or_a_module():
    named = layer_of(kernel="lightning_interpret.functional.kernels.linear")
    assert torch.equal(named(features()), layer_of(kernel="linear")(features()))
    assert layer_of(kernel=kernels.linear).kernel == named.kernel

    class Bilinear(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(6, 5, bias=False)

        def forward(self, x, y):
            return self.inner(x) @ self.inner(y).T

    layer = layer_of(kernel=Bilinear(), double=False)
    layer(features().float()).square().sum().backward()
    assert layer.gram.kernel.function.inner.weight.grad.abs().sum() > 0
    with pytest.warns(UserWarning, match="indefinite on the landmarks"):
        assert bool(layer_of(kernel=tanh_kernel)(features()).isfinite().all())


def test_a_precomputed_kernel_is_read_by_rows():
    x = features()
    k = kernels.rbf(x, x, 0.1)
    layer = NystroemLayer(8, 8, "precomputed").double()
    places = layer.choose(KernelMatrix.of_matrix(k), "k_means++", seed=1)
    by_features = NystroemLayer(6, 8, options={"scale": 0.1}).double()
    by_features.set_landmarks(x[places])
    assert isinstance(layer.gram, nn.Identity)
    torch.testing.assert_close(layer(k[:, places]), by_features(x))
    layer.set_gram(k[:8, :8], [Landmark(i) for i in range(8)])
    assert layer.landmarks[7].example_id == 7
    with pytest.raises(ValueError, match="call `set_gram`"):
        layer.set_landmarks(x[:8])
    with pytest.raises(ValueError, match="`width=6` must be 8"):
        NystroemLayer(6, 8, "precomputed")
    with pytest.raises(ValueError, match=r"call `set_landmarks\(features\)`"):
        by_features.set_gram(k[:8, :8])


def test_relevance_reaches_the_landmarks_in_whole():
    layer = layer_of()
    with relevance(layer, "epsilon") as scope:
        row = layer.gram(features()).detach().requires_grad_()
        mapped = torch.nn.functional.linear(torch.nn.functional.linear(row, layer.factor), layer.projection)
        assert torch.equal(mapped, layer(features()))
        score = mapped @ torch.arange(8.0, dtype=torch.float64)
    (found,) = scope.relevance(score, row)
    torch.testing.assert_close(found.sum(dim=1), score.detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kernel", ["rbf", "linear", "cosine", "polynomial"])
def test_relevance_reaches_the_features(kernel):
    layer, x = layer_of(kernel=kernel), features().requires_grad_()
    with relevance(layer, "epsilon") as scope:
        score = layer(x).sum(dim=1)
    (found,) = scope.relevance(score, x)
    whole = found.sum(dim=1) + sum(scope.ledger.absorbed.values())
    torch.testing.assert_close(whole, score.detach(), rtol=1e-10, atol=1e-10)


def test_what_makes_no_sense_is_refused():
    layer = NystroemLayer(6, 8)
    with pytest.raises(RuntimeError, match="has no landmarks yet"):
        layer(features().float())
    with pytest.raises(RuntimeError, match="call `set_landmarks` first"):
        layer.refresh()
    with pytest.raises(ValueError, match=r"must be \(8, 6\)"):
        layer.set_landmarks(features(7))
    with pytest.raises(ValueError, match="not all finite"):
        layer.set_landmarks(torch.full((8, 6), torch.nan))
    with pytest.raises(ValueError, match="only 5 examples"):
        layer.choose(features(5))
    assert not layer.ready
    layer.set_landmarks(features(8))
    assert layer.ready
    with pytest.raises(ValueError, match="width 6, these have 5"):
        layer(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="8 landmarks, but facts of 1"):
        layer.landmarks = [Landmark()]
    with pytest.raises(ValueError, match="Did you mean 'rbf'"):
        NystroemLayer(6, 8, "rbff")
    with pytest.raises(ValueError, match="option of kernel 'linear'"):
        NystroemLayer(6, 8, "linear", {"scale": 2.0})
    with pytest.raises(ValueError, match="hold its own"):
        NystroemLayer(6, 8, tanh_kernel, {"scale": 2.0})
    with pytest.raises(ValueError, match="cannot be imported"):
        NystroemLayer(6, 8, "no_such.kernel")
    with pytest.raises(ValueError, match=r"`scale=-1\.0` must be positive"):
        NystroemLayer(6, 8, options={"scale": -1.0})
    with pytest.raises(ValueError, match="`landmarks=0`"):
        NystroemLayer(6, 0)
    with pytest.raises(ValueError, match=r"shape \(8,\): it must be \(8, 8\)"):
        layer_of(kernel=lambda x, y: x.sum(dim=-1))


def test_nothing_warns_where_all_is_well():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer = layer_of(double=False)
        layer.choose(features(), "k_means++")
        layer(features().float()).sum().backward()
