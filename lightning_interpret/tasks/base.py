"""The contract between a method and a kind of model: what a batch holds, what is explained, what it is shown for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from lightning_interpret.explanations import Units
from lightning_interpret.functional.baselines import Baseline, entropy
from lightning_interpret.functional.features import same_layer
from lightning_interpret.functional.layers import levels
from lightning_interpret.functional.trace import trace
from lightning_interpret.tasks import batches

OUTPUTS = ("logit", "log_prob", "prob", "margin")


@dataclass(frozen=True)
class Targets:
    """What is explained: N rows, frozen once at x, so that a prediction cannot change along a path.

    Attributes:
        example: Long ``(N,)``, the row of the batch.
        index: Long ``(N,)``, the class.
        against: Long ``(N,)``, the class that ``margin`` and contrasts subtract.
        contrast: Whether the user asked for ``A-B``; otherwise ``against`` is the runner-up at x.
        name: Name of each target.
        one_path: Whether the targets of an example are so many that they share the points of a path, and with them
            forward passes: each is then refined where any of them asks for it, and not where it moves itself.
    """

    one_path: ClassVar[bool] = False

    example: Tensor
    index: Tensor
    against: Tensor
    contrast: bool
    name: tuple[str, ...]

    def crop(self, columns: Tensor) -> Self:
        """Return the targets in a batch of which only some units are left: of those that stand at places, others."""
        return self

    @property
    def spans(self) -> tuple[tuple[int, int] | None, ...] | None:
        """First unit that each target is at and one past the last; None of targets that are at no place."""
        return None

    def unread(self, shape: tuple[int, ...]) -> Tensor | None:
        """Return which units each target is not made from, bool ``(N, *shape)``; None where it may be all of them."""
        return None

    def at(self, rows: Tensor) -> Targets:
        """Return the targets of the given rows, for a batch in which each row stands once and in that order."""
        names = tuple(self.name[i] for i in rows.tolist())
        every = torch.arange(len(rows), device=rows.device)
        return Targets(every, self.index[rows], self.against[rows], self.contrast, names)


@dataclass(frozen=True)
class Singles:
    """Examples taken apart: one for each token of an output, or each word that is tagged, whose loss is that one's.

    Attributes:
        batch: Long ones repeated, each with one label.
        example: Long ``(M,)``, the row of the batch that each was taken from, in order.
        place: Long ``(M,)``, the column of its label.
        text: The token, or the word, of each.
    """

    batch: Any
    example: Tensor
    place: Tensor
    text: tuple[str, ...]

    @property
    def weights(self) -> Tensor:
        """The share of each in its example's loss, ``(M,)``."""
        return 1 / self.example.bincount()[self.example].double()


@dataclass(frozen=True)
class Layout:
    """How the features of a layer lie on the units they are shown for.

    Attributes:
        units: What the scores of each row of the batch are shown for.
        per_unit: Sums values at features ``(M, *shape)`` to one a unit, ``(M, *units.shape)``.
    """

    units: Units
    per_unit: Callable[[Tensor], Tensor]

    @classmethod
    def leading(cls, units: Units) -> Layout:
        """Return the layout of features whose leading dimensions are the units."""
        return cls(units, lambda values: values.reshape(len(values), *units.shape, -1).sum(dim=-1))


class Task(ABC):
    """How one kind of model and batch is read.

    A user's own model needs a subclass that overrides what differs; see :class:`SequenceClassification`, whose defaults
    serve ``transformers`` models. Influence and neighbours read logits, losses and names alone; what attributions read
    besides is an error here that says what to override.

    Attributes:
        references: A batch of reference examples (of the training data), for baselines that are drawn from data, or
            ``None``.
        default_baseline: The baseline of methods that are not told one.
        judged: Whether a prediction that is not the gold one is wrong; of numbers each is more or less so.
        view: How the several targets of an example are shown, one of ``VIEWS`` of ``TargetsRow``; None where an example
            has one target.
        pooled: Which place of what a head reads stands for the example, where neighbours are looked for: the ``last``,
            or the ``mean`` over some, which are named.
        each: ``which`` of a target for each of :meth:`singles`.
        numbers: Whether :meth:`labels` are float ``(B, C)``: ``values``, or ``labels`` of which each holds or not.
    """

    references: Any | None = None
    default_baseline: Baseline = Baseline("pad")
    view: ClassVar[str | None] = None
    judged: ClassVar[bool] = True
    pooled: ClassVar[tuple[str, str]] = ("last", "")
    each: ClassVar[str] = "predicted"
    numbers: ClassVar[Literal["values", "labels"] | None] = None

    @abstractmethod
    def logits(self, module: nn.Module, batch: Any) -> Tensor:
        """Return the model's scores, the batch first."""

    def scores(self, module: nn.Module, batch: Any, targets: Targets, output: str) -> Tensor:
        """Return the scalars explained, ``(N,)``, by a forward of their own; by default :meth:`score` of the logits.

        For a task that can make the logits of its targets alone at less cost than all of them.
        """
        return self.score(self.logits(module, batch), targets, output)

    @abstractmethod
    def losses(self, module: nn.Module, batch: Any) -> Tensor:
        """Return the loss of each example, ``(B,)``."""

    def resolve(self, logits: Tensor, batch: Any, which: str) -> Targets:
        """Return what ``which`` means for this batch: ``predicted``, ``gold``, a label, or a contrast ``A-B``."""
        raise self._unsaid("resolve", "what is explained of an example")

    def score(self, logits: Tensor, targets: Targets, output: str) -> Tensor:
        """Return the scalars explained, ``(N,)``; ``output`` is ``logit``, ``log_prob``, ``prob`` or ``margin``."""
        raise self._unsaid("score", "which number of an example is explained")

    def prepared(self, module: nn.Module, batch: Any) -> Any:
        """Return the batch that is attributed to: what the scores are made from, where the model adds to its input.

        Called once, before anything is read of the batch; by default it is the batch.
        """
        return batch

    def layer(self, module: nn.Module) -> str:
        """Return the name of the default layer to attribute to."""
        raise self._unsaid("layer", "which layer is attributed to")

    def layers(self, module: nn.Module, batch: Any) -> list[str]:
        """Return the layers of a sweep (``layer="all"``): :meth:`layer`, then each block in the order of execution.

        The blocks are what stands in the module's outermost ``ModuleList`` or ``Sequential`` that has at least two with
        the units of the batch (a head, which has none, is no stage of feature extraction); where there is no such
        container, the modules without parts. Called inside the explaining scope; costs one forward pass.
        """
        first, units = self.layer(module), self.units(batch)
        with torch.no_grad():
            _, found = trace(module, lambda: self.logits(module, batch))

        def fits(name: str, value: Tensor) -> bool:
            if not value.is_floating_point() or value.dim() < 2 or len(value) != len(units.padding):
                return False
            return self.layout(module, batch, value, name).units.kind == units.kind

        every = levels(module)
        candidates = set().union(*every)
        kept = [name for name, value in found.items() if name in candidates and fits(name, value)]
        blocks = [[name for name in kept if name in level] for level in every]
        chosen = next((level for level in blocks if len(level) > 1), next(filter(None, blocks), []))
        return [first, *(name for name in chosen if not same_layer(module, name, first))]

    def units(self, batch: Any) -> Units:
        """Return what scores are shown for."""
        raise self._unsaid("units", "what scores are shown for")

    def read_for(self, units: Units, targets: Targets) -> Units:
        """Return the units of each target's row with those that it is not made from as padding."""
        unread = targets.unread(units.shape)
        return units if unread is None else units.without(unread)

    def layout(self, module: nn.Module, batch: Any, features: Tensor, layer: str) -> Layout:
        """Return how features ``(B, *shape)`` of a layer lie on units; what fits no unit is shown by number."""
        units = self.units(batch)
        # a unit has features of its own: a vector that is as long as the text by chance is no text
        fitted = features.dim() > 1 + len(units.shape) and features.shape[1 : 1 + len(units.shape)] == units.shape
        return Layout.leading(units if fitted else Units.features(len(features), features[0].numel()))

    def baseline(self, module: nn.Module, batch: Any, features: Tensor, baseline: Baseline) -> Tensor:
        """Return the output of :meth:`layer` for x', given its output ``features`` for x; same shape."""
        raise self._unsaid("baseline", "what its layer returns for a baseline")

    def baseline_for(self, baseline: Baseline) -> Baseline:
        """Return the baseline that is meant: the task's own for ``default``, else the one given."""
        return self.default_baseline if baseline.kind == "default" else baseline

    def content(self, batch: Any, features: Tensor, keep_special: bool = True) -> Tensor:
        """Return what of :meth:`layer`'s output x' replaces, bool: places ``(B, T)``, or by default all, ``(B,)``.

        Baselines that are found, or drawn from references, are made of it: places are as good as one another (tokens),
        so that a reference's content is laid on them again and again; without places a reference is taken as it is.
        """
        return torch.ones(len(features), dtype=torch.bool, device=features.device)

    def delete(self, module: nn.Module, batch: Any, absent: Tensor) -> Any:
        """Return the batch without the units ``absent``, bool ``(B, T)``: a shorter text, by its ids and masks."""
        raise ValueError(
            f"`baseline='delete'`, but {type(self).__name__} does not say how units are deleted: use another baseline, "
            "or override `delete`."
        )

    @abstractmethod
    def names(self, logits: Tensor) -> tuple[str, ...]:
        """Return the name of what is predicted for each example."""

    def said(self, logits: Tensor, batch: Any) -> tuple[str, ...]:
        """Return what is predicted for each example as a reader is told it; by default by its name.

        For tasks whose predictions are told by the words of the text.
        """
        return self.names(logits)

    @abstractmethod
    def gold_names(self, batch: Any) -> tuple[str | None, ...] | None:
        """Return the name of each gold label, None for an example without one, or None where the batch has none."""

    def compared(
        self, logits: Tensor, batch: Any, targets: Targets
    ) -> tuple[tuple[str, ...], tuple[str | None, ...] | None]:
        """Return what is predicted and what is gold at each target; by default those of its example."""
        rows = targets.example.tolist()
        predicted, gold = self.said(logits, batch), self.gold_names(batch)
        return tuple(predicted[i] for i in rows), None if gold is None else tuple(gold[i] for i in rows)

    def check(self, module: nn.Module, which: str, baseline: Baseline | None) -> None:
        """Raise a ``ValueError`` for what can be known to fail before any batch is seen."""
        self.layer(module)

    def log_probabilities(self, logits: Tensor) -> Tensor | None:
        """Return the log of the classes' probabilities, ``(B, C)``; None (default) where there are none."""
        return None

    def entropy(self, logits: Tensor) -> Tensor | None:
        """Return the entropy of each prediction as a share of log C, ``(B,)``; None without probabilities."""
        known = self.log_probabilities(logits)
        return None if known is None else entropy(known)

    def with_references(self, references: Any) -> Self:
        """Return this task with other reference examples; the task itself stays as it is."""
        task = copy(self)
        task.references = references
        return task

    def need_references(self, baseline: Baseline) -> Any:
        """Return the reference examples that a baseline is drawn from.

        Raises:
            ValueError: If there are none.
        """
        if self.references is None:
            raise ValueError(
                f"`baseline={baseline.name!r}` is drawn from reference examples, and there are none: "
                "`references=` of SaliencyMonitor and TrustMonitor reads them from the training data; else give "
                "`explain(..., references=[texts])`, `--references FILE` (`--train-file` of `compare`), or "
                "`task.with_references(batch)`."
            )
        return self.references

    def boxes(
        self, logits: Tensor, batch: Any, targets: Targets
    ) -> tuple[tuple[float, float, float, float], ...] | None:
        """Return the box of each target, ``(x0, y0, x1, y1)`` as shares of width and height; None without boxes."""
        return None

    def labels(self, batch: Any) -> Tensor | None:
        """Return the gold targets, or None where the batch has none."""
        parts = batches.as_mapping(batch)
        found = next((parts[name] for name in batches.LABEL_NAMES if isinstance(parts.get(name), Tensor)), None)
        return found.squeeze(1) if found is not None and found.dim() == 2 and found.shape[1] == 1 else found

    def texts(self, batch: Any) -> tuple[str, ...] | None:
        """Return each example as a text that a person reads, or None (default) where there is none."""
        return None

    def loss_roots(
        self, logits: Tensor, samples: int | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return roots of the loss's Hessian in the logits, ``(R, *logits.shape)``: Σ r rᵀ is that Hessian.

        Args:
            logits: The model's scores.
            samples: Labels drawn from the prediction for each example, for the Hessian in expectation; ``None`` for it
                exactly.
            generator: Where they are drawn from.

        Raises:
            ValueError: If this task does not say.
        """
        raise ValueError(
            f"{type(self).__name__} does not say how its loss curves in the logits: override `loss_roots`, or use a "
            "method without curvature, such as 'gradient_similarity' or 'tracin'."
        )

    def roots(
        self, logits: Tensor, batch: Any, samples: int | None = None, generator: torch.Generator | None = None
    ) -> Iterator[Tensor]:
        """Yield roots of the Hessian of each example's loss in its logits, each of the logits' shape.

        One at a time, as those of a vocabulary at every token would not fit into memory together. By default they are
        those of :meth:`loss_roots`; a task of which the batch says where the loss is has its own.
        """
        yield from self.loss_roots(logits, samples, generator)

    def singles(self, module: nn.Module, batch: Any) -> Singles | None:
        """Return the batch with one example for each place that its loss is a mean over; None (default) without."""
        return None

    def represented(self, module: nn.Module) -> str | None:
        """Return the name of the layer whose output stands for the example, where neighbours are looked for.

        None (default) for what the last linear layer reads.
        """
        return None

    def represented_at(self, batch: Any, features: Tensor) -> Tensor:
        """Return the places of that which do, bool ``(B, T)``; by default all that are no padding."""
        return self.content(batch, features, keep_special=False)

    def take(self, batch: Any, index: Tensor) -> Any:
        """Return the batch with its examples gathered or repeated: any container."""
        return batches.take(batch, index)

    def columns(self, batch: Any, used: Tensor) -> Tensor:
        """Return the units that rows are read with of which only the ``used`` ones, bool ``(T,)``, are no padding.

        They are those from the first to the last: what is left out in between would move the others to other places.
        """
        first, last = used.nonzero().flatten()[[0, -1]].tolist() if used.any() else (0, len(used) - 1)
        return torch.arange(first, last + 1)

    def crop(self, batch: Any, columns: Tensor, length: int) -> Any:
        """Return the batch with only some of its ``length`` units: what is padding in every row is left out."""
        return batches.crop(batch, columns, length)

    def example_ids(self, batch: Any) -> tuple[int, ...] | None:
        """Return the stable id of each example in its data set, or None.

        They are ``example_id`` in the batch, or in a mapping that is a part of a tuple.
        """
        ids = batches.example_ids(batch)
        return None if ids is None else tuple(int(i) for i in (ids.tolist() if isinstance(ids, Tensor) else ids))

    def _unsaid(self, member: str, what: str) -> ValueError:
        return ValueError(f"{type(self).__name__} does not say {what}, as attributions need it: override `{member}`.")

    def notes(self, batch: Any) -> Sequence[tuple[str, ...]] | None:
        """Return for each example what its reader should know (``note`` in the batch), or None."""
        notes = batches.get(batch, "note")
        return [(note,) if note else () for note in notes] if isinstance(notes, list) else None
