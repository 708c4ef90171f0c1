"""TokenTagger: any `transformers` model with a token classification head, as a LightningModule."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy
from transformers import AutoModelForTokenClassification

from lightning_interpret.functional.entities import entities
from lightning_interpret.metrics import EntityF1
from lightning_interpret.modules.text_module import LabelledTextModule, ids_of, token_loss
from lightning_interpret.tasks import TokenClassification


class TokenTagger(LabelledTextModule):
    """Fine-tune a `transformers` model to give each word of a text a label, as for named entities.

    Logged: ``train_loss``; ``val_loss``, ``val_f1`` (of entities, whose span and type must be right: seqeval's default)
    and ``val_accuracy`` (of words), and the same under ``test_``. The labels of a batch stand at the first token of
    each word and are −100 at all others, as those of :class:`~lightning_interpret.TaggingDataModule`.

    Args:
        model: Name or directory of a `transformers` model; its head is made anew where the classes differ.
        labels: Names of the classes in order, such as ``O``, ``B-person``; by default those of the model's
            configuration, or of the data module.
        options: ``learning_rate``, ``weight_decay``, ``warmup``, ``tokenizer`` and ``config``, as of
            :class:`~lightning_interpret.TextClassifier`.

    Raises:
        ValueError: If neither ``model`` nor ``config`` is given, or both.
        OSError: If the model is neither a directory nor a name that can be reached.
    """

    @property
    def auto_class(self) -> Any:
        """The class of `transformers` that makes the model."""
        return AutoModelForTokenClassification

    def forward(self, batch: Any) -> Tensor:
        """Return the class scores of each token, ``(B, T, C)``."""
        return super().forward(batch)

    def interpret_task(self) -> TokenClassification:
        """Return how Monitors read this module."""
        return TokenClassification(self.tokenizer, self.labels)

    def predict_step(self, batch: Any, batch_idx: int) -> list[dict[str, Any]]:
        """Return for each text its ``example_id``, its ``words``, and its ``entities`` with their first and past word.

        A word has its number, its ``label`` and the ``probability`` of that; words that were cut are left out.

        Raises:
            ValueError: If the batch does not say where words begin.
        """
        assert self.labels is not None
        shares, classes = self(batch).float().softmax(dim=2).max(dim=2)
        rows = []
        for i, (example, begins) in enumerate(zip(ids_of(batch, len(classes)), _begins(batch), strict=True)):
            tags = [self.labels[each] for each in classes[i][begins].tolist()]
            numbers = batch["word_ids"][i][begins].tolist() if "word_ids" in batch else range(len(tags))
            triples = zip(numbers, tags, shares[i][begins].tolist(), strict=True)
            words = [{"word": word, "label": tag, "probability": share} for word, tag, share in triples]
            found = [
                {"label": each.type, "start": words[each.start]["word"], "end": words[each.end - 1]["word"] + 1}
                for each in entities(tags)
            ]
            rows.append({"example_id": example, "words": words, "entities": found})
        return rows

    def _new_metrics(self) -> dict[str, Metric]:
        labels = self.labels or []
        accuracy = MulticlassAccuracy(num_classes=len(labels), average="micro", ignore_index=-100)
        return {"f1": EntityF1(labels), "accuracy": accuracy}

    def _loss(self, output: Tensor, batch: Any) -> Tensor:
        return token_loss(output, batch["labels"])[0]

    def _evaluate(self, stage: str, batch: Any, batch_idx: int) -> None:
        scores, labels = self(batch), batch["labels"]
        loss, count = token_loss(scores, labels)
        self.log(f"{stage}_loss", loss, prog_bar=True, batch_size=max(1, count), sync_dist=True)
        found = scores.argmax(dim=2)
        self._log_metric(f"{stage}_f1", found, labels, prog_bar=True)
        self._log_metric(f"{stage}_accuracy", found, labels)


def _begins(batch: Any) -> Tensor:
    """Return which tokens are the first one of a word, bool ``(B, T)``."""
    if "word_ids" in batch:
        words = batch["word_ids"]
        return (words >= 0) & (words != torch.nn.functional.pad(words, (1, 0), value=-1)[:, :-1])
    if "labels" in batch:
        return batch["labels"] != -100
    raise ValueError(
        "The batch does not say where words begin: give `word_ids` (B, T), the number of the word that each token is "
        "of and -1 of none, as `TaggingDataModule` does, or `labels`."
    )
