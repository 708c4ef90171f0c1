"""Numbers and several labels a text: regression, and labels of which each holds or does not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_interpret.names import choose, unknown
from lightning_interpret.tasks import batches
from lightning_interpret.tasks.base import OUTPUTS, Targets
from lightning_interpret.tasks.classification import parse_which
from lightning_interpret.tasks.text import TextTask
from lightning_interpret.tasks.transformer import call

_GROUPS = ("predicted", "gold")


class _Several(TextTask):
    """Reads a module that gives each text several numbers, each explained by itself."""

    def logits(self, module: nn.Module, batch: Any) -> Tensor:
        """Return the scores ``(B, C)`` of the `transformers` model in ``module``."""
        model = self.model_in(module)
        found = getattr(call(model, self.parts(batch)), "logits", None)
        if found is None or found.dim() != 2:
            raise ValueError(
                f"{type(model).__name__} returns no scores (batch, numbers): give a `task=`, a {type(self).__name__} "
                "whose `logits(module, batch)` does."
            )
        return found

    def labels(self, batch: Any) -> Tensor | None:
        """Return the gold numbers, float ``(B, C)``, or None where the batch has none."""
        parts = batches.as_mapping(batch)
        found = next((parts[name] for name in batches.LABEL_NAMES if isinstance(parts.get(name), Tensor)), None)
        return None if found is None else found.float().reshape(len(found), -1)

    def gold(self, logits: Tensor, batch: Any) -> Tensor:
        """Return the gold numbers of a batch that has the model's.

        Raises:
            ValueError: If there are none, or not as many as the model's.
        """
        found = self.labels(batch)
        if found is None:
            raise ValueError(f"The batch has no labels ({', '.join(batches.LABEL_NAMES)}), so it has no loss.")
        if found.shape != logits.shape:
            raise ValueError(f"The labels are {tuple(found.shape)}, but the model's scores {tuple(logits.shape)}.")
        return found.to(logits)

    def rows(self, logits: Tensor, chosen: Tensor, which: str) -> Targets:
        """Return a target for each place of ``chosen``, bool ``(B, C)``."""
        labels = self.label_names(logits.shape[1])
        example, index = chosen.nonzero(as_tuple=True)
        return Targets(example, index, index, False, tuple(labels[i] for i in index.tolist()))

    def contrasted(self, logits: Tensor, which: str) -> Targets:
        """Return a target an example: what is named, or a contrast ``A-B``."""
        first, second = parse_which(which, self.label_names(logits.shape[1]))
        example = torch.arange(len(logits), device=logits.device)
        index, count = torch.full_like(example, first), len(logits)
        if second is None:
            return Targets(example, index, index, False, (which,) * count)
        return Targets(example, index, torch.full_like(example, second), True, (which,) * count)

    def check_which(self, which: str) -> None:
        """Raise for what is no target."""
        if which not in _GROUPS and self._labels is not None:
            parse_which(which, self._labels)


class Regression(_Several):
    """Reads a module that gives each text a number, or several.

    A target is a number: ``which`` is ``predicted`` (each of them, a target each), the name of one, or a contrast
    ``A-B`` of two. It is explained as it is, ``output="logit"``: it has no probability.

    Args:
        tokenizer: The tokenizer, or the name or directory to load it from.
        labels: Names of the numbers in order; by default ``value``, or their numbers.
        model: Name of the `transformers` model in the module, where it holds several.

    Raises:
        ValueError: By :meth:`check` or on first use: no tokenizer, an unknown name, another ``output``.
    """

    numbers: ClassVar[Literal["values", "labels"] | None] = "values"

    judged: ClassVar[bool] = False

    def losses(self, module: nn.Module, batch: Any) -> Tensor:
        """Return the squared error of each example, the mean over its numbers, ``(B,)``; unknown ones (NaN) count not.

        Raises:
            ValueError: If there are no labels, or not as many as numbers.
        """
        logits = self.logits(module, batch)
        gold = self.gold(logits, batch)
        known = ~gold.isnan()
        lost = torch.where(known, logits - gold.nan_to_num(), 0).square()
        return lost.sum(dim=1) / known.sum(dim=1).clamp(min=1)

    def loss_roots(
        self, logits: Tensor, samples: int | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the roots of the squared error's Hessian, exactly: one a number, √(2/C)."""
        count = logits.shape[1]
        roots = torch.eye(count, dtype=logits.dtype, device=logits.device) * (2 / count) ** 0.5
        return roots[:, None].expand(-1, len(logits), -1).clone()

    def roots(
        self, logits: Tensor, batch: Any, samples: int | None = None, generator: torch.Generator | None = None
    ) -> Iterator[Tensor]:
        """Yield the roots of the squared error's Hessian; of a number that is not known there is no loss."""
        known = ~self.gold(logits, batch).isnan()
        size = (known.to(logits) * logits.shape[1] / known.sum(dim=1, keepdim=True).clamp(min=1)).sqrt()
        yield from (root * size for root in self.loss_roots(logits, samples, generator))

    def resolve(self, logits: Tensor, batch: Any, which: str) -> Targets:
        """Return a target for each number."""
        if which == "gold":
            raise ValueError("`which='gold'`: a number has no class that is right: explain 'predicted'.")
        if which != "predicted":
            return self.contrasted(logits, which)
        return self.rows(logits, torch.ones_like(logits, dtype=torch.bool), which)

    def score(self, logits: Tensor, targets: Targets, output: str) -> Tensor:
        """Return the numbers, ``(N,)``, in at least single precision."""
        if output != "logit":
            raise ValueError(f"`output={choose('output', output, OUTPUTS)!r}`: a number is no class; use 'logit'.")
        scores = logits if logits.dtype == torch.float64 else logits.float()
        found = scores[targets.example, targets.index]
        return found - scores[targets.example, targets.against] if targets.contrast else found

    def label_names(self, classes: int) -> tuple[str, ...]:
        """Return the name of each number."""
        return ("value",) if self._labels is None and classes == 1 else super().label_names(classes)

    def names(self, logits: Tensor) -> tuple[str, ...]:
        """Return the predicted numbers of each example, as a text."""
        return tuple(_said(row) for row in logits.tolist())

    def gold_names(self, batch: Any) -> tuple[str | None, ...] | None:
        """Return the gold numbers of each example, as a text; None where none is known."""
        gold = self.labels(batch)
        return None if gold is None else tuple(_known(row) for row in gold.tolist())

    def compared(
        self, logits: Tensor, batch: Any, targets: Targets
    ) -> tuple[tuple[str, ...], tuple[str | None, ...] | None]:
        """Return the predicted number at each target; a number is not right or wrong, and the true one is a note."""
        return tuple(_said([x]) for x in logits[targets.example, targets.index].tolist()), None

    def notes(self, batch: Any) -> Sequence[tuple[str, ...]] | None:
        """Return for each example what its reader should know, the true number among it."""
        known, gold = super().notes(batch), self.gold_names(batch)
        if gold is None:
            return known
        rows = known or [()] * len(gold)
        said = ([f"the true value is {true}"] if true is not None else [] for true in gold)
        return [(*notes, *more) for notes, more in zip(rows, said, strict=True)]

    def check_which(self, which: str) -> None:
        """Raise for what is no target."""
        if which == "gold":
            raise ValueError("`which='gold'`: a number has no class that is right: explain 'predicted'.")
        super().check_which(which)
        plain = which.replace("-", "").replace(" ", "").isdecimal()
        if self._labels is None and which not in ("predicted", "value") and not plain:
            raise ValueError(unknown("which", which, ["predicted", "value"]))


class MultiLabelClassification(_Several):
    """Reads a module that gives each text one score a label, each of which holds or does not.

    A target is a label of an example, and all of a batch are explained in one call. ``which`` is:

    * ``predicted``: each label at least as probable as ``threshold``; of an example without one, the most probable;
    * ``gold``: each label that holds; of an example without one, the most probable;
    * a label, or a contrast ``A-B`` of two.

    The score is that of the label alone: ``log_prob`` and ``prob`` by the sigmoid, and ``margin`` less that it does not
    hold, whose score is 0.

    Args:
        tokenizer: The tokenizer, or the name or directory to load it from.
        labels: Names of the labels in order; by default their numbers.
        model: Name of the `transformers` model in the module, where it holds several.
        threshold: Lowest probability of a label in ``predicted``.

    Raises:
        ValueError: By :meth:`check` or on first use: no tokenizer, an unknown label, a baseline that cannot be made.
    """

    view: ClassVar[str | None] = "labels"
    numbers: ClassVar[Literal["values", "labels"] | None] = "labels"

    def __init__(
        self,
        tokenizer: Any = None,
        labels: Sequence[str] | None = None,
        model: str | None = None,
        threshold: float = 0.5,
    ) -> None:
        super().__init__(tokenizer, labels, model)
        if not 0 < threshold < 1:
            raise ValueError(f"`threshold={threshold!r}` is a probability: give a number between 0 and 1.")
        self.threshold = threshold

    def losses(self, module: nn.Module, batch: Any) -> Tensor:
        """Return the binary cross-entropy of each example, the mean over the labels, ``(B,)``.

        Raises:
            ValueError: If there are no labels, or not one for each score.
        """
        logits = self.logits(module, batch)
        return F.binary_cross_entropy_with_logits(logits, self.gold(logits, batch), reduction="none").mean(dim=1)

    def loss_roots(
        self, logits: Tensor, samples: int | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the roots of the binary cross-entropy's Hessian, exactly: one a label, √(p (1 − p) / C)."""
        likely = logits.detach().sigmoid()
        root = (likely * (1 - likely) / logits.shape[1]).sqrt()
        return torch.diag_embed(root).transpose(0, 1)

    def resolve(self, logits: Tensor, batch: Any, which: str) -> Targets:
        """Return a target for each label that holds, or that is named."""
        if which == "predicted":
            chosen = logits.detach().float().sigmoid() >= self.threshold
        elif which == "gold":
            if self.labels(batch) is None:
                raise ValueError("`which='gold'`, but the batch has no labels: explain 'predicted' or a label.")
            chosen = self.gold(logits, batch) > self.threshold
        else:
            return self.contrasted(logits, which)
        best = F.one_hot(logits.argmax(dim=1), logits.shape[1]).bool()
        return self.rows(logits, torch.where(chosen.any(dim=1, keepdim=True), chosen, best), which)

    def score(self, logits: Tensor, targets: Targets, output: str) -> Tensor:
        """Return the scalars explained, ``(N,)``, in at least single precision."""
        choose("output", output, OUTPUTS)
        scores = logits if logits.dtype == torch.float64 else logits.float()
        scores = F.logsigmoid(scores) if output == "log_prob" else scores.sigmoid() if output == "prob" else scores
        found = scores[targets.example, targets.index]
        return found - scores[targets.example, targets.against] if targets.contrast else found

    def names(self, logits: Tensor) -> tuple[str, ...]:
        """Return the labels of each example that are predicted, in one text."""
        return self._named(logits.detach().float().sigmoid(), logits.shape[1])

    def gold_names(self, batch: Any) -> tuple[str | None, ...] | None:
        """Return the labels of each example that hold, in one text, or None where the batch has none."""
        gold = self.labels(batch)
        return None if gold is None else self._named(gold, gold.shape[1])

    def compared(
        self, logits: Tensor, batch: Any, targets: Targets
    ) -> tuple[tuple[str, ...], tuple[str | None, ...] | None]:
        """Return whether each target's label is predicted to hold, and whether it does."""
        gold, likely = self.labels(batch), logits.detach().float().sigmoid()
        labels = self.label_names(logits.shape[1])

        def said(values: Tensor) -> tuple[str, ...]:
            at = zip(targets.index.tolist(), values[targets.example, targets.index].tolist(), strict=True)
            return tuple(labels[i] if value >= self.threshold else f"not {labels[i]}" for i, value in at)

        return said(likely), None if gold is None else said(gold.to(likely))

    def _named(self, values: Tensor, count: int) -> tuple[str, ...]:
        labels = self.label_names(count)
        rows = (values >= self.threshold).tolist()
        return tuple(
            ", ".join(label for label, holds in zip(labels, row, strict=True) if holds) or "none" for row in rows
        )


def _known(row: Sequence[float]) -> str | None:
    return None if all(math.isnan(value) for value in row) else _said(row)


def _said(row: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in row)
