"""RationaleMonitor: cards and scalars of each kind, numbers that are what they are said to be, refusals."""

import json
import math

import pytest
from explained import KINDS, concepts, flags, generated, rationale, spans
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import TensorBoardLogger
from purity import Toy, ToyTask, fit, loaders
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import quiet_trainer, wordpiece

from lightning_interpret import RationaleMonitor, SequenceClassification
from lightning_interpret.rationales import Concept
from lightning_interpret.report.presenters import row_of

SCALARS = {
    "rationale": {
        *("rate", "sufficiency", "comprehensiveness", "sufficiency_control", "comprehensiveness_control"),
        *("drift", "token_f1", "iou_f1"),
    },
    "spans": {"sharpness", "erased", "erased_control"},
    "concepts": {"concept_accuracy", "residual_share", "error"},
    "generated": {"overlap", "leaks", "log_likelihood", "probability", "erased"},
}


def said(make):
    """A method that says of each example of a batch the same."""

    def explain(self, batch, which="predicted"):
        assert not self.training
        return [make(example_id=i, why=which) for i in batch["example_id"].tolist()]

    return explain


class Everything(Toy):
    """Explains itself by every kind, and first of all by concepts."""

    explain_concepts, explain_rationale, explain_spans, explain_generated = (
        said(KINDS[kind]) for kind in ("concepts", "rationale", "spans", "generated")
    )


class Silent(LightningModule):
    """Explains nothing."""

    forward = Toy.forward


def monitor(kind=None, **options):
    return RationaleMonitor(kind, **{"task": ToyTask(wordpiece()), "probes": 2, "on_error": "raise"} | options)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_logs_cards_scalars_and_lines(kind, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    fit([monitor(kind, save_jsonl=True, which="gold")], tmp_path, module=Everything, logger=logger)
    logged = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    logged.Reload()
    tags = logged.Tags()
    found = {tag.removeprefix("interpret/rationale/") for tag in tags["scalars"] if tag.startswith("interpret/")}
    assert found == SCALARS[kind] | {"seconds", "failures"}
    assert "interpret/rationale/probe_0/image" in tags["images"]
    assert {"interpret/rationale/probe_1", "interpret/rationale/probe_1/text/text_summary"} <= set(tags["tensors"])
    rows = [json.loads(line) for line in (tmp_path / "interpret" / "rationale.jsonl").read_text().splitlines()]
    assert [(row["probe"], row["kind"]) for row in rows] == [(0, kind), (1, kind)] * (len(rows) // 2)
    assert row_of(rows[0]) == KINDS[kind](example_id=0, why="gold")


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_other_entry_points_are_logged_under_their_name(stage, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer = quiet_trainer(tmp_path, logger=logger, callbacks=[monitor()])
    getattr(trainer, stage)(Toy(), loaders()[1])
    logged = EventAccumulator(str(tmp_path))
    logged.Reload()
    assert f"interpret/rationale_{stage}/comprehensiveness" in logged.Tags()["scalars"]


def computed(metrics):
    return {name: float(metric.compute()) if metric.update_called else math.nan for name, metric in metrics.items()}


def updated(*rows):
    """A Monitor, and its scalars after some records of one kind, each of a probe of its own."""
    watching = monitor(rows[0].kind)
    metrics = watching.metrics()
    for probe, row in enumerate(rows):
        watching.update(metrics, probe, row)
    return watching, computed(metrics)


def test_scalars_of_rationales_are_what_they_are_said_to_be():
    watching, found = updated(rationale(), rationale(gold_rationale=None, rate=0.4, complement=None))
    assert found["rate"] == pytest.approx((3 / 19 + 0.4) / 2)
    assert found["sufficiency"] == pytest.approx(0.81 - 0.934)
    assert found["comprehensiveness"] == pytest.approx(0.81 - 0.35)
    assert found["sufficiency_control"] == pytest.approx(0.81 - 0.5)
    assert found["comprehensiveness_control"] == pytest.approx(0.81 - 0.78)
    assert found["token_f1"] == pytest.approx(2 * 2 / (3 + 4))
    assert found["iou_f1"] == pytest.approx(2 * 0.5 * 1 / 1.5)  # 'bad film' is half of 'Not a bad film'
    assert math.isnan(found["drift"])
    metrics = watching.metrics()
    watching.update(metrics, 0, rationale(selected=flags(2, 11)))
    assert computed(metrics)["drift"] == 0.5


def test_special_tokens_count_nowhere():
    every = tuple(True for _ in flags())
    watching, found = updated(rationale(selected=every, gold_rationale=every))
    assert (found["token_f1"], found["iou_f1"]) == (1, 1)
    metrics = watching.metrics()
    watching.update(metrics, 0, rationale(selected=(True, *[False] * 20, True)))
    assert math.isnan(computed(metrics)["drift"])


def test_scalars_of_spans_concepts_and_texts_are_what_they_are_said_to_be():
    assert updated(spans(), spans(control=0.15, spans=()))[1] == {
        "sharpness": pytest.approx(0.35), "erased": pytest.approx(1.4), "erased_control": pytest.approx(0.1),
    }  # fmt: skip
    of_nobody = concepts(concepts=(Concept("a", 1.0, 0.9, 2.0),), residual=None, error=-0.5)
    assert updated(concepts(), of_nobody)[1] == {
        "concept_accuracy": 0.5, "residual_share": pytest.approx(0.1 / 2.6), "error": 0.5,
    }  # fmt: skip
    assert updated(generated(), generated(leaks=False, overlap=None))[1] == {
        "overlap": pytest.approx(0.31), "leaks": 0.5, "log_likelihood": pytest.approx(-0.8),
        "probability": pytest.approx(0.934), "erased": pytest.approx(0.52),
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_known_is_no_number(kind):
    bare = type(KINDS[kind]())()
    assert all(math.isnan(value) for value in updated(bare)[1].values())


def test_the_first_base_that_explains_itself_is_shown_and_any_that_is_named(tmp_path):
    class Spans:
        explain_spans = said(spans)

    class Both(Spans, Toy):
        pass

    trainer = quiet_trainer(tmp_path, callbacks=[monitor(), monitor("rationale", name="other")])
    trainer.validate(Both(), loaders()[1], verbose=False)
    logged = trainer.callback_metrics
    assert logged["interpret/rationale_validate/sharpness"] == pytest.approx(0.35)
    assert 0 < logged["interpret/other_validate/rate"] < 1


@pytest.mark.parametrize("on_error", ["warn", "raise"])
@pytest.mark.parametrize(
    ("module", "kind", "words"),
    [
        (Silent, None, r"Silent does not explain itself: it has no `explain_<kind>\(batch\)`\. Derive it from a mixin"),
        (Toy, "spans", r"Toy does not explain itself by `kind='spans'`: .*`explain_spans\(.*It has 'rationale'"),
    ],
)
def test_a_module_that_explains_nothing_itself_is_refused_before_training(on_error, module, kind, words, tmp_path):
    trainer = quiet_trainer(tmp_path, max_epochs=1, callbacks=[monitor(kind, on_error=on_error)])
    made = module()
    if module is Silent:
        made.training_step = made.validation_step = made.configure_optimizers = lambda *batch: None
    with pytest.raises(ValueError, match=words):
        trainer.fit(made, *loaders())
    assert trainer.global_step == 0


@pytest.mark.parametrize("explain", [said(spans), lambda self, batch, which: [rationale()] * 9])
def test_records_that_are_not_one_an_example_of_the_kind_cost_the_record_and_not_the_run(explain, tmp_path):
    module = type("Other", (Toy,), {"explain_rationale": explain})()
    trainer = quiet_trainer(tmp_path, callbacks=[monitor(on_error="warn")])
    with pytest.warns(UserWarning, match=r"`explain_rationale` of Other returned [19] records of"):
        trainer.validate(module, loaders()[1], verbose=False)
    assert trainer.callback_metrics["interpret/rationale_validate/failures"] == 2


def test_the_monitors_task_is_what_the_module_reads_its_batches_by(tmp_path):
    own = SequenceClassification(None)

    class Told(Toy):
        def interpret_task(self):
            return own

        def explain_rationale(self, batch, which="predicted"):
            read.append(self.interpret_task())
            return said(rationale)(self, batch, which)

    read, module = [], Told()
    task = ToyTask(wordpiece())
    for given in ({"task": task}, {"task": None}):
        trainer = quiet_trainer(tmp_path, callbacks=[monitor(probes=1, **given)])
        trainer.validate(module, loaders()[1], verbose=False)
    assert read == [task, own]
    assert module.interpret_task() is own


def test_options_are_refused_by_name_and_it_works_from_a_config_file():
    with pytest.raises(ValueError, match=r"`kind='concept'` does not exist. Did you mean 'concepts'"):
        monitor("concept")
    parser = LightningArgumentParser()
    parser.add_subclass_arguments(Callback, "callback")
    text = """
    callback:
      class_path: lightning_interpret.RationaleMonitor
      init_args: {kind: spans, which: good, probes: [1, 2]}
    """
    made = parser.instantiate_classes(parser.parse_string(text)).callback
    assert (made.kind, made.which, made.probes, made.name) == ("spans", "good", [1, 2], "rationale")
