import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read at import: a test that asks a hub fails at once
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start: one for each core is there

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tiny tensors are faster on one thread, and two test runs do not get in each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_addoption(parser):
    parser.addoption("--data-folder", help="the folder of the real data sets, for slow tests")
    parser.addoption("--encoder-folder", help="a directory of a pretrained MiniLM, for slow tests")
