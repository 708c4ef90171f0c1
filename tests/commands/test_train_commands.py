import json
from types import SimpleNamespace

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_interpret import TextClassifier
from lightning_interpret.tasks.encode import encode

TEXTS = ["the lamb was great .", "", "never again", "we hated it", "the waiter was friendly !"]
SALIENCY = {
    "class_path": "lightning_interpret.SaliencyMonitor",
    "init_args": {
        "method": {"class_path": "lightning_interpret.IntegratedGradients", "init_args": {"steps": 4}},
        "probes": 2,
    },
}
PLAIN = {
    "class_path": "lightning_interpret.SaliencyMonitor",
    "init_args": {"method": "gradient", "name": "plain", "probes": [3]},
}


def write_config(folder, saved, **changes):
    """Write the configuration of a run as a user would, and return its path."""
    (folder / "texts.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    logger = {
        "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
        "init_args": {"save_dir": str(folder / "logs"), "name": "run"},
    }
    config = {
        "seed_everything": 1,
        "trainer": {
            "max_epochs": 1,
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": str(folder),
            "logger": logger,
            "callbacks": [SALIENCY, PLAIN],
        },
        "model": {"model": saved.model, "learning_rate": 1e-3},
        "data": {
            "train_file": saved.train,
            "val_file": saved.val,
            "test_file": saved.val,
            "predict_file": str(folder / "texts.txt"),
            "batch_size": 2,
        },
    }
    for name, value in changes.items():
        room, option = name.split("__")
        config[room][option] = value
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def only(paths):
    (path,) = paths
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, saved, command):
    """A run of `fit`: its configuration, its checkpoint and its log directory."""
    folder = tmp_path_factory.mktemp("fit")
    config = write_config(folder, saved)
    done = command("fit", "--config", config)
    assert done.status == 0, done.err
    log = folder / "logs" / "run" / "version_0"
    return SimpleNamespace(config=config, log=log, checkpoint=only(log.glob("checkpoints/*.ckpt")), done=done)


@pytest.fixture
def again(fitted, saved, command, tmp_path):
    """Run a command with the configuration and the checkpoint of `fit`; return what it printed and where it logged."""

    def again(name, *words, checkpoint=True):
        given = ("--ckpt_path", fitted.checkpoint) if checkpoint else ()
        done = command(name, "--config", write_config(tmp_path, saved), *given, *words)
        assert done.status == 0, done.err
        return done, max((tmp_path / "logs" / "run").glob("version_*"))

    return again


def test_fit_runs_the_monitors_that_are_named(fitted):
    events = EventAccumulator(str(fitted.log)).Reload()
    scalars, images = events.Tags()["scalars"], events.Tags()["images"]
    assert {"val_loss", "val_accuracy", "val_f1"} <= set(scalars)
    errors, everyone = {"attribution_error", "relative_error"}, {"steps", "seconds", "failures"}
    for name, whats in (("saliency", everyone | errors), ("plain", everyone)):  # a gradient has no target
        logged = {tag.rpartition("/")[2] for tag in scalars if tag.startswith(f"interpret/{name}/")}
        assert logged == whats  # no drift after one validation
    assert {tag for tag in images if tag.startswith("interpret/")} == {
        "interpret/saliency/probe_0/image",
        "interpret/saliency/probe_1/image",
        "interpret/plain/probe_0/image",
    }
    assert events.Scalars("interpret/saliency/steps")[-1].value >= 4
    assert events.Scalars("interpret/plain/steps")[-1].value == 1
    assert events.Scalars("interpret/saliency/failures")[-1].value == 0


def test_fit_keeps_its_configuration_and_a_checkpoint_that_loads(fitted, saved):
    kept = yaml.safe_load((fitted.log / "config.yaml").read_text())
    assert kept["model"]["model"] == saved.model
    assert kept["data"]["train_file"] == saved.train
    module = TextClassifier.load_from_checkpoint(fitted.checkpoint)
    assert module.labels == ["negative", "positive"]
    before, after = saved.module.state_dict(), module.state_dict()
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert "command line arguments, got" not in fitted.done.err  # LightningCLI's, of arguments given twice


def test_fit_goes_on_from_a_checkpoint(again, fitted):
    _, log = again("fit", "--trainer.max_epochs", 2)
    first, second = (torch.load(path)["global_step"] for path in (fitted.checkpoint, only(log.glob("**/*.ckpt"))))
    assert second == 2 * first


@pytest.mark.parametrize(("name", "metric"), [("validate", "val"), ("test", "test")])
def test_an_evaluation_logs_under_its_own_name(again, fitted, name, metric):
    _, log = again(name)
    events = EventAccumulator(str(log)).Reload()
    scalars = events.Tags()["scalars"]
    assert {f"interpret/saliency_{name}/failures", f"interpret/plain_{name}/steps"} <= set(scalars)
    trained = EventAccumulator(str(fitted.log)).Reload().Scalars("val_loss")[-1].value
    assert events.Scalars(f"{metric}_loss")[-1].value == pytest.approx(trained, abs=1e-6)


@pytest.mark.parametrize("checkpoint", [True, False])
def test_predict_writes_a_row_a_text_in_their_order(again, fitted, saved, checkpoint):
    done, log = again("predict", checkpoint=checkpoint)
    rows = [json.loads(line) for line in (log / "predictions.jsonl").read_text().splitlines()]
    assert f"5 predictions written to {log / 'predictions.jsonl'}" in done.out
    assert [row["example_id"] for row in rows] == list(range(len(TEXTS)))
    module = (TextClassifier.load_from_checkpoint(fitted.checkpoint) if checkpoint else saved.module).eval()
    with torch.no_grad():
        expected = module(encode(module.tokenizer, TEXTS)).softmax(dim=1)
    for row, probability in zip(rows, expected, strict=True):
        assert list(row["probability"].values()) == pytest.approx(probability.tolist(), abs=1e-6)
        assert row["label"] == module.labels[probability.argmax()]
    assert "interpret/saliency_predict/failures" in EventAccumulator(str(log)).Reload().Tags()["scalars"]


MENDABLE = {
    "data__label_column": ("lable", "`label_column='lable'` does not exist. Did you mean 'label'"),
    "data__train_file": ("/nowhere/train.tsv", "does not exist"),
    "data__labels": (["good", "bad"], "but the module has `labels=['negative', 'positive']`"),
    "model__model": ("nobody/nothing", "is no directory, and no name within reach"),
    "trainer__callbacks": ([SALIENCY, SALIENCY], "Two Monitors have `name='saliency'`"),
}


@pytest.mark.parametrize("what", MENDABLE)
def test_what_the_user_can_mend_is_said_in_a_line(refused, saved, tmp_path, what):
    value, said = MENDABLE[what]
    assert said in refused("fit", "--config", write_config(tmp_path, saved, **{what: value}))
    assert not list(tmp_path.glob("**/*.ckpt"))


def test_a_log_directory_that_cannot_be_written_is_said(refused, saved, tmp_path):
    (tmp_path / "logs").write_text("a file")
    assert "logs" in refused("fit", "--config", write_config(tmp_path, saved))


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("gradiant", "Did you mean 'gradient'"),
        ({"class_path": "lightning_interpret.IntegratedGradients", "init_args": {"steps": 0}}, "`steps=0`"),
    ],
)
def test_a_method_that_does_not_exist_is_refused(command, saved, tmp_path, method, said):
    monitor = {"class_path": "lightning_interpret.SaliencyMonitor", "init_args": {"method": method}}
    done = command("fit", "--config", write_config(tmp_path, saved, trainer__callbacks=[monitor]))
    assert done.status in (1, 2)
    assert said in done.err
    assert "Traceback" not in done.err


def test_a_missing_configuration_is_refused(command, tmp_path):
    done = command("fit", "--config", tmp_path / "none.yaml")
    assert done.status == 2
    assert "none.yaml" in done.err
