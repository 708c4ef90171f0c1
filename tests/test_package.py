"""What the package promises as a whole: light to import, public names, imports that run one way."""

import ast
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import lightning_interpret

ROOT = Path(lightning_interpret.__file__).parent
ROOMS = {
    "names": set(),
    "files": set(),
    "palette": set(),
    "units": set(),
    "locations": set(),
    "texts": set(),
    "cards": {"bad_cases", "evidence", "explanations", "palette", "rationales", "records", "texts"},
    "notebook": {
        "cards",
        "explanations",
        "palette",
        "records",
        "texts",
    },
    "attribution_row": {"locations", "notebook", "texts"},
    "explanations": {"attribution_row", "units"},
    "records": {"cards", "names", "notebook", "texts"},  # as text and in a notebook
    "evidence": {"records"},
    "rationales": {"records"},
    "bad_cases": {"evidence", "explanations", "records"},
    "functional": {"files", "names"},
    "data": {"names"},
    "tasks": {"explanations", "functional", "names"},
    "methods": {"tasks", "layers", "functional", "evidence", "explanations", "names", "records"},
    "metrics": {"functional", "names"},
    "trust": {"functional", "methods", "names", "records", "report", "tasks"},
    "report": {
        *("bad_cases", "cards", "data", "evidence", "explanations", "files", "locations", "names", "palette"),
        *("rationales", "records", "tensorboard", "texts"),
    },
    "tensorboard": set(),
    "modules": {"mixins", "tasks", "functional", "metrics", "data", "rationales", "names"},
    "layers": {"functional", "names"},
    "trainer": {"data", "functional", "tasks"},
    "mixins": {
        *("layers", "trainer", "methods", "metrics", "tasks", "functional", "data"),
        *("evidence", "rationales", "names"),
    },
    "causes": {
        *("functional", "methods", "metrics", "tasks"),
        *("bad_cases", "evidence", "explanations", "names"),
    },
    "callbacks": {
        *("methods", "metrics", "report", "tasks", "functional", "data", "trainer", "trust"),
        *("bad_cases", "causes", "evidence", "explanations", "names", "rationales", "records"),
    },
    "commands": {
        *("callbacks", "modules", "methods", "report", "tasks", "functional", "data", "trust"),
        *("bad_cases", "cards", "causes", "evidence", "explanations", "files", "names", "records", "texts"),
    },
    "cli": {"commands"},
}


def test_importing_the_package_loads_neither_torch_nor_lightning():
    code = (
        "import sys, lightning_interpret; loaded = {name.split('.')[0] for name in sys.modules};"
        "assert not loaded & {'torch', 'lightning', 'transformers', 'numpy'}, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(ROOT.parent)})


@pytest.mark.parametrize("name", lightning_interpret.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(lightning_interpret, name).__doc__
    assert name in dir(lightning_interpret)


def test_a_name_that_does_not_exist_is_an_attribute_error_that_lists_those_there_are():
    with pytest.raises(AttributeError, match=r"has no attribute 'SaliencyMonitr'; it has .*SaliencyMonitor"):
        _ = lightning_interpret.SaliencyMonitr


def test_the_version_is_that_of_the_distribution():
    assert lightning_interpret.__version__ == version("lightning-interpret")


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "lightning_interpret" and len(parts) > 1:
            assert parts[1] == room or parts[1] in ROOMS[room], f"{path} imports {name}"
        if room in ("causes", "functional", "tasks", "methods", "metrics", "trust", "report", "data", "explanations"):
            assert parts[0] not in ("lightning", "pytorch_lightning"), f"{path} imports {name}"
        if room == "functional":
            assert parts[0] != "transformers", f"{path} imports {name}"


def test_the_map_allows_no_import_that_is_not_made():
    made = {room: set() for room in ROOMS}
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        parts = [name.split(".") for name in _imports(path)]
        made.get(room, set()).update(p[1] for p in parts if p[0] == "lightning_interpret" and len(p) > 1)
    assert {room: known - made[room] for room, known in ROOMS.items() if known - made[room]} == {}
