import math

import pytest

from lightning_interpret.methods.influence import INFLUENCE
from lightning_interpret.names import check_positive, check_seed, check_whole


def test_options_that_are_no_whole_numbers_are_refused_by_name():
    check_whole(k=1, depth=3)
    check_whole(0, suspects=0)
    for depth in (0, 2.0, True, None, "3"):
        with pytest.raises(ValueError, match=rf"`depth={depth!r}` must be a whole number of at least 1\."):
            check_whole(k=1, depth=depth)
    with pytest.raises(ValueError, match=r"`k=1` must be a whole number of at least 2\."):
        check_whole(2, k=1)


def test_options_that_are_not_positive_and_finite_are_refused_by_name():
    check_positive(scale=1e-9)
    for scale in (0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"`scale={scale!r}` must be positive and finite"):
            check_positive(scale=scale)


def test_a_seed_is_what_every_generator_takes():
    check_seed(0)
    for seed in (-1, 2**63, 1.0, None, True):
        with pytest.raises(ValueError, match=f"`seed={seed!r}` must be a whole number from 0"):
            check_seed(seed)


@pytest.mark.parametrize("name", sorted(INFLUENCE))
def test_every_influence_method_refuses_a_seed_and_layers_that_cannot_be(name):
    with pytest.raises(ValueError, match=r"`seed=-1` must be"):
        INFLUENCE[name](seed=-1)
    with pytest.raises(ValueError, match=r"`layers=\[\]` names no layer"):
        INFLUENCE[name](layers=[])
