"""Kernels against scikit-learn's, and kernel matrices that are read in blocks."""

import pytest
import torch
from sklearn.metrics import pairwise

from lightning_interpret.functional import kernels
from lightning_interpret.functional.kernels import KernelMatrix

X = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

PEERS = {
    "linear": (kernels.linear, pairwise.linear_kernel),
    "cosine": (kernels.cosine, pairwise.cosine_similarity),
    "rbf": (lambda x, y: kernels.rbf(x, y, 0.3), lambda x, y: pairwise.rbf_kernel(x, y, 0.3)),
    "polynomial": (
        lambda x, y: kernels.polynomial(x, y, 0.3, 0.7, 3),
        lambda x, y: pairwise.polynomial_kernel(x, y, degree=3, gamma=0.3, coef0=0.7),
    ),
}


@pytest.mark.parametrize("name", PEERS)
def test_kernels_are_scikit_learns_in_every_shape(name):
    ours, theirs = PEERS[name]
    expected = torch.tensor(theirs(X.numpy(), Y.numpy()))
    torch.testing.assert_close(ours(X, Y), expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(ours(X.reshape(1, 7, 5), Y), expected[None], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(ours(X[0], Y), expected[0], rtol=1e-12, atol=1e-14)


def test_distances_of_vectors_far_from_the_origin_keep_their_digits_in_single_precision():
    far = torch.cat([X, Y]) + 300.0
    exact = torch.cdist(far, far).square()
    found = kernels.squared_distances(far.float(), far.float())
    assert float((found - exact).abs().max()) < 1e-3
    plain = far.float().square().sum(1)[:, None] + far.float().square().sum(1) - 2 * far.float() @ far.float().T
    assert float((plain - exact).abs().max()) > 0.05  # without taking the mean off


def test_the_median_heuristic():
    x = torch.tensor([[0.0], [0.0], [1.0], [3.0]], dtype=torch.float64)  # distances 1, 1, 2, 3, 3: median 2
    assert kernels.median_square(x) == pytest.approx(4)
    assert kernels.median_square(x[:2]) == 1.0


def test_a_zero_vector_has_no_direction():
    assert not kernels.cosine(torch.zeros(2, 5), Y.float()).any()


def test_a_matrix_is_read_in_parts():
    whole = kernels.rbf(X, X, 0.3)
    for matrix in (KernelMatrix.of_matrix(whole), KernelMatrix.of_features(PEERS["rbf"][0], X)):
        places = torch.tensor([5, 1])
        torch.testing.assert_close(matrix.columns(places), whole[:, places])
        torch.testing.assert_close(matrix.square(places), whole[places][:, places])
        torch.testing.assert_close(matrix.diagonal(), whole.diagonal())


def test_what_is_no_kernel_matrix_is_refused():
    with pytest.raises(ValueError, match=r"\(n, n\), this one has shape \(3, 2\)"):
        KernelMatrix.of_matrix(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"of 3 and 3 examples has shape \(3,\)"):
        KernelMatrix(3, lambda rows, columns: torch.zeros(len(rows))).square(torch.arange(3))
    with pytest.raises(ValueError, match="not finite"):
        KernelMatrix.of_matrix(torch.full((2, 2), torch.nan)).square(torch.arange(2))
