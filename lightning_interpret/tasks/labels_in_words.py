"""One label a text, from a module whose ``forward`` gives a score a class."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lightning_interpret.tasks.sequence_classification import SequenceClassification


class LabelsInWords(SequenceClassification):
    """Reads a module of a language model that writes labels: the scores are what the module's ``forward`` returns.

    Where a label is read from an explanation, attributions are to the words of that, as they were written once.
    """

    def prepared(self, module: Any, batch: Any) -> Any:
        """Return a batch whose text is what labels are read from."""
        return module.label_batch(batch)

    def logits(self, module: nn.Module, batch: Any) -> Tensor:
        """Return the class scores ``(B, C)``."""
        return module(batch)
