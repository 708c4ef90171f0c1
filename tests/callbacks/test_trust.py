"""TrustMonitor: one record a validation, scalars beside a random order, a drill that disturbs nothing, refusals."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import TensorBoardLogger
from purity import Cell, Texts, Toy, ToyTask, assert_same, fit, loaders, watched
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import quiet_trainer, wordpiece
from torch.utils.data import DataLoader

from lightning_interpret import ExpectedGradients, IntegratedGradients, ShortcutDrill, TrustMonitor
from lightning_interpret.methods import Occlusion
from lightning_interpret.report.presenters import row_of
from lightning_interpret.tasks import Task
from lightning_interpret.trust.drill import run_drill
from lightning_interpret.trust.measure import measure
from lightning_interpret.trust.setting import Setting, named_methods
from lightning_interpret.trust.table import table

TWO = ["gradient_times_input", "gradient"]
QUICK = ShortcutDrill(cue="film", label="1", share=25, steps=4, learning_rate=0.05, rows=16, test_rows=12, batch_size=8)


class Broken(Occlusion):
    """A method that no model serves."""

    def attribute(self, *args):
        raise ValueError("not on this model")


def monitor(methods=TWO, **options):
    return TrustMonitor(
        methods, **{"task": ToyTask(wordpiece()), "probes": 5, "on_error": "raise", "orders": 2} | options
    )


def rows_of(folder, name="trust"):
    return [json.loads(line) for line in (folder / "interpret" / f"{name}.jsonl").read_text().splitlines()]


def test_a_fit_logs_one_record_a_validation_and_every_figure_beside_the_random_order(tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    watcher = monitor([*TWO, Broken()], save_jsonl=True)
    with pytest.warns(UserWarning, match="occlusion fails on this model") as said:
        _, trainer = fit([watcher], tmp_path, logger=logger, epochs=1, val_check_interval=3)
    assert sum("occlusion fails" in str(each.message) for each in said) == 1
    assert trainer.callback_metrics["interpret/trust/failures"] == 0  # a method that fails is no failure of the probe
    logged = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    logged.Reload()
    tags = logged.Tags()
    found = {tag.removeprefix("interpret/trust/") for tag in tags["scalars"] if tag.startswith("interpret/")}
    of_erasure = {"comprehensiveness", "sufficiency", "log_odds", "leave_one_out", "randomisation", "gini"}
    for name in (*TWO, "random_order"):
        assert {f"{name}/{figure}" for figure in of_erasure} <= found
    assert {"gradient/gain", "gradient_times_input/relative_error", "agreement", "seconds", "failures"} <= found
    assert not {tag for tag in found if "relative_error" in tag} - {"gradient_times_input/relative_error"}
    assert not {tag for tag in found if tag.startswith(("occlusion/", "drill"))}
    assert all(torch.tensor(event.value).isfinite() for tag in tags["scalars"] for event in logged.Scalars(tag))
    assert "interpret/trust/probe_0/image" in tags["images"]
    assert {"interpret/trust/probe_0", "interpret/trust/probe_0/text/text_summary"} <= set(tags["tensors"])
    rows = rows_of(tmp_path)
    assert {row["probe"] for row in rows} == {0}
    row = row_of(rows[-1])
    assert (row.probes, row.baseline) == (5, "pad")
    assert row.methods[2].failed.startswith("ValueError")
    assert row.because
    last = logged.Scalars("interpret/trust/gradient/comprehensiveness")[-1].value
    assert row.methods[1].figures["comprehensiveness"] == pytest.approx(last, rel=1e-5)


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_other_entry_points_are_logged_under_their_name_and_have_no_drill(stage, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer = quiet_trainer(tmp_path, logger=logger, callbacks=[monitor(drill=QUICK, save_jsonl=True)])
    getattr(trainer, stage)(Toy(), loaders()[1])
    assert rows_of(tmp_path, f"trust_{stage}")[0]["drill"] is None
    logged = EventAccumulator(str(tmp_path))
    logged.Reload()
    assert f"interpret/trust_{stage}/gradient/comprehensiveness" in logged.Tags()["scalars"]


def test_a_drill_is_run_once_and_training_is_bit_identical_with_it(purity, monkeypatch):
    dtypes = []

    def noted(model, *args, **options):
        dtypes.append({weight.dtype for weight in model.parameters()})
        return run_drill(model, *args, **options)

    monkeypatch.setattr("lightning_interpret.callbacks.trust.run_drill", noted)
    for cell in (Cell(precision="bf16-true", options={"val_check_interval": 6}), Cell()):
        monitor = watched("TrustMonitor", drill=QUICK, save_jsonl=str(purity.folder() / "r.jsonl"))
        plain, _ = cell.run([], purity.folder())
        shown, trainer = cell.run([monitor], purity.folder())
        assert_same(plain, shown)
        assert monitor._drilled.steps == 4
    assert dtypes == [{torch.float32}] * 2  # where steps of the optimizer are not rounded away
    assert "interpret/trust/drill/accuracy" in trainer.callback_metrics
    rows = [json.loads(line) for line in Path(monitor.save_jsonl).read_text().splitlines()]
    assert len(rows) > 1
    assert all(row["drill"] == rows[0]["drill"] for row in rows)
    assert rows[0]["drill"]["cue"] == "film"


def test_a_drill_that_cannot_be_run_is_said_and_costs_no_record(tmp_path):
    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([Texts()[i] for i in range(8)])

    trainer = quiet_trainer(
        tmp_path, callbacks=[monitor(drill=QUICK, save_jsonl=True, on_error="warn")], max_steps=2, val_check_interval=1
    )
    with pytest.warns(UserWarning, match="the drill could not be run .*reads training and validation rows by index"):
        trainer.fit(Toy(), DataLoader(Endless(), batch_size=4), loaders()[1])
    (row, *_) = rows_of(tmp_path)
    assert row["drill"] is None
    assert "the drill failed: ValueError" in row["notes"][0]


def test_probes_of_several_processes_are_one_table():
    torch.manual_seed(0)
    module, task, setting = Toy().eval(), ToyTask(wordpiece()), Setting(orders=2)
    methods = named_methods(TWO)
    whole = torch.utils.data.default_collate([Texts()[i] for i in range(6)])
    together = measure(module, whole, task, methods, setting)
    shards = [measure(module, task.take(whole, torch.arange(rank, 6, 2)), task, methods, setting) for rank in (0, 1)]
    merged = [shards[k % 2][k // 2] for k in range(6)]
    one, other = (table(found, methods, setting) for found in (together, merged))
    for a, b in zip((*one.methods, one.control), (*other.methods, other.control), strict=True):
        known = [{k: v for k, v in each.figures.items() if k not in ("seconds", "passes")} for each in (a, b)]
        assert known[0] == pytest.approx(known[1], abs=1e-5)
        assert (a.gain, a.p) == (pytest.approx(b.gain, abs=1e-5), b.p)
    assert [each.kendall for each in one.agreement] == pytest.approx([each.kendall for each in other.agreement])


def test_what_is_drawn_from_data_is_drawn_from_the_training_data(tmp_path):
    drawn = [ExpectedGradients(samples=2), IntegratedGradients(steps=2, baseline="training_mean")]
    found = monitor(drawn, baseline="training_mean", references=4, randomised=False, save_jsonl=True, drill=QUICK)
    fit([found], tmp_path, epochs=1, val_check_interval=6)
    row = row_of(rows_of(tmp_path)[-1])
    assert [each.failed for each in row.methods] == [None, None]
    assert row.baseline == "training_mean"
    assert row.drill.invalid is not None or row.drill.first.keys() == {"expected_gradients", "integrated_gradients"}
    assert row.notes == (
        "expected_gradients is asked as expected_gradients:samples=2",
        "integrated_gradients is asked as integrated_gradients:baseline=training_mean:steps=2",
    )


def test_training_data_that_no_references_can_be_read_from_are_refused_before_the_first_step(tmp_path):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([Texts()[i] for i in range(8)])

    trainer = quiet_trainer(tmp_path, callbacks=[monitor(["expected_gradients"])], max_steps=2, val_check_interval=1)
    with pytest.raises(ValueError, match="drawn from the training data, which have no indices"):
        trainer.fit(Toy(), DataLoader(Stream(), batch_size=4), loaders()[1])
    assert trainer.global_step == 0


def test_a_config_file_can_write_it_down():
    parser = LightningArgumentParser()
    parser.add_class_arguments(TrustMonitor, "monitor")
    wanted = {
        "methods": ["gradient", {"class_path": "lightning_interpret.IntegratedGradients", "init_args": {"steps": 8}}],
        "drill": {"steps": 5, "cue": "film"},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parsed = parser.parse_object({"monitor": wanted})
        made = parser.instantiate_classes(parsed).monitor
    assert made.methods["integrated_gradients"] == IntegratedGradients(steps=8)
    assert made.drill == ShortcutDrill(steps=5, cue="film")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["integrated"]}, "`method='integrated'` does not exist"),
        ({"methods": []}, "`methods` is empty"),
        ({"methods": "gradient"}, "`methods='gradient'` must be a list of names"),
        ({"baseline": "distribution"}, "an erased token is replaced by one thing"),
        ({"share": 0}, "share"),
        ({"references": 0}, "`references=0` must be"),
        ({"tolerance": 0}, "tolerance"),
        ({"output": "odds"}, "`output='odds'` does not exist"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        monitor(**options)


class NoTokens(Task):
    """Reads vectors."""

    def logits(self, module, batch):
        return module(batch["input_ids"])

    def losses(self, module, batch):
        return module(batch["input_ids"]).sum(dim=1)

    def names(self, logits):
        return ()

    def gold_names(self, batch):
        return None

    def check(self, module, which, baseline):
        pass


def test_a_cue_that_cannot_be_planted_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match="`cue='unaffable'` is"):
        fit([monitor(drill=ShortcutDrill(cue="unaffable"))], tmp_path)
    with pytest.raises(ValueError, match=r"a cue is planted among token ids .* NoTokens does not read both"):
        fit([monitor(task=NoTokens(), drill=True)], tmp_path)
    with pytest.raises(ValueError, match="which='best'"):
        fit([monitor(which="best", task=ToyTask(wordpiece(), ["0", "1"]))], tmp_path)
