import signal

import pytest
import torch
from purity import Purity

#: Cells that every Monitor goes through by default; SaliencyMonitor goes through all, as all do with `-m slow`.
EVERYONE = (
    *("32-true-accumulation-eager", "32-true-validate-eager", "32-true-test-eager", "32-true-predict-eager"),
    *(
        "32-true-manual-compiled",
        "64-true-accumulation-eager",
        "bf16-mixed-accumulation-eager",
        "bf16-true-manual-eager",
    ),
    *("hooks-parametrizations-tied-weights", "hooks-parametrizations-in-half-precision", "forward-that-writes"),
    *("generators-of-its-own", "noisy-data", "dropout-alive-in-validation", "exponential-average-first"),
    *("loaders-in-a-list", "persistent-workers", "fast-dev-run", "one-validation-batch", "tensorboard"),
    *("on-error-raise-fit", "on-error-raise-validate", "interrupt-fit", "interrupt-validate"),
)


@pytest.hookimpl(tryfirst=True)  # before the marks are gone by
def pytest_collection_modifyitems(items):
    """Mark as slow what of the purity matrix is for one Monitor by default, in all Monitors but one."""
    for item in items:
        given = getattr(item, "callspec", None)
        own = item.path.name.startswith("test_purity") and given is not None and given.params.get("name")
        of_matrix = own and own != "SaliencyMonitor" and {"cell", "stop", "stage"} & given.params.keys()
        if of_matrix and not any(f"{cell}-" in f"{given.id}-" for cell in EVERYONE):
            item.add_marker(pytest.mark.slow)


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
