"""CONTRIBUTING's walks through a new method and a new mixin are run as they stand there: one file and one test each."""

import copy
import math
import re
import textwrap
from pathlib import Path

import pytest
from joint_toys import Plain, loader
from tiny import Bag, bag_task, batch_of, quiet_trainer

from lightning_interpret import SaliencyMonitor, TurnOverDropoutMixin
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


@pytest.fixture
def penalty():
    names = {"__name__": "confidence_penalty"}
    exec(compile(block("mixin"), "mixins/confidence_penalty.py", "exec", dont_inherit=True), names)
    return names["ConfidencePenaltyMixin"]


def test_the_mixin_passes_its_test(penalty):
    names = {"ConfidencePenaltyMixin": penalty}
    exec(compile(block("mixin test"), "tests/mixins/test_confidence_penalty.py", "exec", dont_inherit=True), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 1
    tests[0]()


def test_the_mixin_is_short_and_goes_with_the_others(penalty, tmp_path):
    assert len(block("mixin").splitlines()) <= 40
    model = type("Model", (penalty, TurnOverDropoutMixin, Plain), {})(confidence_penalty=0.2)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(model, loader())
    assert -0.2 * math.log(2) <= trainer.callback_metrics["train_confidence"] < 0
    other = copy.deepcopy(model)
    assert other.confidence.module is other
