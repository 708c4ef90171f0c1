import signal

import pytest
import torch
from purity import Purity


@pytest.fixture(scope="session")
def purity(tmp_path_factory):
    """The purity harness, with the runs that Monitors share."""
    return Purity(tmp_path_factory)


@pytest.fixture(autouse=True)
def _process_wide():
    """Nothing that is the process's own passes from one test to the next: Dynamo's caches, the handler of Ctrl-C."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)
    torch._dynamo.reset()
