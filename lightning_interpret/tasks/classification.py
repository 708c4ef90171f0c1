"""What tasks with one class an example share: their names, what is explained of them, and the score of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_interpret.functional.influence import outputs
from lightning_interpret.names import choose, unknown
from lightning_interpret.tasks import batches
from lightning_interpret.tasks.base import OUTPUTS, Targets
from lightning_interpret.tasks.model import ModelTask
from lightning_interpret.tasks.transformer import call


class Classification(ModelTask):
    """Reads a module that gives one score a class for each example.

    The defaults find the `transformers` model in the module and call it with what its ``forward`` names.

    Args:
        labels: Names of the classes in order; by default their numbers.
        model: Name of the `transformers` model in the module, where it holds several classifiers.
    """

    def logits(self, module: nn.Module, batch: Any) -> Tensor:
        """Return the class scores ``(B, C)`` of the `transformers` model in ``module``."""
        model = self.model_in(module)
        output = call(model, self.parts(batch))
        if getattr(output, "logits", None) is None or output.logits.dim() != 2:
            raise ValueError(
                f"{type(model).__name__} returns no class scores (batch, classes): give a `task=` whose `logits` does, "
                f"for example a subclass of {self._name} that calls your module with its head."
            )
        return output.logits

    def losses(self, module: nn.Module, batch: Any) -> Tensor:
        """Return the cross-entropy of each example, ``(B,)``; 0 where a label is negative, which is none.

        Raises:
            ValueError: If there are no labels, or not one class an example.
        """
        labels, logits = self.labels(batch), self.logits(module, batch)
        if labels is None:
            raise ValueError(f"The batch has no labels ({', '.join(batches.LABEL_NAMES)}), so it has no loss.")
        if labels.dim() != 1 or logits.shape[-1] == 1:
            raise ValueError(
                f"Labels {tuple(labels.shape)} and scores {tuple(logits.shape)} are not of one class an example, which "
                f"the cross-entropy is of: define `losses(module, batch)` on a {type(self).__name__} of your own, the "
                "loss of each example."
            )
        return F.cross_entropy(logits, labels.long().clamp(min=-1), reduction="none", ignore_index=-1)

    def loss_roots(
        self, logits: Tensor, samples: int | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return roots of the cross-entropy's Hessian: of all classes, or of labels drawn from the prediction."""
        if logits.shape[1] == 1:
            return super().loss_roots(logits, samples, generator)
        if samples is None:
            return outputs.softmax_roots(logits)
        return outputs.sampled_roots(logits, samples, generator or torch.Generator().manual_seed(0))

    def resolve(self, logits: Tensor, batch: Any, which: str) -> Targets:
        """Return one target an example; the runner-up at x is what ``margin`` subtracts."""
        labels, classes = self.label_names(logits.shape[1]), logits.shape[1]
        example = torch.arange(len(logits), device=logits.device)
        first, second = self._classes(which, labels, logits, batch)
        if second is None:
            others = logits.detach().scatter(1, first[:, None], float("-inf"))
            against = others.argmax(dim=1) if classes > 1 else first
            return Targets(example, first, against, False, tuple(labels[i] for i in first.tolist()))
        pairs = zip(first.tolist(), second.tolist(), strict=True)
        return Targets(example, first, second, True, tuple(f"{labels[a]}-{labels[b]}" for a, b in pairs))

    def score(self, logits: Tensor, targets: Targets, output: str) -> Tensor:
        """Return the scalars explained, ``(N,)``, in at least single precision; a contrast is a difference of two."""
        choose("output", output, OUTPUTS)
        if logits.shape[1] == 1 and output != "logit":
            raise ValueError(f"`output={output!r}` needs two classes or more; the model has one score: use 'logit'.")
        scores = (logits if logits.dtype == torch.float64 else logits.float())[targets.example]
        if output == "log_prob":
            scores = scores.log_softmax(dim=1)
        elif output == "prob":
            scores = scores.softmax(dim=1)
        picked = scores.gather(1, targets.index[:, None]).squeeze(1)
        if targets.contrast or output == "margin":
            picked = picked - scores.gather(1, targets.against[:, None]).squeeze(1)
        return picked

    def log_probabilities(self, logits: Tensor) -> Tensor | None:
        """Return the log of the softmax, in at least single precision; None of one score, or of several predictions."""
        if logits.dim() != 2 or logits.shape[1] == 1:
            return None
        return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(dim=1)

    def names(self, logits: Tensor) -> tuple[str, ...]:
        """Return the name of the highest class of each example."""
        labels = self.label_names(logits.shape[1])
        return tuple(labels[i] for i in logits.argmax(dim=1).tolist())

    def gold_names(self, batch: Any) -> tuple[str | None, ...] | None:
        """Return the name of each gold label, a number where the classes are not named; None for what is no class."""
        gold = self.labels(batch)
        if gold is None or gold.is_floating_point() or gold.dim() != 1:
            return None
        if self._labels is None:
            return tuple(None if i < 0 else str(i) for i in gold.tolist())
        return tuple(self._labels[i] if 0 <= i < len(self._labels) else None for i in gold.tolist())

    def _classes(self, which: str, labels: tuple[str, ...], logits: Tensor, batch: Any) -> tuple[Tensor, Tensor | None]:
        if which == "predicted":
            return logits.argmax(dim=1), None
        if which == "gold":
            gold = self.labels(batch)
            if gold is None:
                raise ValueError("`which='gold'`, but the batch has no labels: explain 'predicted' or a named class.")
            if gold.dim() != 1:
                raise ValueError(f"`which='gold'` needs one class an example, but the labels have {tuple(gold.shape)}.")
            gold = gold.to(logits.device).long()
            without = ((gold < 0) | (gold >= len(labels))).nonzero().flatten().tolist()
            if without:
                raise ValueError(
                    f"`which='gold'`, but examples {without} of the batch have no label among {len(labels)} classes "
                    f"({gold[without].tolist()}): explain 'predicted' or a named class."
                )
            return gold, None
        first, second = parse_which(which, labels)
        like = torch.full((len(logits),), first, device=logits.device)
        return like, None if second is None else torch.full_like(like, second)


def parse_which(which: str, labels: Sequence[str]) -> tuple[int, int | None]:
    """Return the class, or the two classes of a contrast ``A-B``, that ``which`` names; labels may hold hyphens.

    Raises:
        ValueError: If a name is no label; the near ones are named.
    """
    if which in labels:
        return labels.index(which), None
    cuts = [i for i, character in enumerate(which) if character == "-"]
    for cut in cuts:
        first, second = which[:cut].strip(), which[cut + 1 :].strip()
        if first in labels and first == second:
            raise ValueError(f"`which={which!r}` contrasts a class with itself: name two.")
        if first in labels and second in labels:
            return labels.index(first), labels.index(second)
    raise ValueError(unknown("which", which, ["predicted", "gold", *labels]))
