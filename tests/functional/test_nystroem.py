"""The inverse root of a kernel matrix, and how far the approximation is from the kernel."""

import pytest
import torch
from digits import digits
from sklearn.kernel_approximation import Nystroem

from lightning_interpret.functional import kernels
from lightning_interpret.functional.kernels import KernelMatrix
from lightning_interpret.functional.nystroem import approximation_error, inverse_root


def _digits():
    return digits(torch.float64)[0]["pixels"][:200]


def _error(x, places, scale=1 / 8):
    k = kernels.rbf(x, x, scale)
    root = inverse_root(k[places][:, places])
    return approximation_error(KernelMatrix.of_matrix(k), k[:, places] @ root.factor)


@pytest.mark.parametrize(("count", "known"), [(10, 0.283), (25, 0.136), (50, 0.087), (100, 0.044)])
def test_errors_on_digits_are_those_known(count, known):
    order = [torch.randperm(200, generator=torch.Generator().manual_seed(seed))[:count] for seed in range(10)]
    found = sum(_error(_digits(), places).gram for places in order) / 10
    assert found == pytest.approx(known, rel=0.2)


def test_all_points_reproduce_the_kernel():
    found = _error(_digits(), torch.arange(200))
    assert found.gram < 1e-8
    assert abs(found.projection) < 1e-8


def test_the_errors_are_those_of_whole_matrices():
    x = _digits()
    k, places = kernels.rbf(x, x, 1 / 8), torch.arange(20)
    left = k - k[:, :20] @ torch.linalg.pinv(k[:20, :20]) @ k[:20]
    found = _error(x, places)
    assert found.gram == pytest.approx(float(left.norm() / k.norm()), rel=1e-9)
    assert found.projection == pytest.approx(float(left.trace() / k.trace()), rel=1e-9)


def test_the_root_is_symmetric_and_scikit_learns_features_have_the_same_products():
    x = _digits().numpy()
    peer = Nystroem(gamma=1 / 8, n_components=30, random_state=0).fit(x)
    theirs = torch.tensor(peer.transform(x))
    y = torch.tensor(peer.components_)
    root = inverse_root(kernels.rbf(y, y, 1 / 8)).factor
    ours = kernels.rbf(torch.tensor(x), y, 1 / 8) @ root
    torch.testing.assert_close(root, root.T, rtol=0, atol=1e-10)
    torch.testing.assert_close(ours @ ours.T, theirs @ theirs.T, rtol=0, atol=1e-10)


def test_the_root_is_that_of_the_decomposition_up_to_a_rotation():
    y = _digits()[:30]
    k = kernels.rbf(y, y, 1 / 8)
    values, vectors = torch.linalg.eigh(k)
    rotation = (vectors * values.rsqrt()).T @ torch.linalg.inv(inverse_root(k).factor)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(30, dtype=torch.float64), rtol=0, atol=1e-10)


def test_small_eigenvalues_are_dropped():
    x = _digits()[:30]
    linear = inverse_root(x[:, :5] @ x[:, :5].T)
    assert linear.rank == int(torch.linalg.matrix_rank(x[:, :5]))
    assert inverse_root(torch.ones(4, 4)).rank == 1
    assert inverse_root(torch.full((1, 1), 4.0)).factor.item() == 0.5
    k = kernels.rbf(x, x, 1 / 8)
    twice = torch.cat([x, x])
    doubled = inverse_root(kernels.rbf(twice, twice, 1 / 8))
    assert doubled.rank == inverse_root(k).rank
    assert float(doubled.factor.abs().max()) < 1e3


def test_what_of_an_indefinite_kernel_is_no_inner_product_is_dropped():
    x = _digits()[:30]
    sigmoid = torch.tanh(x @ x.T - 10)
    root = inverse_root(sigmoid)
    assert root.negative < -1e-3
    values = torch.linalg.eigvalsh(sigmoid)
    assert root.rank == int((values > 1e-6 * values.max()).sum())
    assert inverse_root(kernels.rbf(x, x, 1 / 8)).negative == 0


def test_what_has_no_root_is_refused():
    with pytest.raises(ValueError, match="not symmetric"):
        inverse_root(torch.tensor([[1.0, 0.5], [0.2, 1.0]]))
    with pytest.raises(ValueError, match="not finite"):
        inverse_root(torch.full((2, 2), torch.inf))
    with pytest.raises(ValueError, match="no positive eigenvalue"):
        inverse_root(torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
        inverse_root(torch.zeros(2, 3))
