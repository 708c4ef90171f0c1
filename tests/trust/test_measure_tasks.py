"""What erasure costs for every task: loops over token ids that ask `transformers` itself, in double precision."""

import math

import pytest
import torch
from every_task import NAMES, made

from lightning_interpret import TrustMonitor
from lightning_interpret.functional.faithfulness import comprehensiveness, leave_one_out, log_odds, sufficiency
from lightning_interpret.methods.perturbed import Perturbed
from lightning_interpret.trust.attention import attention_report
from lightning_interpret.trust.figures import RANDOM, Probed, of_examples
from lightning_interpret.trust.measure import measure
from lightning_interpret.trust.setting import Setting, measured_in, measured_said, named_methods

SEQUENCES = tuple(f"{name} sequence" for name in NAMES if "Generation" in name)
CASES = (*NAMES, *SEQUENCES)
MOST = ("TokenClassification", "QuestionAnswering", "Seq2SeqGeneration", *SEQUENCES[:1], *NAMES[-2:])
FEW = ("TokenClassification", "CausalGeneration sequence", "Regression")  # of each measure one; the others are slow


def opened(case, **options):
    """A model, its task, and both at the targets of a batch, in what erasure is measured in."""
    name, _, together = case.partition(" ")
    model, task, batch = made(name, dtype=torch.float64, **options)
    which = "predicted" if name == "Regression" else "gold"
    which = f"{which} {together}" if together else which
    return model, task, Perturbed(model, batch, task, which=which, output=measured_in(task, which)), batch, which


@torch.no_grad()
def says(case, model, found, row, erased, pad=0):
    """What `transformers` says of one target with some tokens put at the padding token: its probability, or such."""
    parts, targets = found.batch, found.targets
    i, source = int(targets.example[row]), parts["input_ids"].shape[1]
    given = {k: v[i : i + 1].clone() for k, v in parts.items() if torch.is_tensor(v)}
    given["input_ids"][0, erased[:source]] = pad
    if "decoder_input_ids" in given:
        given["decoder_input_ids"][0, erased[source:]] = pad
    names = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids")
    if "Causal" in case:
        given["position_ids"] = (given["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
        names += ("position_ids",)
    output = model(**{k: given[k] for k in names if k in given})
    if case == "QuestionAnswering":
        ends = [
            each[0].masked_fill(given["attention_mask"][0] == 0, -math.inf).softmax(dim=0)
            for each in (output.start_logits, output.end_logits)
        ]
        return math.prod(float(end[token]) for end, token in zip(ends, targets.classes[row].tolist(), strict=True))
    logits = output.logits[0]
    if case in ("SequenceClassification", "pairs"):
        return float(logits.softmax(dim=0)[targets.index[row]])
    if case == "MultiLabelClassification":
        return float(logits[targets.index[row]].sigmoid())
    if case == "Regression":
        return float(logits[0])
    places = [(p, c) for p, c in zip(targets.place[row].tolist(), targets.classes[row].tolist(), strict=True) if p >= 0]
    likely = [float(logits[place].softmax(dim=0)[token]) for place, token in places]
    return sum(map(math.log, likely)) if "sequence" in case else math.prod(likely)


@pytest.mark.parametrize(
    "case", [case if case in MOST else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_erasure_is_a_loop_over_the_tokens_of_each_target(case):
    model, _, found, _, _ = opened(case)
    scores = torch.rand(found.counts.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    without = comprehensiveness(scores, found.counts, found.kept, bins=(50, 100))
    alone = sufficiency(scores, found.counts, found.kept, bins=(50,))
    each = leave_one_out(found.counts, found.kept)
    for row, counts in enumerate(found.counts):
        nothing = torch.zeros_like(counts)

        def lost(erased, row=row, nothing=nothing):
            before, after = (says(case, model, found, row, some) for some in (nothing, erased))
            return abs(before - after) if case == "Regression" else before - after

        order = [t for t in scores[row].argsort(descending=True).tolist() if counts[t]]
        half = nothing.clone()
        half[order[: math.ceil(len(order) / 2)]] = True
        assert float(without[row, 0]) == pytest.approx(lost(half), abs=1e-9), "the highest half is gone"
        assert float(without[row, 1]) == pytest.approx(lost(counts), abs=1e-9), "all is gone: F(x) − F(x')"
        assert float(alone[row, 0]) == pytest.approx(lost(counts & ~half), abs=1e-9), "the highest half is left"
        one = nothing.clone()
        one[order[0]] = True
        assert float(each[row, order[0]]) == pytest.approx(lost(one), abs=1e-9)
        if case != "Regression":
            assert float(found.target[row]) == pytest.approx(says(case, model, found, row, nothing), abs=1e-9)


@pytest.mark.parametrize(
    "case", [case if case in FEW else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_a_batch_is_measured_as_its_examples_one_by_one(case):
    model, task, _, batch, which = opened(case)
    methods, setting = named_methods(["gradient_times_input", "attention_rollout"]), Setting(which, orders=2)
    together = measure(model, batch, task, methods, setting)
    assert len(together) == 2
    for i, row in enumerate(together):
        (alone,) = measure(model, task.take(batch, torch.tensor([i])), task, methods, setting)
        assert not row.failed
        for name, figures in row.figures.items():
            same = {k: v for k, v in alone.figures[name].items() if k not in ("seconds", "passes")}
            assert {k: figures[k] for k in same} == pytest.approx(same, abs=1e-8), name
        assert {"comprehensiveness", "sufficiency", "leave_one_out"} <= row.figures[RANDOM].keys()
        assert ("log_odds" in row.figures[RANDOM]) == (case != "Regression")


def test_log_odds_of_all_that_is_written_are_of_the_log_probability_itself():
    _, _, found, _, which = opened("CausalGeneration sequence")
    scores = torch.rand(found.counts.shape, dtype=torch.float64)
    model, task, batch = made("CausalGeneration", dtype=torch.float64)
    likely = Perturbed(model, batch, task, which=which, output="prob")
    wanted = comprehensiveness(scores, found.counts, found.kept, bins=(20,)).flatten()
    torch.testing.assert_close(log_odds(scores, likely.counts, likely.kept), wanted)


@pytest.mark.parametrize("name", ["CausalGeneration", "Seq2SeqGeneration"])
@pytest.mark.parametrize(("attribute", "segments"), [("input", {0}), ("output", {1}), ("both", {0, 1})])
def test_only_what_is_replaced_can_be_erased(name, attribute, segments):
    _, _, found, _, _ = opened(name, attribute=attribute)
    counted = {int(segment) for segment in found.units.segment[found.counts]}
    assert counted == segments
    first, second = found.counts.sum(dim=1).tolist()[:2]
    assert second - first == (attribute != "input")  # the second token is written after the first


@pytest.mark.parametrize("name", ["CausalGeneration", "Seq2SeqGeneration"])
def test_what_the_model_wrote_stays_what_is_explained_under_random_weights(name):
    model, task, batch = made(name, continuation="own", max_new_tokens=3)
    model.generation_config.eos_token_id = None
    methods = named_methods(["gradient_times_input", "occlusion"])
    rows = measure(model, batch, task, methods, Setting(orders=1))
    assert [row.failed for row in rows] == [{}, {}]
    assert all("randomisation" in row.figures["occlusion"] for row in rows)
    assert rows[0].figures["occlusion"]["passes"] > rows[0].figures["gradient_times_input"]["passes"]


def test_a_probe_is_the_mean_of_its_targets_and_the_sum_of_what_they_cost():
    def row(value, tau, **failed):
        figures = {"a": {"gini": value, "passes": 2.0}, "b": {"gini": value}}
        figures = {name: each for name, each in figures.items() if name not in failed}
        return Probed(figures, {("a", "b"): (tau, 0.5)}, failed, {name: {"auprc": "none"} for name in figures})

    first, second, third = of_examples([row(1.0, None), row(3.0, 0.5), row(5.0, 0.1, b="lost")], [0, 0, 2], 3)
    assert first.figures == {"a": {"gini": 2.0, "passes": 4.0}, "b": {"gini": 2.0}}
    assert first.agreement == {("a", "b"): (0.5, 0.5)}
    assert first.reasons == {"a": {"auprc": "none"}, "b": {"auprc": "none"}}
    assert second == Probed({}, {}, {}, {})
    assert (third.failed, third.agreement, list(third.figures)) == ({"b": "lost"}, {}, ["a"])
    rows = [row(1.0, 0.5), row(2.0, 0.5)]
    assert of_examples(rows, [0, 1], 2) == rows


def test_what_is_measured_is_said_where_it_is_no_probability():
    for case in CASES:
        _, task, _, _, which = opened(case)
        measured = measured_in(task, which)
        assert measured == {"Regression": "change"}.get(case, "log_prob" if case in SEQUENCES else "prob")
        assert bool(measured_said(measured)) == (measured != "prob")
    assert measured_in(made("CausalGeneration")[1], "gold 2:5") == "log_prob"


def test_an_output_that_a_number_has_not_and_a_drill_of_no_classes_are_refused_before_training():
    model, task, _ = made("Regression")
    with pytest.raises(ValueError, match=r"`output='prob'`: TrustMonitor .* Regression, which is no class"):
        TrustMonitor(output="prob").check(model, task)
    model, task, _ = made("TokenClassification")
    with pytest.raises(ValueError, match=r"`drill`: .* a TokenClassification does not read both"):
        TrustMonitor(drill=True).check(model, task)


@pytest.mark.parametrize("name", NAMES[2:])
def test_a_report_on_attention_needs_classes_and_says_so(name):
    model, task, batch = made(name)
    with pytest.raises(ValueError, match=rf"probabilities of classes, and a {name} has none .*use AttentionMonitor"):
        attention_report(model, batch, task)
