import re
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_interpret.methods import METHODS
from lightning_interpret.methods.hierarchy import HIERARCHICAL
from lightning_interpret.methods.influence import INFLUENCE

COMMANDS = ("apply", "badcases", "compare", "demo", "explain", "fit", "fresh", "methods", "predict", "test", "validate")


def test_help_lists_the_commands(command):
    done = command("--help")
    assert done.status == 0
    listed = re.findall(r"^    (\w+) +\w", done.out, flags=re.MULTILINE)
    assert sorted(listed) == list(COMMANDS)


def test_no_command_is_told_what_there_is(command):
    done = command()
    assert done.status == 2
    assert all(name in done.out for name in COMMANDS)


def test_an_unknown_command_is_refused(command):
    done = command("explian")
    assert done.status == 2
    assert "explian" in done.err
    assert "explain" in done.err


@pytest.mark.parametrize("words", [["demo"], ["explain", "--model", "m"], ["demo", "--output-dir", "d", "--size", "0"]])
def test_words_that_do_not_fit_are_refused(command, words):
    done = command(*words)
    assert done.status == 2
    assert "required" in done.err or "must be at least 1" in done.err


def test_methods_are_listed_with_their_baselines(command):
    done = command("methods")
    assert done.status == 0
    rows = {line.split()[0]: line for line in done.out.splitlines()[2:]}
    assert set(rows) == {*METHODS, *HIERARCHICAL, *INFLUENCE, "nearest_neighbors"}
    assert " spans of the text  pad " in rows["hedge"]
    assert " spans of the text  zero " in rows["acd"]
    assert " training data " in rows["exact"]
    assert " pad; of images blur " in rows["integrated_gradients"]
    assert " none: it ranks " in rows["gradient"]
    assert " zero features " in rows["layer_cam"]
    assert " no relevance (F = 0) " in rows["layerwise_relevance"]


def test_a_trainer_command_has_help_of_its_own(command):
    done = command("fit", "--help")
    assert done.status == 0
    assert "--data.train_file" in done.out
    assert "--model.learning_rate" in done.out


def test_help_starts_at_once():
    """What needs no model loads no torch."""
    script = "import sys; from lightning_interpret.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    script += "print([name for name in ('torch', 'lightning', 'transformers') if name in sys.modules])"
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
