"""Boxes in an image: detectors of `transformers` with one score a class and one box for each query (DETR, YOLOS)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.names import choose, unknown
from lightning_interpret.tasks import batches
from lightning_interpret.tasks.base import OUTPUTS, Targets
from lightning_interpret.tasks.classification import parse_which
from lightning_interpret.tasks.images import ImageTask
from lightning_interpret.tasks.transformer import BOXES, call

NOTHING = "no object"
SIDES = ("left", "top", "right", "bottom")


@dataclass(frozen=True)
class BoxTargets(Targets):
    """One row a box.

    Attributes:
        query: Long ``(N,)``, which of the model's queries has the box.
        side: Which of ``SIDES`` is explained, or None for the class.
    """

    query: Tensor
    side: int | None = None

    def at(self, rows: Tensor) -> BoxTargets:
        """Return the targets of the given rows, for a batch in which each row stands once and in that order."""
        own = super().at(rows)
        return BoxTargets(own.example, own.index, own.against, own.contrast, own.name, self.query[rows], self.side)


class ObjectDetection(ImageTask):
    """Reads a module that gives, for each of Q queries an image, one score a class, one of no object, and a box.

    A target is the class score of one query, and all of them are explained in one call. ``which`` is:

    * ``predicted``: the most probable box of each image;
    * ``all``: every box at least as probable as ``threshold``, with its most probable class;
    * ``gold``: for each gold box the query whose box overlaps most with it, with the gold class;
    * a label: the box of each image that is most probably of it; a contrast ``A-B`` is that box's score as A less that
      as B;
    * any of the first four with a side, ``predicted left`` (or ``top``, ``right``, ``bottom``): not the class of those
      boxes, but where that side of them is, as a share of the image's width or height.

    ``margin`` subtracts the score of no object. Gold boxes are a list in the batch, one mapping an image with
    ``class_labels`` ``(K,)`` and ``boxes`` ``(K, 4)``: centre x and y, width and height, as shares of the image's.

    Models that score each class by itself, with a sigmoid and no score of no object (Deformable DETR, RT-DETR), are
    told by ``labels``: as many as there are scores. Their score of no object is a logit of 0.

    For a model of your own, override :meth:`logits`.

    Args:
        labels: Names of the classes in order, without that of no object; by default their numbers.
        processor: What the pixels were normalised with, as for :class:`ImageClassification`.
        model: Name of the `transformers` model in the module, where it holds several detectors.
        threshold: Lowest probability of a box in ``all``.

    Raises:
        ValueError: By :meth:`check` or on first use: no image in the batch, an unknown label, a baseline that cannot be
            made, no box over the threshold.
    """

    head: ClassVar[str] = BOXES
    groups: ClassVar[tuple[str, ...]] = ("predicted", "gold", "all")

    def __init__(
        self,
        labels: Sequence[str] | None = None,
        processor: Any = None,
        model: str | None = None,
        threshold: float = 0.5,
    ) -> None:
        super().__init__(labels, processor, model)
        if not 0 < threshold < 1:
            raise ValueError(f"`threshold={threshold!r}` is a probability: give a number between 0 and 1.")
        self.threshold = threshold

    # What the model is

    def logits(self, module: nn.Module, batch: Any) -> Tensor:
        """Return ``(B, Q, C + 1 + 4)``: the score of each class, that of no object, the box (x, y, width, height)."""
        output = call(self.model_in(module), self.parts(batch))
        if getattr(output, "logits", None) is None or getattr(output, "pred_boxes", None) is None:
            raise ValueError(
                f"{type(module).__name__} returns no `logits` and `pred_boxes`: give a `task=`, an ObjectDetection "
                "whose `logits(module, batch)` returns both as one tensor (batch, queries, classes + 1 + 4)."
            )
        return torch.cat([output.logits, output.pred_boxes.to(output.logits)], dim=2)

    def losses(self, module: nn.Module, batch: Any) -> Tensor:
        """Return the cross-entropy of the gold classes at the queries that ``gold`` means, the mean of each image."""
        logits = self.logits(module, batch)
        lost = -self.score(logits, found := self.resolve(logits, batch, "gold"), "log_prob")
        count = torch.bincount(found.example, minlength=len(logits)).clamp(min=1)
        return lost.new_zeros(len(logits)).index_add(0, found.example, lost) / count

    def take(self, batch: Any, index: Tensor) -> Any:
        """Return the batch with its examples, their boxes too, gathered or repeated."""
        return batches.take(batch, index, _are_boxes)

    def gold(self, batch: Any) -> Sequence[Mapping[str, Tensor]] | None:
        """Return the gold boxes, one mapping an image, or None where the batch has none."""
        return next((part for part in batches.leaves(batch, _are_boxes) if _are_boxes(part)), None)

    # What is explained

    def resolve(self, logits: Tensor, batch: Any, which: str) -> BoxTargets:
        """Return one target a box; what ``margin`` subtracts is no object."""
        probabilities = self.probabilities(logits)
        which, side = self._side(which)
        classes = probabilities.shape[2]
        labels, example = self.label_names(classes), torch.arange(len(logits), device=logits.device)
        against = None
        if which == "predicted":
            best = probabilities.flatten(1).argmax(dim=1)
            query, index = best // classes, best % classes
        elif which == "all":
            highest, best = probabilities.max(dim=2)
            example, query = (highest >= self.threshold).nonzero(as_tuple=True)
            index = best[example, query]
            if not len(example):
                raise ValueError(
                    f"`which='all'`, but no box is as probable as `threshold={self.threshold}`; the most probable one "
                    f"has {float(highest.max()):.2g}: lower it, or explain 'predicted'."
                )
        elif which == "gold":
            example, query, index = self._matched(logits, batch)
        else:
            first, second = parse_which(which, labels)
            query = probabilities[..., first].argmax(dim=1)
            index = torch.full_like(query, first)
            against = None if second is None else torch.full_like(query, second)
        names = [labels[i] for i in index.tolist()] if against is None else [which] * len(index)
        if side is not None:
            names = [f"{name} {SIDES[side]}" for name in names]
        contrast = against is not None
        against = torch.full_like(index, classes) if against is None else against
        return BoxTargets(example, index, against, contrast, tuple(names), query, side)

    def score(self, logits: Tensor, targets: Targets, output: str) -> Tensor:
        """Return the class scores of the targets' queries, ``(N,)``, in at least single precision; or their sides."""
        choose("output", output, OUTPUTS)
        assert isinstance(targets, BoxTargets)
        if targets.side is not None:
            if output != "logit":
                raise ValueError(
                    f"`output={output!r}` is of a class: the {SIDES[targets.side]} of a box has 'logit' alone."
                )
            return corners(logits[targets.example, targets.query, -4:])[:, targets.side]
        scores = self._scores(logits)[targets.example, targets.query]
        if output == "log_prob":
            scores = F.logsigmoid(scores) if self._alone(logits) else scores.log_softmax(dim=1)
        elif output == "prob":
            scores = scores.sigmoid() if self._alone(logits) else scores.softmax(dim=1)
        picked = scores.gather(1, targets.index[:, None]).squeeze(1)
        if targets.contrast or output == "margin":
            picked = picked - scores.gather(1, targets.against[:, None]).squeeze(1)
        return picked

    def boxes(self, logits: Tensor, batch: Any, targets: Targets) -> tuple[tuple[float, float, float, float], ...]:
        """Return the predicted box of each target, ``(x0, y0, x1, y1)`` as shares of the image's width and height.

        Where the batch has a ``pixel_mask`` (of images padded to one size), the model's boxes are shares of what it
        keeps; these are shares of all, as the locations are.
        """
        assert isinstance(targets, BoxTargets)
        found = corners(logits[targets.example, targets.query, -4:].float()).clamp(0, 1)
        mask = batches.get(batch, "pixel_mask")
        if isinstance(mask, Tensor):
            kept = mask.to(found.device) != 0
            shares = torch.stack([kept.any(dim=axis).float().mean(dim=1) for axis in (1, 2)], dim=1)
            found = found * shares[targets.example].repeat(1, 2)
        return tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in found.tolist())

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probability of each class at each query, ``(B, Q, C)``."""
        scores = self._scores(logits.detach())
        return (scores.sigmoid() if self._alone(logits) else scores.softmax(dim=2))[..., :-1]

    def names(self, logits: Tensor) -> tuple[str, ...]:
        """Return the class of the most probable box of each image."""
        probabilities = self.probabilities(logits)
        labels = self.label_names(probabilities.shape[2])
        return tuple(labels[i] for i in probabilities.amax(dim=1).argmax(dim=1).tolist())

    def gold_names(self, batch: Any) -> tuple[str | None, ...] | None:
        """Return the classes of each image's gold boxes in one string, None for an image without."""
        gold = self.gold(batch)
        if gold is None:
            return None
        classes = [part["class_labels"].tolist() for part in gold]
        names = {k: str(k) for k in {k for row in classes for k in row}} | dict(enumerate(self._labels or ()))
        return tuple(", ".join(names[k] for k in row) or None for row in classes)

    def compared(
        self, logits: Tensor, batch: Any, targets: Targets
    ) -> tuple[tuple[str, ...], tuple[str | None, ...] | None]:
        """Return the most probable class of each target's box, and that of the gold box it overlaps with most.

        A box that overlaps with none is gold of no object.
        """
        assert isinstance(targets, BoxTargets)
        probabilities, gold = self.probabilities(logits)[targets.example, targets.query], self.gold(batch)
        labels = self.label_names(probabilities.shape[1])
        predicted = tuple(labels[i] for i in probabilities.argmax(dim=1).tolist())
        if gold is None:
            return predicted, None
        found, named = [], dict(enumerate(labels))
        for i, box in zip(targets.example.tolist(), logits[targets.example, targets.query, None, -4:], strict=True):
            overlap = intersection_over_union(gold[i]["boxes"].to(box), box.detach())[:, 0]
            hit = bool((overlap > 0).any())
            number = int(gold[i]["class_labels"][overlap.argmax()]) if hit else None
            found.append(NOTHING if number is None else named.get(number, str(number)))
        return predicted, tuple(found)

    def check(self, module: nn.Module, which: str, baseline: Baseline | None) -> None:
        """Raise for a module without a model to read, a class that does not exist, a baseline that cannot be made."""
        super().check(module, self._side(which)[0], baseline)

    def _side(self, which: str) -> tuple[str, int | None]:
        """Return which boxes are meant, and which side of them."""
        boxes, _, side = which.rpartition(" ")
        if not boxes or side not in SIDES or which in (self._labels or ()):
            return which, None
        if boxes not in (*self.groups, *(self._labels or (boxes,))):
            raise ValueError(unknown("which", boxes, [*self.groups, *(self._labels or ())]))
        return boxes, SIDES.index(side)

    def _matched(self, logits: Tensor, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return image, query and class of each gold box; of queries without overlap the most probable one."""
        gold = self.gold(batch)
        if gold is None or not any(len(part["boxes"]) for part in gold):
            raise ValueError(
                "`which='gold'`, but the batch has no gold boxes (a list of mappings with `class_labels` and `boxes`): "
                "explain 'predicted' or 'all'."
            )
        probabilities, rows = self.probabilities(logits), []
        for i, part in enumerate(gold):
            classes = part["class_labels"].to(logits.device).long()
            overlap = intersection_over_union(part["boxes"].to(logits), logits[i, :, -4:].detach())
            query = (overlap + 1e-6 * probabilities[i][:, classes].T).argmax(dim=1)
            rows.append((torch.full_like(query, i), query, classes))
        example, query, index = (torch.cat(parts) for parts in zip(*rows, strict=True))
        return example, query, index

    def _alone(self, logits: Tensor) -> bool:
        """Whether each class is scored by itself."""
        return self._labels is not None and logits.shape[2] - 4 == len(self._labels)

    def _scores(self, logits: Tensor) -> Tensor:
        """Return the score of each class and that of no object, ``(B, Q, C + 1)``."""
        scores = logits[..., :-4] if logits.dtype == torch.float64 else logits[..., :-4].float()
        return F.pad(scores, (0, 1)) if self._alone(logits) else scores


def corners(boxes: Tensor) -> Tensor:
    """Return boxes ``(..., 4)`` given by centre, width and height as ``x0, y0, x1, y1``."""
    x, y, width, height = boxes.unbind(dim=-1)
    return torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=-1)


def intersection_over_union(first: Tensor, second: Tensor) -> Tensor:
    """Return by how much each of K boxes overlaps with each of Q, ``(K, Q)``; boxes as centre, width and height."""
    a, b = corners(first)[:, None], corners(second)[None]
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(dim=-1)
    areas = first[:, 2:].prod(dim=-1)[:, None] + second[:, 2:].prod(dim=-1)[None]
    return shared / (areas - shared).clamp(min=1e-12)


def _are_boxes(part: Any) -> bool:
    """Whether a part of a batch is the gold boxes: a list of one mapping an image."""
    mappings = isinstance(part, list | tuple) and len(part) > 0 and all(isinstance(item, Mapping) for item in part)
    return mappings and all("boxes" in item and "class_labels" in item for item in part)
