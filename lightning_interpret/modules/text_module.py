"""What the modules of text share: a `transformers` model and its tokenizer, how they are trained, kept and saved."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from transformers import PretrainedConfig, PreTrainedModel, get_linear_schedule_with_warmup

from lightning_interpret.modules.portable import (
    config_from,
    config_values,
    named_config,
    tokenizer_files,
    tokenizer_from,
)
from lightning_interpret.tasks.encode import named_tokenizer
from lightning_interpret.tasks.transformer import call, label_names


class TextModule(LightningModule):
    """Fine-tune a `transformers` model, or train one from scratch.

    A checkpoint of it holds configuration and tokenizer beside the weights, so that it can be loaded anywhere.

    Args:
        model: Name or directory of a `transformers` model; its head is made anew where it does not fit.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Weight decay of matrices; biases and normalisation have none.
        warmup: Share of the training steps in which the learning rate rises; it falls linearly after.
        tokenizer: Name, directory or object; by default the model's.
        config: Values of a `transformers` configuration to build from, with random weights, in place of ``model``.

    Raises:
        ValueError: If neither ``model`` nor ``config`` is given, or both.
        OSError: If the model is neither a directory nor a name that can be reached.
    """

    def __init__(
        self,
        model: str | None = None,
        learning_rate: float = 5e-5,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        tokenizer: Any = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if model is not None and config is None:
            self.config = named_config(model)
        elif config is not None and model is None:
            self.config = config_from(config)
        else:
            raise ValueError(
                "Give either `model` (a name or a directory) or `config` (values to build from), but got "
                f"model={model!r} and config={'values' if config else None!r}."
            )
        self.save_hyperparameters(ignore=["tokenizer", "config"])
        self._model_name, self._tokenizer = model, tokenizer
        self.model: PreTrainedModel | None = None
        self._metrics = torch.nn.ModuleDict()

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, loaded on first use where a name was given."""
        if self._tokenizer is None:
            self._tokenizer = self._model_name
        if isinstance(self._tokenizer, str):
            self._tokenizer = named_tokenizer(self._tokenizer)
        elif isinstance(self._tokenizer, dict):
            self._tokenizer = tokenizer_from(self._tokenizer)
        if self._tokenizer is not None and self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token  # decoders are published without a padding token
        return self._tokenizer

    @property
    @abstractmethod
    def auto_class(self) -> Any:
        """The class of `transformers` that makes the model."""

    @abstractmethod
    def _new_metrics(self) -> dict[str, Metric]:
        """Return the metrics of an evaluation by name, made anew."""

    @abstractmethod
    def _loss(self, output: Any, batch: Any) -> Tensor:
        """Return the loss of a batch, given what :meth:`forward` returned for it."""

    @abstractmethod
    def _evaluate(self, stage: str, batch: Any, batch_idx: int) -> None:
        """Log the figures of a batch under ``val_`` or ``test_``."""

    def configure_model(self) -> None:
        """Build the model, once all that it depends on is known."""
        if self.model is not None:
            return
        if self.config.pad_token_id is None and self.tokenizer is not None:
            self.config.pad_token_id = self.tokenizer.pad_token_id
        if self._model_name is None:
            self.model = self.auto_class.from_config(self.config)
        else:
            self.model = self.auto_class.from_pretrained(
                self._model_name, config=self.config, ignore_mismatched_sizes=True
            ).train()  # it comes in evaluation mode, which Lightning would keep: no dropout in training
        for stage in ("val", "test"):
            for name, metric in self._new_metrics().items():
                self._metrics[f"{stage}_{name}"] = metric

    def on_fit_start(self) -> None:
        """Begin the metrics anew: an evaluation before leaves inference tensors, which cannot be added to."""
        metrics: list[Any] = list(self._metrics.values())
        for metric in metrics:
            metric.reset()

    def forward(self, batch: Any) -> Any:
        """Return the scores of a batch: a class or a token of the vocabulary is the last dimension."""
        assert self.model is not None, "the model is built by `configure_model`"
        return call(self.model, batch).logits

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        loss = self._loss(self(batch), batch)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log loss and metrics."""
        self._evaluate("val", batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Log loss and metrics."""
        self._evaluate("test", batch, batch_idx)

    def configure_optimizers(self) -> Any:
        """Return AdamW and its schedule, stepped with the optimiser."""
        weights = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in weights if p.dim() > 1], "weight_decay": self.hparams["weight_decay"]},
            {"params": [p for p in weights if p.dim() <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.hparams["learning_rate"])
        total = int(self.trainer.estimated_stepping_batches)
        schedule = get_linear_schedule_with_warmup(optimizer, round(total * self.hparams["warmup"]), total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the weights alone do not say: configuration, tokenizer and, where there are some, labels."""
        assert self.model is not None
        checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = dict(checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY, {})) | {
            "model": None,
            "config": config_values(self.model.config),
            "tokenizer": None if self.tokenizer is None else tokenizer_files(self.tokenizer),
        }

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model and tokenizer as a `transformers` directory, which ``model=`` reads."""
        assert self.model is not None
        self.model.save_pretrained(folder)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)

    def _log_metric(self, name: str, *values: Any, prog_bar: bool = False) -> None:
        """Update a metric of :meth:`_new_metrics`, with its stage before its name, and log it."""
        metric: Any = self._metrics[name]
        metric.update(*values)
        self.log(name, metric, prog_bar=prog_bar, metric_attribute=f"_metrics.{name}")


class LabelledTextModule(TextModule):
    """A :class:`TextModule` whose classes have names.

    Args:
        model: Name or directory of a `transformers` model; its head is made anew where the classes differ.
        labels: Names of the classes in order; by default those of the model's configuration, or of the data module.
        options: Those of :class:`TextModule`.

    Raises:
        ValueError: If neither ``model`` nor ``config`` is given, or both; or if ``labels`` are the model's in another
            order.
        OSError: If the model is neither a directory nor a name that can be reached.
    """

    def __init__(self, model: str | None = None, labels: list[str] | None = None, **options: Any) -> None:
        super().__init__(model, **options)
        known = _named_labels(self.config)
        self.labels = [str(label) for label in labels] if labels else known
        if known is not None and known != self.labels and sorted(known) == sorted(self.labels or []):
            raise ValueError(
                f"`labels={self.labels}` are the model's labels in another order ({known}), which would swap its "
                "classes: leave them out, or give them in its order."
            )
        if self.labels is not None:
            self.configure_model()

    def configure_model(self) -> None:
        """Build the model once its labels are known: given, in its configuration, or in the data module."""
        if self.model is not None:
            return
        if self.labels is None:
            data = getattr(self._trainer, "datamodule", None)
            self.labels = list(getattr(data, "labels", None) or label_names(self.config))
        self.config.num_labels = len(self.labels)
        self.config.id2label = dict(enumerate(self.labels))
        self.config.label2id = {label: i for i, label in enumerate(self.labels)}
        super().configure_model()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add configuration, tokenizer and labels."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY]["labels"] = self.labels


def ids_of(batch: Any, count: int) -> list[int | None]:
    """Return the id of each example of a batch, None where it carries none."""
    return batch["example_id"].tolist() if "example_id" in batch else [None] * count


def token_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """Return the mean cross-entropy of the tokens that have a label, and how many these are; 0 where none has one.

    Args:
        logits: ``(B, T, C)``.
        labels: ``(B, T)``, −100 where there is none.
    """
    count = int((labels != -100).sum())
    total = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    return total / max(1, count), count


def _named_labels(config: PretrainedConfig) -> list[str] | None:
    """Return the labels that a configuration names, or None where they are the library's placeholders."""
    names = label_names(config)
    return None if all(name == f"LABEL_{i}" for i, name in enumerate(names)) else names
