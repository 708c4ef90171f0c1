"""The report on attention: its figures by hand, texts that are left out and why, and what it is shown as."""

import json
import statistics

import pytest
import torch
from attention_toys import Attentive, attentive_task
from purity import assert_same, state_of
from scipy.stats import kendalltau
from tiny import LONG, SHORT, batch_of, classifier, tokenizer_for

from lightning_interpret import AttentionReport, SequenceClassification, attention_report
from lightning_interpret.functional.features import LayerError
from lightning_interpret.trust.attention_reading import read_attention
from lightning_interpret.trust.attention_rows import PAIRS, AttentionRow, adversarial, pair_name

FEW = {"permutations": 9, "steps": 15}
REVIEWS = [LONG, SHORT, "a dull and bad movie", "he is a great player and very able", "bad"]


def data(task, texts=REVIEWS):
    labels = [i % 3 for i in range(len(texts))]
    return [
        {**batch_of(task.tokenizer, texts[i : i + 2]), "labels": torch.tensor(labels[i : i + 2])}
        for i in range(0, len(texts), 2)
    ]


@pytest.fixture(scope="module")
def reported():
    model, task = Attentive(), attentive_task()
    return model, task, attention_report(model, data(task), task, **FEW)


def test_taus_are_those_of_scipy_over_the_words_and_summed_by_class(reported):
    model, task, report = reported
    rows = iter(report.rows)
    for batch in data(task):
        with read_attention(model, batch, task) as reading:
            orders = {
                "attention": reading.attention,
                "gradient": reading.gradients(),
                "leave-one-out": reading.without_each(),
            }
        for text, counts in enumerate(reading.counts):
            row = next(rows)
            for pair in PAIRS[:3]:
                if row.tokens > 1:
                    expected = kendalltau(*(orders[each][text][counts] for each in pair)).statistic
                    assert row.tau[pair_name(*pair)] == pytest.approx(expected)
    name = pair_name("attention", "gradient")
    of_bad = [row.tau[name] for row in report.rows if row.label == "bad" and name in row.tau]
    found = report.summary["agreement"]["bad"][name]
    assert found["mean"] == pytest.approx(statistics.fmean(of_bad))
    assert found["std"] == pytest.approx(statistics.pstdev(of_bad))
    assert report.tau("attention", "gradient", "bad") == found["mean"]
    assert report.by == "gold"
    assert report.summary["agreement"]["all"][name]["texts"] == 4


def test_a_text_of_one_token_is_left_out_by_name_and_counted(reported):
    *_, report = reported
    last = report.rows[-1]
    why = "fewer than two tokens that are neither special nor padding"
    assert last.tokens == 1
    assert last.tau == {}
    assert last.reasons == {**{pair_name(*pair): why for pair in PAIRS}, "erasure": why}
    assert last.permuted == pytest.approx(0, abs=1e-6)
    assert last.divergence == pytest.approx(0, abs=1e-6)
    assert report.summary["left_out"]["erasure"] == {why: 1}
    assert f"erasure: 1 of 5 texts left out, {why}" in str(report)


def test_permutations_adversaries_and_erasure_have_figures_of_each_text(reported):
    *_, report = reported
    assert all(0 <= row.permuted <= 1 and 0 <= row.divergence <= 0.6932 and row.change <= 0.05 for row in report.rows)
    assert any(row.permuted > 0 for row in report.rows)
    assert any(row.divergence > 0.01 for row in report.rows)
    for row in report.rows[:-1]:
        assert set(row.erased) == {"attention", "gradient", "gradient x attention", "random"}
        assert all(0 <= count < row.tokens for count in row.erased.values())
        assert row.top_flips == (row.erased["attention"] == 1)
    one = report.summary["erasure"]["all"]["one"]
    assert sum(one.values()) == pytest.approx(1)


def test_a_seed_gives_the_same_report_and_the_module_is_as_it_was(reported):
    model, task, report = reported
    model.train()
    before = state_of(model)
    again = attention_report(model, data(task), task, **FEW)
    assert_same(before, state_of(model))
    model.eval()
    assert again.to_dict() == report.to_dict()


def test_attention_that_is_the_same_everywhere_has_no_order_and_says_so():
    model, task = Attentive(constant=True), attentive_task()
    report = attention_report(model, data(task), task, parts=["agreement", "permutation"], **FEW)
    assert report.tau("attention", "gradient") is None
    assert report.tau("gradient", "leave-one-out") is not None
    assert report.rows[0].reasons[pair_name("attention", "gradient")] == "attention is the same on every token"
    assert report.summary["permuted"]["all"]["mean"] == pytest.approx(0, abs=1e-6)
    assert "nan" not in str(report).lower()
    assert "–" in str(report)


def test_only_the_parts_asked_for_are_measured_and_shown(reported):
    model, task, whole = reported
    report = attention_report(model, data(task), task, parts=["erasure"])
    assert "erased" in str(report)
    assert "Kendall" not in str(report)
    assert report.rows[0].permuted is None
    few = attention_report(model, data(task), task, parts=["adversarial"], adversarial_texts=3, **FEW)
    assert [row.divergence is None for row in few.rows] == [False, False, False, True, True]
    assert few.rows[4].reasons == {"adversarial": "it comes after the first `adversarial_texts`"}
    assert "Permuted" in str(whole)


def test_quantiles_are_torchs_and_one_part_may_be_named():
    for count in (1, 2, 7, 40):
        values = torch.rand(count, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
        rows = [AttentionRow("a", "a", 3, 0.5, divergence=value, change=0.0) for value in values.tolist()]
        assert adversarial(rows)["p95"] == pytest.approx(float(values.quantile(0.95)))
    model, task = Attentive(), attentive_task()
    report = attention_report(model, data(task, REVIEWS[:2]), task, parts="permutation", permutations=2)
    assert report.settings["parts"] == ["permutation"]
    assert report.rows[0].permuted is not None


def test_a_transformer_is_read_where_its_head_reads():
    model, task = classifier("bert"), SequenceClassification(tokenizer_for("bert"))
    report = attention_report(model, batch_of(task.tokenizer, REVIEWS[:3]), task, **FEW)
    assert report.site == "bert.encoder.layer.1.attention.self"
    assert report.read == "2 heads, from 1 position that is read"
    assert report.by == "predicted"
    assert len(report.rows) == 3
    assert report.summary["adversarial"]["all"]["mean"] > 0
    inner = attention_report(
        model, batch_of(task.tokenizer, REVIEWS[:3]), task, inside="bert.encoder.layer.0", parts=["agreement"]
    )
    assert inner.site == "bert.encoder.layer.0.attention.self"


def test_json_goes_both_ways_and_markdown_has_every_table(reported):
    *_, report = reported
    written = json.loads(report.to_json())
    assert AttentionReport.from_dict(written).to_dict() == json.loads(json.dumps(report.to_dict()))
    assert written["summary"]["agreement"]["all"]["attention ~ gradient"]["texts"] == 4
    page = report.to_markdown()
    assert sum(line.startswith("| --- |") for line in page.splitlines()) == len(report.tables()) == 5
    with pytest.raises(ValueError, match="no attention report"):
        AttentionReport.from_dict({"kind": "attribution"})


def test_what_cannot_be_measured_is_refused_in_words(reported):
    model, task, _ = reported
    with pytest.raises(ValueError, match="`data` holds no batch"):
        attention_report(model, [], task)
    with pytest.raises(ValueError, match="`parts='agrement'` does not exist"):
        attention_report(model, data(task), task, parts=["agrement"])
    with pytest.raises(LayerError, match=r"`inside='scor'` does not exist\. Did you mean 'score'"):
        attention_report(model, data(task), task, inside="scor")
    with pytest.raises(ValueError, match="`permutations=0`"):
        attention_report(model, data(task), task, permutations=0)
    with pytest.raises(ValueError, match="no probabilities of several classes"):
        attention_report(Attentive(classes=1), data(task), attentive_task())
