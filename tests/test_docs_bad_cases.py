"""What `docs/bad_cases.md` says of thresholds, causes, commands, columns and scalars is what the code has."""

import ast
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from lightning_interpret import BadCaseMonitor
from lightning_interpret.bad_cases import ACTIONS, CAUSES, STATUSES
from lightning_interpret.causes import Setting
from lightning_interpret.causes.words import NEGATORS, words_of
from lightning_interpret.cli import _parser
from lightning_interpret.report.relabel import ANSWERS, COLUMNS

GUIDE = (Path(__file__).parents[1] / "docs" / "bad_cases.md").read_text(encoding="utf8")
RULES = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", GUIDE.partition("| cause |")[2].partition("\n\n")[0], re.M)


def test_every_threshold_is_there_with_its_default():
    said = {name: ast.literal_eval(value) for name, value in re.findall(r"`(\w+)=([\d.]+)`", GUIDE)}
    defaults = asdict(Setting())
    assert said.pop("max_seconds") == BadCaseMonitor().max_seconds
    assert said == defaults


def test_every_cause_is_there_with_an_action():
    named = [cause for cause, _, _ in RULES]
    assert set(named) == set(CAUSES)
    assert {re.match(r"`(\w+)`", action)[1] for _, _, action in RULES} <= set(ACTIONS)
    assert all(f"`{status}`" in GUIDE for status in STATUSES)


def test_causes_are_in_the_order_in_which_they_decide():
    assert [cause for cause, _, _ in RULES] == list(CAUSES)


def test_the_commands_are_taken():
    (block,) = re.findall(r"```sh\n(.*?)```", GUIDE, re.S)
    commands = [line.split()[1:] for line in block.splitlines()]
    assert [_parser().parse_args(words).command for words in commands] == ["badcases", "apply", "badcases", "compare"]


def test_the_columns_and_answers_of_relabel_are_there():
    table = GUIDE.partition("| column |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert tuple(re.findall(r"`(\w+)`", " ".join(rows))) == COLUMNS
    assert all(f"`{answer}`" in table for answer in ANSWERS if answer)


@pytest.mark.parametrize("word", ["not", "nicht", "pas", "senza", "sin", "não", "不"])
def test_negations_of_each_language_that_is_named_are_known(word):
    assert word in NEGATORS


def test_words_are_told_apart_as_it_says():
    assert words_of("Not bad, 不好 ดี") == ["not", "bad", "不", "好", "ด", "ี"]
    assert words_of("हिन्दी") == ["हिन्दी"]
