"""TextClassifier: any `transformers` encoder with a classification head, as a LightningModule."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torchmetrics import Metric
from transformers import AutoModelForSequenceClassification

from lightning_interpret.modules.problems import PROBLEMS, Problem, problem_named
from lightning_interpret.modules.text_module import LabelledTextModule, ids_of
from lightning_interpret.names import choose
from lightning_interpret.tasks import TextTask


class TextClassifier(LabelledTextModule):
    """Fine-tune a `transformers` model to give each text, or pair of texts, one of several labels.

    Logged: ``train_loss``; ``val_loss``, ``val_accuracy`` and ``val_f1`` (macro), and the same under ``test_``; of a
    regression ``val_mae`` and ``val_explained_variance`` in place of the last two. A checkpoint of it holds
    configuration and tokenizer beside the weights, so that it can be loaded anywhere.

    Args:
        model: Name or directory of a `transformers` model; its head is made anew where the classes differ.
        labels: Names of the classes in order (of a regression, of its numbers); by default those of the model's
            configuration, or of the data module.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Weight decay of matrices; biases and normalisation have none.
        warmup: Share of the training steps in which the learning rate rises; it falls linearly after.
        tokenizer: Name, directory or object; by default the model's.
        config: Values of a `transformers` configuration to build from, with random weights, in place of ``model``.
        problem: What the labels are: ``single_label``; ``multi_label``, of which each holds or does not (float labels,
            0 or 1, ``(B, C)``); ``regression``, numbers (float labels ``(B,)``, or ``(B, C)``). By default what the
            model's configuration says, and else ``single_label``.

    Raises:
        ValueError: If neither ``model`` nor ``config`` is given, or both.
        OSError: If the model is neither a directory nor a name that can be reached.
    """

    def __init__(
        self,
        model: str | None = None,
        labels: list[str] | None = None,
        learning_rate: float = 5e-5,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        tokenizer: Any = None,
        config: dict[str, Any] | None = None,
        problem: str | None = None,
    ) -> None:
        if problem is not None:
            choose("problem", problem, PROBLEMS)
        super().__init__(
            model,
            labels,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            warmup=warmup,
            tokenizer=tokenizer,
            config=config,
        )

    @property
    def problem(self) -> str:
        """What the labels are: as given, or as the configuration says."""
        return self.hparams["problem"] or problem_named(self.config.problem_type)

    @property
    def auto_class(self) -> Any:
        """The class of `transformers` that makes the model."""
        return AutoModelForSequenceClassification

    def configure_model(self) -> None:
        """Build the model once its labels are known: given, in its configuration, or in the data module."""
        if self.model is None and self._problem.config is not None:
            self.config.problem_type = self._problem.config  # type: ignore[assignment]
        super().configure_model()

    def forward(self, batch: Any) -> Tensor:
        """Return the class scores of a batch, ``(B, C)``."""
        return super().forward(batch)

    def interpret_task(self) -> TextTask:
        """Return how Monitors read this module."""
        return self._problem.task(self.tokenizer, self.labels)

    def predict_step(self, batch: Any, batch_idx: int) -> list[dict[str, Any]]:
        """Return for each text its ``example_id``, predicted ``label`` and the ``probability`` of each class.

        Of several labels, ``labels`` are those with a probability above a half; of a regression there is the ``value``
        of each number.
        """
        assert self.labels is not None
        rows = [self._problem.row(each, self.labels) for each in self(batch).float().cpu()]
        return [{"example_id": example, **row} for example, row in zip(ids_of(batch, len(rows)), rows, strict=True)]

    @property
    def _problem(self) -> Problem:
        return PROBLEMS[self.problem]

    def _new_metrics(self) -> dict[str, Metric]:
        return self._problem.metrics(self.labels or [])

    def _loss(self, output: Tensor, batch: Any) -> Tensor:
        return self._problem.loss(output, batch["labels"])

    def _evaluate(self, stage: str, batch: Any, batch_idx: int) -> None:
        scores, labels = self(batch), batch["labels"]
        loss = self._problem.loss(scores, labels)
        self.log(f"{stage}_loss", loss, prog_bar=True, batch_size=len(labels), sync_dist=True)
        for name in self._problem.figures:
            first = name == self._problem.figures[0]
            self._log_metric(f"{stage}_{name}", *self._problem.judged(scores, labels), prog_bar=first)
