"""`lightning-interpret fit|validate|test|predict`: LightningCLI over TextClassifier, its siblings and their data."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.cli import LightningCLI

from lightning_interpret.modules import TextClassifier, TextDataModule
from lightning_interpret.modules.rows_data import RowsDataModule
from lightning_interpret.modules.text_module import TextModule
from lightning_interpret.report import jsonl


class InterpretCLI(LightningCLI):
    """LightningCLI that writes what `predict` predicts."""

    def after_predict(self) -> None:
        """Write ``predictions.jsonl`` into the log directory, one object a row, in the order of the rows."""
        batches = self.trainer.predict_loop.predictions
        loaders = batches if batches and isinstance(batches[0][0], list) else [batches]
        rows = [row for loader in loaders for batch in loader for row in batch]
        path = Path(self.trainer.log_dir or self.trainer.default_root_dir, "predictions.jsonl")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        jsonl.append(path, rows)
        print(f"{len(rows)} predictions written to {path}")


def run(words: list[str]) -> int:
    """Run one of LightningCLI's commands; ``model: {class_path: ...}`` trains another class, ``data: ...`` reads so."""
    args = None if words == sys.argv[1:] else words  # given both, LightningCLI warns that they could differ
    own = {what: _names_class(words, what) for what in ("model", "data")}
    if any(own.values()):
        sys.path.append("")  # the class may stand in a file where the command is run
    InterpretCLI(
        TextModule if own["model"] else TextClassifier,
        RowsDataModule if own["data"] else TextDataModule,
        args=args,
        save_config_kwargs={"overwrite": True},
        subclass_mode_model=own["model"],
        subclass_mode_data=own["data"],
    )
    return 0


def _names_class(words: Sequence[str], what: str) -> bool:
    """Return whether ``model`` or ``data`` is a class, on the command line or in a file: its options are named then."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        given = value if equals else following
        if name in (f"--{what}.class_path", f"--{what}.help"):
            return True
        if name in ("-c", "--config") and "class_path" in _mapping(_mapping(_read(given)).get(what)):
            return True
        if name == f"--{what}" and (not Path(given).is_file() or "class_path" in _mapping(_read(given))):
            return True
    return False


def _read(file: str) -> Any:
    try:
        return yaml.safe_load(Path(file).read_text(encoding="utf8"))
    except (OSError, ValueError, yaml.YAMLError):  # LightningCLI will say so
        return None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
