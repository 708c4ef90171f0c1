"""AttentionMonitor: how a model attends on fixed validation examples, layer by layer, at every validation."""

from __future__ import annotations

from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torchmetrics import MeanMetric, Metric

from lightning_interpret.callbacks import output
from lightning_interpret.callbacks.monitor import Monitor
from lightning_interpret.functional.attention.distances import total_variation
from lightning_interpret.methods.attention import AttentionWeights, attention_maps
from lightning_interpret.records.attention import AttentionMap, AttentionMapRow
from lightning_interpret.tasks import Task


class AttentionMonitor(Monitor):
    """Log how a model attends on fixed validation examples, and follow it in training.

    Of any model with attention over the tokens of a text, however it computes it: one that trains with
    ``scaled_dot_product_attention`` goes on doing so. For each probe a picture (a map of each layer, and of each head
    of one layer), a text and an Interpret record are logged under ``interpret/<name>/probe_<k>``.

    What is followed is the attention of the position that is read: of a text that is written, of the places that
    predict its tokens; of tagged words, of their first tokens; of an answer, of its two ends; the mean of several. Maps
    of an encoder-decoder are of the tokens of both its ends, one for each attention: ``encoder``, ``decoder``,
    ``cross``.

    Scalars, under ``interpret/<name>/``, means over probes, left out where nothing is known: ``entropy`` (mean over
    layers and heads, as a share of that of uniform attention), ``entropy_layer_<i>``, ``head_agreement`` (1 less the
    mean Jensen-Shannon divergence, in bits, between heads of a layer; of models with several heads), ``drift`` (total
    variation, 0 to 1, between what the position that is read weighs in the last layer and what it weighed in the last
    validation; not the first time), ``seconds`` and ``failures``.

    A model that has no attention is known by its first forward alone: its probes are counted as failures, and a warning
    says why.

    Args:
        attention_layer: Which layer's heads have a map each, from 0, or from the end if negative.
        read: The position whose attention is followed: ``first`` or ``last`` token, the ``mean`` over all, or
            ``auto``: those that the score depends on.
        inside: Name of the module in which attention is read; by default all of it.
        name: Part of every tag; by default ``attention``.
        task: How module and batch are read; by default the module's own or one inferred from its model.
        tokenizer: The tokenizer (an object, a name or a directory) for a task that is inferred.
        probes: How many examples of the first validation data set, spread evenly, or their indices.
        every_n_validations: Validation runs from one explanation to the next.
        max_seconds: Seconds a validation run may spend here; what is left out is said once. ``None`` for no bound.
        precision: ``"32"`` to read attention in single precision, ``"model"`` in the trainer's own.
        on_error: ``"warn"`` to count and go on, ``"raise"`` to stop the run.
        save_jsonl: Whether to append the records to ``interpret/<name>.jsonl`` in the log directory, or a path.

    Raises:
        ValueError: If an option is out of its range; before training starts, if there is no module ``inside``.

    Example::

        trainer = Trainer(callbacks=[AttentionMonitor(tokenizer=tokenizer)])
    """

    def __init__(
        self,
        *,
        attention_layer: int = -1,
        read: Literal["auto", "first", "last", "mean"] = "auto",
        inside: str | None = None,
        name: str | None = None,
        task: Task | None = None,
        tokenizer: Any = None,
        probes: int | list[int] = 3,
        every_n_validations: int = 1,
        max_seconds: float | None = 60.0,
        precision: Literal["32", "model"] = "32",
        on_error: Literal["warn", "raise"] = "warn",
        save_jsonl: bool | str = False,
    ) -> None:
        super().__init__(
            name=name,
            task=task,
            tokenizer=tokenizer,
            probes=probes,
            every_n_validations=every_n_validations,
            max_seconds=max_seconds,
            precision=precision,
            on_error=on_error,
            save_jsonl=save_jsonl,
        )
        self._method = AttentionWeights(read=read, inside=inside, attention_layer=attention_layer)
        self.attention_layer = attention_layer
        self._before: dict[int, torch.Tensor] = {}
        self._layers: dict[str, torch.Tensor] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work; forget the attention of another entry point, which may be of other data."""
        super().setup(trainer, pl_module, stage)
        self._before = {}

    def check(self, module: LightningModule, task: Task) -> None:
        """Raise for a module ``inside`` that does not exist, or a task without tokens to show.

        Also for one module, or one position, of an encoder-decoder, which reads one text and writes another.
        """
        self._method.check(module, task, [], "logit")
        task.check(module, "predicted", None)

    def explain(self, module: LightningModule, batch: Any, task: Task) -> AttentionMap:
        """Return the attention of each text of a batch."""
        read, inside = self._method.read, self._method.inside
        return attention_maps(module, batch, task, attention_layer=self.attention_layer, read=read, inside=inside)

    def metrics(self) -> dict[str, Metric]:
        """Return the metrics of one validation run."""
        return {what: MeanMetric(nan_strategy="ignore") for what in ("entropy", "head_agreement", "drift")}

    def update(self, metrics: dict[str, Metric], probe: int, row: AttentionMapRow, *others: Any) -> None:
        """Add one probe's entropy, agreement and drift."""
        for what in ("entropy", "head_agreement"):
            value = getattr(row, what)
            if value is not None:
                metrics[what].update(value)
        if row.head_agreement is None:
            why = row.reasons.get("head_agreement")
            self._say(f"`head_agreement` is left out: {why}.", once="heads", rank_zero=False)
        weights, before = torch.tensor(row.token_weights, dtype=torch.float64), self._before.get(probe)
        if before is not None and before.shape == weights.shape:
            metrics["drift"].update(total_variation(weights, before))
        self._before[probe] = weights

    def _gathered(self, trainer: Trainer) -> output.Rows:
        """Return the records of all processes, and keep the entropy of each layer: how many there are, rows say."""
        rows = super()._gathered(trainer)
        of_layers: dict[str, list[float]] = {}
        for _, row in rows:
            for number, layer in enumerate(row.layers if isinstance(row, AttentionMapRow) else ()):
                of_layers.setdefault(f"entropy_layer_{number}", []).append(layer.mean_entropy)
        self._layers = {name: torch.tensor(values).mean() for name, values in of_layers.items()}
        return rows

    def _computed(self, module: LightningModule) -> dict[str, torch.Tensor]:
        """Return every metric, reduced over all processes, and the entropy of each layer."""
        return super()._computed(module) | {name: value.to(module.device) for name, value in self._layers.items()}
