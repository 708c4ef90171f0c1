"""GeneratedTextClassifier: any encoder-decoder or decoder of `transformers`, which gives a label and says why."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lightning_interpret.mixins import GeneratedRationaleMixin
from lightning_interpret.mixins.generated.rows import texts_of, written_of
from lightning_interpret.modules.text_classifier import TextClassifier
from lightning_interpret.tasks.writing import auto_class


class GeneratedTextClassifier(GeneratedRationaleMixin, TextClassifier):
    """A :class:`TextClassifier` that writes its label and an explanation of it: the options of both.

    The model is a T5, BART, GPT-2, Llama or their kin, whose vocabulary has the labels' words (``generated_labels``);
    ``TextDataModule(explanation_column=...)`` reads what people wrote.
    """

    @property
    def auto_class(self) -> Any:
        """The class of `transformers` that makes the model.

        Raises:
            ValueError: If it would have no decoder.
        """
        return auto_class(self.config)

    def configure_model(self) -> None:
        """Build the model.

        Raises:
            ValueError: If labels are not one a text, which is what is written.
        """
        if self.problem != "single_label":
            raise ValueError(f"`problem={self.problem!r}`: {type(self).__name__} writes one label a text: leave it out")
        super().configure_model()

    def forward(self, batch: Any) -> Tensor:
        """Return the log probability of each label, ``(B, C)``."""
        return self.label_scores(batch)

    def predict_step(self, batch: Any, batch_idx: int) -> list[dict[str, Any]]:
        """Return for each text what a :class:`TextClassifier` does, and the ``explanation``."""
        found = written_of(self, batch)
        rows = super().predict_step(found.parts, batch_idx)
        texts = texts_of(self.tokenizer, found.tokens)
        return [{**row, "explanation": text} for row, text in zip(rows, texts, strict=True)]
