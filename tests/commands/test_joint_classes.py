"""A model class in a configuration: a ready one with joint methods, and a class in a file of the user's."""

import subprocess
import sys

import pytest
import torch
import yaml
from tiny import quiet_trainer

from lightning_interpret import RationaleMixin, SpanExplanationMixin, TextClassifier
from lightning_interpret.commands.load import load_classifier
from lightning_interpret.modules.joint import RationaleTextClassifier, SpanTextClassifier, TurnOverTextClassifier

OWN = """
from lightning_interpret import TextClassifier, TurnOverDropoutMixin

class Mine(TurnOverDropoutMixin, TextClassifier):
    '''Of the user's.'''
"""


@pytest.fixture
def config(saved, tmp_path):
    """Write a configuration with a model class and return its path."""

    def config(class_path, **options):
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
        written = {
            "trainer": {"max_epochs": 1, "limit_train_batches": 2, "default_root_dir": str(tmp_path), **quiet},
            "model": {"class_path": class_path, "init_args": {"model": saved.model, **options}},
            "data": {"train_file": saved.train, "val_file": saved.val, "batch_size": 4},
        }
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(written))
        return path

    return config


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The name of a class in the folder where the command is run, which is not on the path of modules."""
    (tmp_path / "own_classes.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    yield "own_classes.Mine"
    sys.modules.pop("own_classes", None)


def test_a_ready_class_trains_and_its_checkpoint_brings_its_class_and_options(command, config, tmp_path):
    path = config("lightning_interpret.modules.joint.TurnOverTextClassifier", turn_over_rate=0.25)
    done = command("fit", "--config", path)
    assert done.status == 0, done.err
    (checkpoint,) = tmp_path.glob("**/*.ckpt")
    loaded = load_classifier(str(checkpoint))
    assert type(loaded) is TurnOverTextClassifier
    assert loaded.turn_over_dropout.rate == 0.25
    assert len(loaded.turn_over_dropout.sites) == 3
    code = "from lightning_interpret.commands import load; print(type(load.load_classifier(__import__('sys').argv[1])))"
    done = subprocess.run([sys.executable, "-c", code, checkpoint], capture_output=True, text=True, check=False)
    assert "TurnOverTextClassifier" in done.stdout, done.stderr  # in a process that has not imported it
    kept = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert kept["turn_over_dropout._extra_state"]["rate"] == 0.25
    done = command("validate", "--config", path, "--ckpt_path", checkpoint)
    assert done.status == 0, done.err
    (tmp_path / "text.txt").write_text("the lamb was great .\n")
    given = ("--model", checkpoint, "--input", tmp_path / "text.txt", "--output", tmp_path / "out.jsonl")
    done = command("explain", *given, "--method", "gradient")
    assert done.status == 0, done.err


def test_a_class_that_selects_is_restored_to_the_bit(command, config, tmp_path):
    options = {"rationale_target": 0.4, "rationale_words": True, "rationale_control": "lagrangian"}
    done = command("fit", "--config", config("lightning_interpret.modules.joint.RationaleTextClassifier", **options))
    assert done.status == 0, done.err
    (checkpoint,) = tmp_path.glob("**/*.ckpt")
    loaded, again = (load_classifier(str(checkpoint)) for _ in range(2))
    assert type(loaded) is RationaleTextClassifier
    kept = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert kept.keys() == loaded.state_dict().keys()
    assert kept["rationale.control._extra_state"] == loaded.rationale.control.get_extra_state()
    assert loaded.rationale.control.multiplier != 0.1
    assert all(torch.equal(value, kept[name]) for name, value in loaded.named_parameters())
    batch = loaded.tokenizer(["a very good film", "bad"], return_tensors="pt", padding=True)
    rows = loaded.explain(batch)
    assert rows == again.explain(batch)
    assert [row.budget for row in rows] == [0.4, 0.4]
    assert all(0 < row.rate <= 1 for row in rows)


def test_a_class_of_the_users_is_found_where_the_command_is_run(command, config, own):
    done = command("fit", "--config", config(own, turn_over_rate=0.75), "--model.turn_over_seed", 5, "--print_config")
    assert done.status == 0, done.err
    model = yaml.safe_load(done.out)["model"]
    assert model["class_path"] == own
    assert {"turn_over_rate": 0.75, "turn_over_seed": 5, "learning_rate": 5e-5}.items() <= model["init_args"].items()


def test_a_checkpoint_of_a_class_that_is_not_imported_is_refused_by_its_name(command, refused, config, own, tmp_path):
    done = command("fit", "--config", config(own))
    assert done.status == 0, done.err
    (checkpoint,) = tmp_path.glob("**/*.ckpt")
    del sys.modules["own_classes"]
    (tmp_path / "text.txt").write_text("the lamb was great .\n")
    given = ("--input", tmp_path / "text.txt", "--output", tmp_path / "out.jsonl")
    assert "it is of own_classes.Mine" in refused("explain", "--model", checkpoint, *given)


@pytest.mark.parametrize("words", [("--model.help", "own_classes.Mine"), ("--model.help=own_classes.Mine",)])
def test_help_shows_the_options_of_the_mixins_beside_the_modules(command, own, words):
    said = command("fit", *words).out
    for option in ("turn_over_layers", "turn_over_rate", "turn_over_seed", "learning_rate", "labels"):
        assert f"--model.{option}" in said
    assert "Probability that a unit is dropped" in said


@pytest.mark.parametrize("words", [("--model", "own_classes.Mine"), ("--model=own_classes.Mine",)])
def test_a_class_can_be_named_on_the_command_line(command, own, words):
    done = command("fit", *words, "--print_config")
    assert yaml.safe_load(done.out)["model"]["class_path"] == own, done.err


def test_a_configuration_of_the_model_alone_stays_what_it_was(command, tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text("learning_rate: 0.5\n")
    done = command("fit", "--model", path, "--print_config")
    assert yaml.safe_load(done.out)["model"]["learning_rate"] == 0.5, done.err


def test_an_option_that_no_base_has_is_refused(command, config):
    done = command("fit", "--config", config("lightning_interpret.modules.joint.TurnOverTextClassifier", turn_rate=0.5))
    assert done.status == 2
    assert "turn_rate" in done.err


class Both(RationaleMixin, SpanExplanationMixin, TextClassifier):
    """Of the user's."""


def write(module, path):
    """Write a checkpoint as a trainer does that is used in Python."""
    trainer = quiet_trainer(path.parent)
    trainer.strategy.connect(module)
    module.configure_model()
    trainer.save_checkpoint(path)
    return str(path)


@pytest.mark.parametrize("kind", [TextClassifier, RationaleTextClassifier, SpanTextClassifier, TurnOverTextClassifier])
def test_a_checkpoint_that_names_no_class_is_of_the_ready_one_with_its_layers(kind, saved, tmp_path):
    assert type(load_classifier(write(kind(saved.model), tmp_path / "a.ckpt"))) is kind


def test_a_checkpoint_of_another_class_says_what_it_holds(saved, tmp_path):
    with pytest.raises(ValueError, match="it holds rationale, spans: load it in Python with its own class"):
        load_classifier(write(Both(saved.model), tmp_path / "a.ckpt"))
