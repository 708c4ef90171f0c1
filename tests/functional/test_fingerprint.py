import subprocess
import sys
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy
import pytest
import torch
from torch import nn

from lightning_interpret.functional.fingerprint import digest_of, weights_hash


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
    x = torch.arange(6)
    assert digest_of(x, "a") == digest_of(x.clone(), "a")
    others = [digest_of(x), digest_of(x.reshape(2, 3)), digest_of(x.flip(0)), digest_of(x.int()), digest_of(x, None)]
    assert len(set(others)) == 5
    assert digest_of(torch.zeros(0)) != digest_of(torch.zeros(()))


@dataclass
class Pair:
    ids: Any
    label: Any


def test_a_digest_goes_into_batches_of_any_kind():
    wide = numpy.arange(2000.0)  # whose `repr` leaves out the middle
    changed = wide.copy()
    changed[1000] = -1
    values = [{"x": wide}, {"x": changed}, {"y": wide}, [wide], Pair(wide, 1), Pair(wide, 2), Pair(wide, True)]
    values += ["x", b"x", ["a", "b"], ["ab"], [["a"], "b"], torch.eye(3).to_sparse(), torch.zeros(3, 3).to_sparse()]
    assert len({digest_of(value) for value in values}) == len(values)
    assert [digest_of(value) for value in deepcopy(values)] == [digest_of(value) for value in values]


def test_a_digest_is_the_same_in_every_process():
    code = """
import torch
from lightning_interpret.functional.fingerprint import digest_of
rows = [{"a": torch.ones(2, dtype=torch.bfloat16), "b": {"x", "y", "z"}, "c": None, "d": b"1", "e": object()}]
found = digest_of(rows, 1.5)
"""
    here = {}
    exec(code, here)
    there = subprocess.run([sys.executable, "-c", f"{code}\nprint(found)"], check=True, capture_output=True, text=True)
    assert there.stdout.strip() == here["found"]
