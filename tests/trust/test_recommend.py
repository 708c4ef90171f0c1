"""One recommendation from hand-made tables: each rule leaves out what it says, and ties are said."""

import itertools
import random
import re

import pytest
from trust_toys import comparison, method

from lightning_interpret.records.trust import Drill
from lightning_interpret.trust.paired import sign_flip, standard_error
from lightning_interpret.trust.recommend import recommend

DRILL = Drill("tuesday", "good", 0.1, 50, found={"a": 0.9, "b": 0.3}, first={"a": 0.8, "b": 0.1}, chance=(0.1, 0.3))


def test_the_most_faithful_of_what_remains_is_recommended_and_says_why():
    methods = [method("a", comprehensiveness=0.3, sufficiency=0.1), method("b", gain=0.02, comprehensiveness=0.2)]
    name, because = recommend(methods, comparison().control)
    assert name == "a"
    assert because[0] == "a is recommended, of 2 that could be."
    assert "miss what they attribute by 0.10%" in because[1]
    assert "comprehensiveness +0.300 (random order +0.100), sufficiency +0.100 (random order +0.300)" in because[2]
    assert not any("b " in said for said in because)  # b's gain is far below


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"relative_error": 0.06}, "miss what they attribute by 6.0%, and 5.0% is tolerated"),
        ({"p": 0.051}, r"no more faithful than a random order \(gain \+0.100, corrected p = 0.051\)"),
        ({"gain": None, "p": None}, "its faithfulness is not known"),
        ({"randomisation": -0.5}, r"a model with random weights \(rank correlation -0.50\)"),
        ({"failed": "ValueError: no"}, r"it failed \(ValueError: no\)"),
        ({"probes": 0}, "no probe was explained"),
    ],
)
def test_each_rule_leaves_out_what_it_says(fault, said):
    better = {"comprehensiveness": 0.9, "sufficiency": 0.0}
    name, because = recommend([method("a", **better, **fault), method("b")])
    assert name == "b"
    assert any(line.startswith("a is left out") for line in because)
    assert re.search(said, " ".join(because))
    assert recommend([method("a", **better), method("b")])[0] == "a"


def test_a_method_that_only_ranks_may_be_recommended_and_says_so():
    name, because = recommend([method("gradient", relative_error=None)])
    assert name == "gradient"
    assert "It ranks only" in because[1]


def test_none_is_an_outcome_and_few_probes_are_named():
    name, because = recommend([method("a", p=0.4), method("b", relative_error=0.5)])
    assert name is None
    assert because[0] == "None of these methods can be recommended on this model."
    assert len(because) == 3
    assert "With 3 probes no order can be told from a random one" in recommend([method("a", p=0.125, probes=3)])[1][0]
    assert recommend([]) == (None, ("None of these methods can be recommended on this model.",))


def test_p_is_corrected_for_how_many_methods_are_asked():
    few = [method("a", p=0.02), method("b", p=0.4)]
    assert recommend(few)[0] == "a"
    assert "(corrected p = 0.04, " in recommend(few)[1][2]
    many = [method("a", p=0.02), *(method(name, p=0.4) for name in "bc")]
    name, because = recommend(many)
    assert name is None
    assert "a is left out: it is no more faithful than a random order (gain +0.100, corrected p = 0.06)." in because


def test_a_tie_goes_to_the_faster_and_then_to_the_first_name_and_is_said():
    name, because = recommend([method("a", seconds=2.0), method("b", seconds=1.0), method("c", seconds=1.0)])
    assert name == "b"
    assert "a ranks the same, which takes longer." in because
    assert "c ranks the same, which takes as long." in because
    near = [method("a", gain=0.1), method("b", gain=0.095, comprehensiveness=0.29)]
    assert "b is not told apart from it by these probes." in recommend(near)[1]


def test_what_finds_a_planted_cue_no_more_often_than_chance_is_left_out_where_the_drill_is_valid():
    methods = [method("a", comprehensiveness=0.1), method("b")]
    assert recommend(methods)[0] == "b"
    name, because = recommend(methods, drill=DRILL)
    assert name == "a"
    assert any("it finds a planted cue in 30% of the texts, and a random order in 30%" in line for line in because)
    broken = Drill(**{**vars(DRILL), "invalid": "the model does not use the cue"})
    name, because = recommend(methods, drill=broken)
    assert name == "b"
    assert because[-1] == "The drill says nothing: the model does not use the cue."


def test_the_order_in_which_methods_are_named_changes_nothing():
    methods = [
        method(name, comprehensiveness=x, sufficiency=x) for name, x in zip("abcd", (0.1, 0.2, 0.2, 0.3), strict=True)
    ]
    shuffled = methods[:]
    random.Random(0).shuffle(shuffled)
    assert recommend(methods)[0] == recommend(shuffled)[0]


def test_the_sign_flip_test_is_exact():
    values = [0.3, -0.1, 0.2, 0.05]
    sums = [sum(s * v for s, v in zip(signs, values, strict=True)) for signs in itertools.product((1, -1), repeat=4)]
    assert sign_flip(values) == sum(each >= sum(values) - 1e-12 for each in sums) / 16
    assert sign_flip([1.0] * 5) == 1 / 32
    assert sign_flip([0.0] * 8) == 1.0
    assert sign_flip([]) == 1.0
    drawn = [0.1] * 30
    assert sign_flip(drawn) == sign_flip(drawn) <= 2e-4
    assert sign_flip([0.1, -0.1] * 20) > 0.3


def test_a_standard_error_needs_two():
    assert standard_error([1.0]) is None
    assert standard_error([1.0, 3.0]) == pytest.approx(1.0)
