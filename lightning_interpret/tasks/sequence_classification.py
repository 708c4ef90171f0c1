"""One label a text: any `transformers` sequence classifier as it is, any other model with a method or two."""

from __future__ import annotations

from lightning_interpret.tasks.classification import Classification, parse_which
from lightning_interpret.tasks.text import TextTask


class SequenceClassification(TextTask, Classification):
    """Reads a module that gives one score a class for each text.

    The defaults find the `transformers` model in the module and call it with what its ``forward`` names. For a model of
    your own, override :meth:`logits` and :meth:`layer`::

        class MyTask(SequenceClassification):
            def logits(self, module, batch):
                return module(batch["input_ids"], batch["attention_mask"])

            def layer(self, module):
                return "embedding"

    Args:
        tokenizer: The tokenizer, or the name or directory to load it from.
        labels: Names of the classes in order; by default those of the model's configuration.
        model: Name of the `transformers` model in the module, where it holds several classifiers.

    Raises:
        ValueError: By :meth:`check` or on first use: no tokenizer, an unknown label, a baseline the tokenizer lacks.
    """

    def check_which(self, which: str) -> None:
        """Raise for a class that does not exist."""
        if which not in ("predicted", "gold") and self._labels is not None:
            parse_which(which, self._labels)
