"""CONTRIBUTING's walk through a new method is run as it stands there: one file and one test."""

import re
import textwrap
from pathlib import Path

import pytest
from tiny import Bag, bag_task, batch_of

from lightning_interpret import SaliencyMonitor
from lightning_interpret.commands.explain import method_from
from lightning_interpret.methods import METHODS

PAGE = Path(__file__).parent.parent / "CONTRIBUTING.md"


def block(mark):
    found = re.search(rf"<!-- {mark} -->\n *```python\n(.*?)\n *```", PAGE.read_text(encoding="utf8"), re.DOTALL)
    return textwrap.dedent(found[1])


@pytest.fixture
def even_shares():
    names = {"__name__": "even_shares"}
    exec(compile(block("method"), "methods/even_shares.py", "exec", dont_inherit=True), names)
    yield names["EvenShares"]
    del METHODS["even_shares"]


def test_the_method_passes_its_test(even_shares):
    names = {}
    exec(compile(block("test"), "tests/methods/test_even_shares.py", "exec", dont_inherit=True), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 1
    tests[0]()


def test_the_method_is_there_by_its_name(even_shares):
    assert SaliencyMonitor(method="even_shares").method == even_shares()
    assert method_from("even_shares", ["baseline=mask"]) == even_shares(baseline="mask")


def test_the_method_serves_other_layers_than_the_words(even_shares):
    task = bag_task()
    record = even_shares()(Bag().double(), batch_of(task.tokenizer), task, layer="hidden")
    assert float(record.relative_error.max()) < 1e-12
