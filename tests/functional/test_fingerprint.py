import pytest
import torch
from torch import nn

from lightning_interpret.functional.fingerprint import Digest, weights_hash


def model(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.fixture(autouse=True)
def _own_random_state():
    with torch.random.fork_rng():
        yield


def test_equal_weights_have_one_hash_and_the_smallest_change_another():
    a, b = model(), model()
    assert weights_hash(a) == weights_hash(b) != weights_hash(model(1))
    with torch.no_grad():
        b[2].bias[1] = torch.nextafter(b[2].bias[1], torch.tensor(9.0))
    assert weights_hash(a) != weights_hash(b)


def test_buffers_dtypes_and_names_count():
    plain = weights_hash(model())
    other = model()
    other[1].running_mean += 1
    assert plain != weights_hash(other)
    assert plain != weights_hash(model().bfloat16()) != weights_hash(model().half())
    assert plain != weights_hash(nn.ModuleDict({"all": model()}))


def test_a_digest_tells_order_and_shape_and_takes_empty_and_scalar_tensors():
    def digest(*values):
        found = Digest()
        found.add(*values)
        return str(found)

    x = torch.arange(6)
    assert digest(x, "a") == digest(x.clone(), "a")
    assert len({digest(x), digest(x.reshape(2, 3)), digest(x.flip(0)), digest(x.int()), digest(x, None)}) == 5
    assert digest(torch.zeros(0)) != digest(torch.zeros(()))
