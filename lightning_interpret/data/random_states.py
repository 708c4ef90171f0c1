"""Random states that outlive what draws from them."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Put the global random states of torch (on the CPU), Python and NumPy back when the block ends."""
    numpy = sys.modules.get("numpy")  # not imported: nothing of it to disturb
    drawn, python = torch.get_rng_state(), random.getstate()
    other = numpy.random.get_state() if numpy else None
    try:
        yield
    finally:
        torch.set_rng_state(drawn)
        random.setstate(python)
        if numpy:
            numpy.random.set_state(other)


def seed_all(seed: int) -> None:
    """Seed torch (on the CPU), Python and NumPy, inside :func:`random_states_kept`.

    Not ``torch.manual_seed``, which would seed accelerators too, whose states are not put back.
    """
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)
