"""LandmarkMonitor: cards and scalars at every entry point, numbers that are what they are said to be, refusals."""

import json
import math
import warnings

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import TensorBoardLogger
from purity import Toy, ToyTask, fit, loaders
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import quiet_trainer, wordpiece
from torch import nn

from lightning_interpret import LandmarkMonitor, LandmarkRelevance, LandmarksRow
from lightning_interpret.evidence import TrainingExample

SCALARS = {"same_label", "positive", "bias_share", "cancelled", "drift", "relative_error", "seconds", "failures"}


def monitor(**options):
    return LandmarkMonitor(**{"task": ToyTask(wordpiece()), "probes": 2, "on_error": "raise"} | options)


class NoKernel(Toy):
    """A Toy without a kernel layer."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Identity()


def test_a_fit_logs_cards_scalars_and_lines(tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    method = LandmarkRelevance(k=2, tokens=True)
    fit([monitor(method=method, save_jsonl=True)], tmp_path, logger=logger)
    logged = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    logged.Reload()
    tags = logged.Tags()
    assert {f"interpret/landmark/{name}" for name in SCALARS} <= set(tags["scalars"])
    assert "interpret/landmark/probe_0/image" in tags["images"]
    assert any(tag.startswith("interpret/landmark/probe_1") for tag in tags["tensors"])
    rows = [json.loads(line) for line in (tmp_path / "interpret" / "landmark.jsonl").read_text().splitlines()]
    assert [(row["probe"], row["kind"]) for row in rows] == [(0, "landmarks"), (1, "landmarks")] * (len(rows) // 2)
    row = LandmarksRow.from_dict(rows[-1])
    assert (row.kernel, row.landmarks, len(row.like), len(row.tokens)) == ("linear", 12, 2, 9)
    assert row.like[0].text == f"text {row.like[0].example_id}"
    assert row.converged


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_other_entry_points_are_logged_under_their_name(stage, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer = quiet_trainer(tmp_path, logger=logger, callbacks=[monitor()])
    getattr(trainer, stage)(Toy(), loaders()[1])
    logged = EventAccumulator(str(tmp_path))
    logged.Reload()
    assert {f"interpret/landmark_{stage}/{name}" for name in SCALARS - {"drift"}} <= set(logged.Tags()["scalars"])


def computed(metrics):
    return {name: float(metric.compute()) if metric.update_called else math.nan for name, metric in metrics.items()}


def updated(*rows):
    """A Monitor, and its scalars after some records, each of a probe of its own."""
    watching = monitor()
    metrics = watching.metrics()
    for probe, row in enumerate(rows):
        watching.update(metrics, probe, row)
    return watching, computed(metrics)


def row(*scores, prediction="a", gold=("a", "b", "a"), **values):
    """A record of landmarks by their scores, of which a bias took 1."""
    each = [TrainingExample(i, score, gold=gold[i]) for i, score in enumerate(scores)]
    like = tuple(sorted((e for e in each if e.score > 0), key=lambda e: -e.score))
    unlike = tuple(sorted((e for e in each if e.score < 0), key=lambda e: e.score))
    return LandmarksRow(
        **{"like": like, "unlike": unlike, "prediction": prediction, "target": sum(scores) + 1, "error": 0.0}
        | {"absorbed": {"bias": 1.0}, "landmarks": 3, "positive": len(like), "magnitude": sum(map(abs, scores))}
        | values
    )


def test_scalars_are_what_they_are_said_to_be():
    _, found = updated(row(3.0, 1.0, -2.0), row(1.0, 3.0, 0.0, error=0.5))
    assert found["same_label"] == 0.5  # the foremost of the second has label b
    assert found["positive"] == 2
    assert found["bias_share"] == pytest.approx((1 / 7 + 1 / 5) / 2)
    # what the second misses is error, and Σ score 4.5
    assert found["cancelled"] == pytest.approx((1 - 2 / 6 + 1 - 4.5 / 4) / 2)
    assert found["relative_error"] == pytest.approx(0.5 / 5)
    assert math.isnan(found["drift"])


def test_a_prediction_that_nothing_speaks_for_has_no_landmark_of_its_label():
    assert updated(row(-1.0, -2.0, 0.0))[1]["same_label"] == 0
    unlabelled = updated(row(1.0, -2.0, 0.0, gold=(None, None, None)))[1]
    assert math.isnan(unlabelled["same_label"])
    nothing = updated(row(0.0, 0.0, 0.0, absorbed={}, target=0.0))[1]
    assert (nothing["positive"], nothing["relative_error"]) == (0, 0)
    assert all(math.isnan(nothing[name]) for name in ("bias_share", "cancelled", "same_label"))


def test_drift_is_the_share_of_landmarks_that_were_not_shown_before():
    watching, _ = updated(row(1.0, -1.0, 0.0))
    metrics = watching.metrics()
    watching.update(metrics, 0, row(1.0, 0.0, 2.0))
    assert computed(metrics)["drift"] == 0.5


def test_tokens_that_cannot_be_had_are_said_once():
    watching = monitor(method=LandmarkRelevance(tokens=True))
    metrics = watching.metrics()
    told = row(1.0, 0.0, 0.0, reasons={"tokens": "no rule for it"})
    with pytest.warns(UserWarning, match="probe 0 is explained without tokens: no rule for it"):
        watching.update(metrics, 0, told)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watching.update(metrics, 1, told)


@pytest.mark.parametrize("on_error", ["warn", "raise"])
def test_a_module_without_a_kernel_layer_is_refused_before_training(on_error, tmp_path):
    module = NoKernel()
    trainer = quiet_trainer(tmp_path, max_epochs=1, callbacks=[monitor(on_error=on_error)])
    with pytest.raises(ValueError, match=r"NoKernel has no kernel layer.* `KernelMixin`"):
        trainer.fit(module, *loaders())
    assert trainer.global_step == 0


def test_options_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="`output='prob'` does not exist"):
        monitor(output="prob")
    trainer = quiet_trainer(
        tmp_path, max_epochs=1, callbacks=[monitor(which="nobody", task=ToyTask(wordpiece(), ["a", "b"]))]
    )
    with pytest.raises(ValueError, match="nobody"):
        trainer.fit(Toy(), *loaders())


def test_landmarks_that_are_not_there_yet_cost_the_record_and_not_the_run(tmp_path):
    module = Toy()
    module.kernel.rank = 0
    module.validation_step = lambda batch, batch_idx: None
    trainer = quiet_trainer(tmp_path, callbacks=[monitor(on_error="warn")])
    with pytest.warns(UserWarning, match=r"could not be explained .*has no landmarks yet"):
        trainer.validate(module, loaders()[1], verbose=False)
    assert trainer.callback_metrics["interpret/landmark_validate/failures"] == 2


def test_it_works_from_a_config_file():
    parser = LightningArgumentParser()
    parser.add_subclass_arguments(Callback, "callback")
    text = """
    callback:
      class_path: lightning_interpret.LandmarkMonitor
      init_args: {which: good-bad, output: margin, method: {k: 3, tokens: true, smoothing: 0.1}}
    """
    made = parser.instantiate_classes(parser.parse_string(text)).callback
    assert made.method == LandmarkRelevance(k=3, tokens=True, smoothing=0.1)
    assert (made.which, made.output) == ("good-bad", "margin")
