"""`lightning-interpret fit|validate|test|predict`: LightningCLI over TextClassifier and TextDataModule."""

from __future__ import annotations

import sys
from pathlib import Path

from lightning.pytorch.cli import LightningCLI

from lightning_interpret.modules import TextClassifier, TextDataModule
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
    """Run one of LightningCLI's commands."""
    args = None if words == sys.argv[1:] else words  # given both, LightningCLI warns that they could differ
    InterpretCLI(TextClassifier, TextDataModule, args=args, save_config_kwargs={"overwrite": True})
    return 0
