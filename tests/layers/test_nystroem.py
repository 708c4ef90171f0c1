"""The Nyström layer: what it reproduces, what it survives and what it refuses."""

import torch
from sklearn.datasets import load_digits

from lightning_interpret.functional import kernels
from lightning_interpret.layers import NystroemLayer


def _digits(count=200):
    return torch.tensor(load_digits().data[:count] / 16)


def test_with_all_points_as_landmarks_the_kernel_is_reproduced():
    x = _digits()
    layer = NystroemLayer(64, 200, rtol=1e-14).double()
    layer.set_landmarks(x)
    mapped = layer(x)
    k = kernels.rbf(x, x, layer.gram.kernel.log_scale.exp())
    assert float((mapped @ mapped.T - k).norm() / k.norm()) < 1e-8
