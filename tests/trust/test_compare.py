"""Methods compared where the truth is known: words that add up, texts of one word, models that say one thing."""

import json
import math

import pytest
import torch
from purity import assert_same, state_of
from tiny import LONG, SHORT, batch_of, classifier, wordpiece
from tiny_images import images_of, model_of
from torch import nn
from trust_toys import TEXTS, Words, words

from lightning_interpret import SequenceClassification
from lightning_interpret.functional.faithfulness import BINS
from lightning_interpret.methods import Gradient, IntegratedGradients, Occlusion
from lightning_interpret.records.trust import TrustRow
from lightning_interpret.tasks import find_task
from lightning_interpret.trust.compare import compare_methods
from lightning_interpret.trust.measure import measure
from lightning_interpret.trust.setting import Setting, named_methods

ALL = ("integrated_gradients", "occlusion", "gradient_times_input", "gradient")


def bert(texts=(LONG, SHORT, "a great film"), **options):
    tokenizer = wordpiece()
    return classifier("bert"), SequenceClassification(tokenizer, ["x", "y", "z"]), batch_of(tokenizer, texts, **options)


def figures(row):
    return {each.name: each.figures for each in row.methods}


def test_where_words_add_up_paths_and_erasure_are_exact_and_a_gradient_does_not_rank():
    row = compare_methods(*_given(words()), ALL, setting=Setting(baseline="zero"))
    found = figures(row)
    for name in ("integrated_gradients", "occlusion"):
        assert found[name]["relative_error"] < 1e-5
        assert found[name]["leave_one_out"] == pytest.approx(1.0)
    assert "relative_error" not in found["gradient"]  # one size for every word
    assert found["gradient"]["comprehensiveness"] < found["integrated_gradients"]["comprehensiveness"]
    assert row.recommended is None  # of four methods 6 texts cannot tell one from chance, of two they can
    assert "With 6 probes no order can be told from a random one: ask for 7 or more." in row.because[0]
    fewer = compare_methods(*_given(words()), ["integrated_gradients", "gradient"], setting=Setting(baseline="zero"))
    assert fewer.recommended == "integrated_gradients"
    assert any("gradient is left out" in line for line in fewer.because)
    assert "relative_error" in next(each for each in row.methods if each.name == "gradient").reasons


def _given(parts):
    module, task, batch = parts
    return module, batch, task


def test_erasure_of_a_linear_model_is_what_a_loop_finds():
    module, task, batch = words()
    setting = Setting(baseline="zero", orders=1, randomised=False)
    probed = measure(module, batch, task, named_methods(["occlusion"]), setting)
    values = module.head(module.embedding.weight).detach()
    for i, row in enumerate(probed):
        ids = [t for t in batch["input_ids"][i].tolist() if t not in (0, 2, 3)]
        special = values[[2, 3]].sum(dim=0)

        def p(kept, special=special):
            return (values[kept].sum(dim=0) + special).double().softmax(dim=0)

        label = int(p(ids).argmax())
        worth = [float(values[t, label] - values[t, 1 - label]) for t in ids]
        order = sorted(range(len(ids)), key=lambda k: -worth[k])
        sizes = [-(-share * len(ids) // 100) for share in BINS]
        lost = [float(p(ids)[label] - p([ids[k] for k in order[size:]])[label]) for size in sizes]
        alone = [float(p(ids)[label] - p([ids[k] for k in order[:size]])[label]) for size in sizes]
        assert row.figures["occlusion"]["comprehensiveness"] == pytest.approx(sum(lost) / 5, abs=1e-5)
        assert row.figures["occlusion"]["sufficiency"] == pytest.approx(sum(alone) / 5, abs=1e-5)


def test_a_batch_says_what_its_examples_say_alone_and_padding_counts_for_nothing():
    module, task, batch = bert()
    setting, methods = Setting(orders=2), named_methods(ALL)
    together = measure(module, batch, task, methods, setting)
    for i, text in enumerate((LONG, SHORT, "a great film")):
        (alone,) = measure(module, batch_of(task.tokenizer, [text]), task, methods, setting)
        for name, known in alone.figures.items():
            for figure, value in known.items():
                if figure not in ("seconds", "passes"):  # of the row with the most padding one forward is a trial
                    assert together[i].figures[name][figure] == pytest.approx(value, abs=1e-4), (name, figure)


def test_every_setting_is_deterministic_and_leaves_the_module_as_it_was():
    module, task, batch = bert()
    before = state_of(module)
    first, second = (compare_methods(module, batch, task, ALL, setting=Setting(orders=2)) for _ in range(2))
    assert_same(before, state_of(module))
    strip = [
        [(each.name, {k: v for k, v in each.figures.items() if k != "seconds"}) for each in (*row.methods, row.control)]
        for row in (first, second)
    ]
    assert strip[0] == strip[1]
    assert TrustRow.from_dict(json.loads(json.dumps(first.to_dict(), allow_nan=False))) == first


def test_a_method_that_fails_is_a_line_with_its_reason_and_the_others_are_compared():
    row = compare_methods(*_given(bert()), ["expected_gradients", "integrated_gradients"])
    broken, fine = row.methods
    assert broken.probes == 0
    assert "drawn from reference examples" in broken.failed
    assert fine.probes == 3
    assert fine.failed is None
    assert "expected_gradients failed" in str(row)


class Picky(Words):
    """Takes no text of fewer than 3 words while gradients are asked for."""

    def forward(self, ids, mask):
        if torch.is_grad_enabled() and int(mask.sum(dim=1).min()) < 5:
            raise RuntimeError("too short for a gradient")
        return super().forward(ids, mask)


def test_one_bad_probe_does_not_take_a_method_the_others():
    _, task, batch = words((*TEXTS, "bad"))
    row = compare_methods(Picky(), batch, task, ["gradient_times_input", "occlusion"])
    assert row.methods[0].probes == len(TEXTS)
    assert row.methods[0].failed.startswith("at 1 of 7 probes: RuntimeError: too short")
    assert row.methods[1].probes == 7


def test_texts_of_one_word_or_none_and_a_model_that_says_one_thing_have_defined_values():
    module, task, batch = words(("bad", "", "great"))
    row = compare_methods(module, batch, task, ALL)
    assert "leave_one_out" not in row.methods[0].figures
    assert "no order" in row.methods[0].reasons["leave_one_out"]
    assert row.recommended is None
    constant = Words()
    nn.init.zeros_(constant.head.weight)
    row = compare_methods(constant, words()[2], task, ALL)
    for each in (*row.methods, row.control):
        assert all(math.isfinite(value) for value in each.figures.values())
        assert each.figures["comprehensiveness"] == each.figures["sufficiency"] == 0
    assert row.methods[0].p == 1
    assert row.methods[0].reasons["gini"] == "every score is 0"
    assert row.recommended is None
    empty = compare_methods(module, batch_of(task.tokenizer, ["", ""]), task, ["occlusion"])
    assert empty.methods[0].reasons["comprehensiveness"] == "the text has no tokens of its own"


def test_gold_rationales_are_compared_with_where_there_are_some():
    spans = [[(0, 3)], [], None, [(4, 10)], [(0, 5)], [(2, 6)]]
    module, task, batch = words(rationales=spans)
    row = compare_methods(module, batch, task, ["occlusion", "gradient"])
    for each in (*row.methods, row.control):
        assert {"token_f1", "iou_f1", "auprc"} <= each.figures.keys()
        assert 0 <= each.figures["iou_f1"] <= 1
    nothing = words(rationales=[[]] * 6)[2]
    row = compare_methods(module, nothing, task, ["occlusion"])
    assert row.methods[0].reasons["token_f1"] == "nobody selected anything of the text"
    assert "no `rationale`" in compare_methods(*_given(words()), ["occlusion"]).methods[0].reasons["auprc"]
    other = torch.zeros(6, 3, dtype=torch.long)
    assert (
        "not of the units" in compare_methods(*_given(words()), ["occlusion"], gold=other).methods[0].reasons["auprc"]
    )


def test_a_perfect_rationale_is_found_by_the_method_that_marks_it():
    module, task, batch = words(("great dull great dull great", "dull great dull great dull"))
    with torch.no_grad():
        label = module(batch["input_ids"], batch["attention_mask"]).argmax(dim=1)
        worth = module.head(module.embedding(batch["input_ids"])).gather(
            2, label[:, None, None].expand(-1, batch["input_ids"].shape[1], 1)
        )[..., 0]
    gold = (worth > 0).long()
    row = compare_methods(
        module, batch, task, ["integrated_gradients"], gold=gold, setting=Setting(baseline="zero", share=60)
    )
    assert row.methods[0].figures["auprc"] == pytest.approx(1.0)


def test_agreement_is_of_each_pair_and_full_of_methods_that_say_the_same():
    row = compare_methods(
        *_given(words()), [IntegratedGradients(baseline="zero"), Occlusion(baseline="zero"), "gradient"]
    )
    pairs = {(each.first, each.second): each for each in row.agreement}
    assert len(pairs) == 3
    same = pairs["integrated_gradients", "occlusion"]
    assert same.kendall == pytest.approx(1.0)
    assert same.common == 1.0


def test_random_weights_change_what_is_said_and_not_the_target():
    module, task, batch = bert()
    row = compare_methods(module, batch, task, ["integrated_gradients"])
    assert abs(row.methods[0].figures["randomisation"]) < 0.6
    without = compare_methods(module, batch, task, ["integrated_gradients"], setting=Setting(randomised=False))
    assert "randomised=False" in without.methods[0].reasons["randomisation"]
    assert without.methods[0].figures["comprehensiveness"] == row.methods[0].figures["comprehensiveness"]


def test_sensitivity_is_asked_for_and_small_where_scores_do_not_depend_on_the_input():
    module, task, batch = bert()
    setting = Setting(sensitivity=3, randomised=False)
    row = compare_methods(module, batch, task, ["gradient", "occlusion"], setting=setting)
    assert all(0 < each.figures["max_sensitivity"] < 1 for each in row.methods)
    linear = compare_methods(*_given(words()), ["gradient"], setting=setting)
    assert linear.methods[0].figures["max_sensitivity"] == pytest.approx(0, abs=1e-5)
    assert "max_sensitivity" not in compare_methods(*_given(words()), ["gradient"]).methods[0].figures


def test_no_more_probes_are_begun_when_the_time_is_spent():
    row = compare_methods(*_given(bert()), ["gradient"], max_seconds=1e-9, batch_size=1)
    assert row.probes == 1
    assert row.notes == ("1 of 3 probes: `max_seconds=1e-09` was spent",)


def test_two_settings_of_one_method_are_told_apart_and_the_same_twice_is_refused():
    two = named_methods([Gradient(), Gradient(norm="mean_abs"), "occlusion"])
    assert list(two) == ["gradient", "gradient:norm=mean_abs", "occlusion"]
    with pytest.raises(ValueError, match="names 'gradient' twice"):
        named_methods(["gradient", Gradient()])
    with pytest.raises(ValueError, match="`methods` is empty"):
        named_methods([])


@pytest.mark.parametrize(
    "options", [{"share": 0}, {"share": 101}, {"bins": ()}, {"orders": 0}, {"top": 0}, {"seed": -1},
        {"sensitivity": -1}, {"output": "x"},
                {"baseline": "distribution"}]
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Setting(**options)


class OneScore(Words):
    """A regression: one number a text."""

    def forward(self, ids, mask):
        return super().forward(ids, mask)[:, :1]


def test_what_methods_cannot_be_compared_on_is_said():
    module, task, batch = words()
    with pytest.raises(ValueError, match="The model has one score, as in regression"):
        compare_methods(OneScore(), batch, type(task)(task.tokenizer, ["score"]), ["occlusion"])
    with pytest.raises(ValueError, match="which='best'"):
        compare_methods(module, batch, task, ["occlusion"], setting=Setting(which="best"))
    with pytest.raises(ValueError, match="The batch has no examples"):
        compare_methods(module, task.take(batch, torch.arange(0)), task, ["occlusion"])


@pytest.mark.parametrize("option", [{"batch_size": 0}, {"tolerance": -1}, {"max_seconds": 0}])
def test_options_of_a_comparison_out_of_range_are_refused_by_name(option):
    with pytest.raises(ValueError, match=f"`{next(iter(option))}="):
        compare_methods(*_given(words()), ["occlusion"], **option)


class Trained(Words):
    """Takes no weights but those it was made with while gradients are asked for."""

    def forward(self, ids, mask):
        if torch.is_grad_enabled() and not torch.equal(*self.head.weight.abs()):
            raise RuntimeError("no such weights")
        return super().forward(ids, mask)


def test_why_a_figure_is_missing_is_said_as_it_is():
    _, task, batch = words((*TEXTS, "bad"))
    few = Setting(orders=1, bins=(20,))
    found = compare_methods(Trained(), batch, task, ["gradient_times_input"], setting=few).methods[0]
    assert found.failed is None
    assert found.reasons["randomisation"] == "of random weights it failed: RuntimeError: no such weights"
    asked = Setting(orders=1, bins=(20,), randomised=False, sensitivity=1)
    found = compare_methods(Picky(), batch, task, ["gradient_times_input"], setting=asked).methods[0]
    assert found.reasons["max_sensitivity"] == "it fails at a probe that is explained with this one"
    long = words((" ".join(["great film"] * 260),))
    found = compare_methods(*_given(long), ["gradient_times_input"], setting=few).methods[0]
    assert found.reasons["randomisation"].startswith("more than 512 units")


def test_pictures_are_compared_location_by_location():
    module = model_of("resnet")
    few = Setting(orders=1, bins=(20,), randomised=False)
    row = compare_methods(module, images_of(2), find_task(module), ["gradient_times_input"], setting=few)
    assert row.methods[0].failed is None
    assert {"comprehensiveness", "sufficiency", "relative_error", "gini"} <= row.methods[0].figures.keys()
    assert row.methods[0].reasons["leave_one_out"].startswith("more than 512 units")


def test_several_targets_an_example_are_refused_by_name():
    module, batch = model_of("yolos"), images_of(2)
    task = find_task(module)
    task.threshold = 0.0
    with pytest.raises(ValueError, match=r"`which='all'` has \d+ targets in 2 examples"):
        compare_methods(module, batch, task, ["gradient"], setting=Setting(which="all"))
