"""HierarchyMonitor: trees in every tab, scalars that are what they are said to be, refusals, files of configuration."""

import json
import math

import pytest
import torch
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import TensorBoardLogger
from purity import Texts, Toy, ToyTask, fit
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import wordpiece
from trees import chain, tree

from lightning_interpret import Hedge, HierarchyMonitor
from lightning_interpret.methods.hierarchy import HIERARCHICAL
from lightning_interpret.report.presenters import row_of

SCALARS = {"depth", "interaction", "erased", "erased_control", "drift", "seconds", "failures"}


def monitor(method="hedge", **options):
    return HierarchyMonitor(method, **{"task": ToyTask(wordpiece()), "probes": 2, "on_error": "raise"} | options)


@pytest.mark.parametrize("method", ["hedge", "acd", "soc"])
def test_a_fit_logs_trees_scalars_and_lines(method, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    fit([monitor(method, save_jsonl=True)], tmp_path, epochs=1, logger=logger)
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0, "tensors": 0}).Reload()
    scalars = {tag.removeprefix("interpret/hierarchy/") for tag in events.Tags()["scalars"] if "interpret" in tag}
    assert scalars == SCALARS
    last = {what: events.Scalars(f"interpret/hierarchy/{what}")[-1].value for what in SCALARS}
    assert last["failures"] == 0
    assert 1 <= last["depth"] <= 6
    assert last["interaction"] >= 0
    assert 0 <= last["drift"] <= 1
    every = [event.step for event in events.Scalars("interpret/hierarchy/depth")]
    assert [event.step for event in events.Scalars("interpret/hierarchy/drift")] == every[1:]  # there is none at first
    assert set(events.Tags()["images"]) == {f"interpret/hierarchy/probe_{k}/image" for k in (0, 1)}
    tensors = set(events.Tags()["tensors"])
    assert {f"interpret/hierarchy/probe_{k}{end}" for k in (0, 1) for end in ("", "/text/text_summary")} <= tensors
    (text, *_) = events.Tensors("interpret/hierarchy/probe_0/text/text_summary")
    assert "**Spans**" in text.tensor_proto.string_val[0].decode()
    rows = [json.loads(line) for line in (tmp_path / "interpret" / "hierarchy.jsonl").read_text().splitlines()]
    row = row_of({name: value for name, value in rows[-1].items() if name not in ("step", "probe", "monitor", "layer")})
    assert (row.method, row.output) == (method, "margin")
    assert len(row.nodes) > 1


def _updated(*rows, before=()):
    found = monitor()
    metrics = found.metrics()
    for row in before:
        found.update(found.metrics(), 0, row)
    for probe, row in enumerate(rows):
        found.update(metrics, probe, row)
    return {name: float(metric.compute()) for name, metric in metrics.items()}


def test_scalars_are_means_over_probes():
    assert _updated(tree(), tree(erased=0.4, control=0.15)) == pytest.approx(
        {"depth": 3.0, "interaction": 0.25, "erased": 0.9, "erased_control": 0.1, "drift": math.nan}, nan_ok=True
    )


def test_drift_is_the_share_of_the_spans_that_are_new():
    assert _updated(tree(), before=[tree()])["drift"] == 0.0
    assert _updated(tree(), before=[tree(nodes=tree().nodes[:3])])["drift"] == 0.5
    assert _updated(tree(nodes=tree().nodes[:3]), before=[tree()])["drift"] == 0.0
    assert math.isnan(_updated(chain(1), before=[chain(1)])["drift"])


def test_what_a_probe_has_not_is_said_once_with_its_reason():
    with pytest.warns(UserWarning, match="probe 0 has no") as caught:
        found = _updated(chain(1), chain(1))
    said = [str(warning.message) for warning in caught if "has no" in str(warning.message)]
    assert sorted(each.split("`")[1] for each in said) == ["erased", "erased_control", "interaction"]
    assert "its text has no two parts" in said[0]
    assert all(math.isnan(found[name]) for name in ("erased", "erased_control", "interaction", "drift"))
    assert found["depth"] == 0.0


def test_the_foremost_span_matters_more_than_random_ones_to_a_model_that_has_learned(tmp_path):
    """The Toy's label is whether token 7 is there: on texts that have it, its span is what the score falls without."""
    seen, texts = {}, Texts(seed=1)
    probes = [i for i in range(len(texts)) if texts.labels[i]][:4]
    watched = monitor(Hedge(baseline="zero", unit="token"), probes=probes, which="1", every_n_validations=5)
    update = watched.update
    watched.update = lambda metrics, probe, row: (seen.update({probe: row}), update(metrics, probe, row))
    fit([watched], tmp_path, epochs=6)
    rows = list(seen.values())
    assert sum(row.erased for row in rows) > sum(row.control for row in rows)


def test_what_does_not_exist_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match=r"`method='hedg'` does not exist. Did you mean 'hedge'"):
        monitor("hedg")
    with pytest.raises(ValueError, match="`output='margins'` does not exist"):
        monitor(output="margins")
    with pytest.raises(ValueError, match="`which='great'` does not exist"):
        fit([monitor(which="great", task=ToyTask(wordpiece(), ["bad", "good"]))], tmp_path)
    with pytest.raises(ValueError, match="`baseline='mask'`, but the tokenizer has no mask token"):
        fit([monitor(Hedge(baseline="mask"), task=ToyTask(wordpiece(mask_token=None)))], tmp_path)


@pytest.mark.parametrize("name", HIERARCHICAL)
def test_a_configuration_names_a_method_or_its_class(name):
    parser = LightningArgumentParser()
    parser.add_argument("--watch", type=HierarchyMonitor)
    made = {
        "class_path": f"lightning_interpret.{HIERARCHICAL[name].__name__}",
        "init_args": {"unit": "token", "baseline": "zero"},
    }
    for method in (name, made):
        options = {"class_path": "lightning_interpret.HierarchyMonitor", "init_args": {"method": method, "probes": 5}}
        found = parser.instantiate_classes(parser.parse_object({"watch": options})).watch
        assert (found.method.name, found.probes) == (name, 5)
    assert found.method.unit == "token"


def test_a_language_model_is_a_part_of_a_configuration():
    parser = LightningArgumentParser()
    parser.add_argument("--watch", type=HierarchyMonitor)
    sampler = {"class_path": "lightning_interpret.MaskedLanguageModel", "init_args": {"model": "a/folder", "steps": 1}}
    method = {"class_path": "lightning_interpret.SamplingAndOcclusion", "init_args": {"sampler": sampler}}
    options = {"class_path": "lightning_interpret.HierarchyMonitor", "init_args": {"method": method}}
    found = parser.instantiate_classes(parser.parse_object({"watch": options})).watch.method
    assert (found.sampler.steps, found.measure[-31:]) == (1, "the mean over 20 contexts of it")  # loaded on first use


def test_a_method_that_has_no_rule_for_the_model_costs_no_run(tmp_path):
    class Fourier(Toy):
        def mixed(self, hidden):
            return torch.fft.fft(super().mixed(hidden)).real

    with pytest.warns(UserWarning, match="no rule for `fft_fft`"):
        _, trainer = fit([monitor("acd", on_error="warn")], tmp_path, module=Fourier, epochs=1)
    assert trainer.callback_metrics["interpret/hierarchy/failures"] == 2
