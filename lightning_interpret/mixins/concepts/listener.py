"""What comes through a concept bottleneck, heard where it passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from lightning_interpret.functional.concepts import concept_loss, decorrelation, known_labels
from lightning_interpret.layers.concept_bottleneck import ConceptBottleneck, checked_labels
from lightning_interpret.mixins.concepts.measures import Passed
from lightning_interpret.mixins.joint import JointMixin
from lightning_interpret.tasks import batches


@dataclass(frozen=True)
class Factors:
    """Factors of the terms of the loss.

    Attributes:
        named: Of the cross-entropy of named concepts.
        sparsity: Of the mean probability of free ones.
        decorrelation: Of their correlation with all others.
    """

    named: float
    sparsity: float
    decorrelation: float


_TERMS = {"concepts", "free_concepts"}


class ConceptListener:
    """A hook on the bottleneck: an object and no closure, so that a copy of the module has its own.

    A pass counts in training where no term of one before it is pending, and the first one in evaluation: a module may
    read its head again, for what it logs, and may make several losses in a step.

    Args:
        module: The module, which is given the terms of its loss.
        factors: Their factors.

    Attributes:
        labels: Labels of the named concepts in the batch, ``(B, K)``, or None.
        waiting: Whether nothing has come through since the batch began.
        heard: Whether anything ever came through in training.
        passed: What came through in evaluation since the batch began.
    """

    def __init__(self, module: JointMixin, factors: Factors) -> None:
        self.module, self.factors = module, factors
        self.labels: Tensor | None = None
        self.waiting, self.heard = False, False
        self.passed: Passed | None = None
        self._known: Tensor | None = None  # which concepts have had a label in this epoch
        self._told = False

    def begin(self, labels: Tensor | None) -> None:
        """Wait for what comes through of a batch."""
        self.labels, self.passed, self.waiting = labels, None, True

    def end(self) -> None:
        """Forget the batch."""
        self.labels, self.passed, self.waiting = None, None, False

    @torch.compiler.disable
    def __call__(self, layer: ConceptBottleneck, args: tuple, kwargs: dict, output: Tensor) -> None:
        """Take the terms of the loss from what is read in training, and keep what is read in evaluation.

        Raises:
            ValueError: If it is of another number of examples than the labels.
        """
        if not self._counts(layer.training):
            return
        scores = layer.scores(args[0] if args else next(iter(kwargs.values())))
        if self.labels is not None and len(self.labels) != len(scores):
            raise ValueError(
                f"`concepts` of the batch has labels of {len(self.labels)} examples, and the head reads {len(scores)}."
            )
        self.waiting = False
        labels = None if self.labels is None else self.labels.to(scores)
        if layer.training:
            self.heard = True
            self._add_terms(layer, scores, labels)
        else:
            self.passed = Passed(scores.detach(), output.detach(), labels)

    def _counts(self, training: bool) -> bool:
        if not training:
            return self.waiting
        if torch._C._current_graph_task_id() != -1:  # a backward pass computes it again, and wants the same tensors:
            return True  # nothing is recorded of it
        return self.module._steps > 0 and torch.is_grad_enabled() and not _TERMS & self.module._terms.keys()

    def tell(self, trainer: Trainer, names: Sequence[str]) -> None:
        """Warn of concepts that no example of the epoch had a label for, once; in all processes alike."""
        if not names or self._told:
            return
        known = torch.zeros(len(names), device=trainer.strategy.root_device)
        if self._known is not None:
            known += self._known.to(known)
        self._known = None
        total = trainer.strategy.reduce(known, reduce_op="sum").tolist()
        without = [name for name, count in zip(names, total, strict=True) if not count]
        if without:
            self._told = True
            rank_zero_warn(
                f"No example of this epoch had a label for the concepts {', '.join(without)}: nothing teaches them."
            )

    def _add_terms(self, layer: ConceptBottleneck, scores: Tensor, labels: Tensor | None) -> None:
        if labels is not None:
            self.module.add_term("concepts", self.factors.named * concept_loss(scores[:, : layer.named], labels))
            known = known_labels(labels).any(dim=0)
            self._known = known if self._known is None else self._known | known
        if layer.free:
            found = scores.sigmoid()
            apart = self.factors.decorrelation * decorrelation(found, layer.free)
            self.module.add_term("free_concepts", self.factors.sparsity * found[:, layer.named :].mean() + apart)


def labels_of(batch: Any, names: Sequence[str], *, needed: bool = False, look: bool = True) -> Tensor | None:
    """Return the labels of named concepts in a batch, ``(B, K)``: ``concepts``, also in a mapping of a tuple; or None.

    Args:
        batch: The batch.
        names: The names.
        needed: Whether it is an error that there are none.
        look: Whether to look at the values on an accelerator too, which is waited for.

    Raises:
        ValueError: If they are needed and missing, are not one for each concept, or lie outside of [0, 1].
    """
    if not names:
        return None
    parts = batch if isinstance(batch, tuple | list) and not hasattr(batch, "_fields") else ()
    holders = [batch, *(part for part in parts if isinstance(part, Mapping))]
    found = next((value for part in holders if (value := batches.get(part, "concepts")) is not None), None)
    if found is None and needed:
        raise ValueError(
            f"The batch has no `concepts`, a tensor (B, {len(names)}): put the labels of {', '.join(names)} into each, "
            "NaN or -1 where there is none (`TextDataModule(concept_columns=[...])` reads them from files)."
        )
    return None if found is None else checked_labels(found, names, values=look or getattr(found, "is_cpu", True))
