"""What every method shares: options in a frozen dataclass, one call, and the reading of module, batch and task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_interpret.explanations import Attribution, Units
from lightning_interpret.functional import path
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.features import features, same_layer
from lightning_interpret.functional.scope import explaining
from lightning_interpret.names import choose
from lightning_interpret.tasks import OUTPUTS, Targets, Task, batches

#: Tokens in one pass, where a method is not told how many points: large enough to keep a processor busy, and on a CPU
#: no larger, as the fewer texts a pass has, the less padding it needs.
TOKENS_A_PASS = {"cpu": 2048, "cuda": 4096}

METHODS: dict[str, type[Method]] = {}


@dataclass(frozen=True)
class Method(ABC):
    """A way to attribute a prediction, with its options. Subclasses with a ``name`` are registered under it."""

    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in vars(cls):
            METHODS[cls.name] = cls

    def __call__(
        self,
        module: nn.Module,
        batch: Any,
        task: Task,
        *,
        layer: str | Sequence[str] | None = None,
        which: str = "predicted",
        output: str = "logit",
    ) -> Any:
        """Return the :class:`Attribution` of the batch; for a list of layers, a dict of them by name.

        The module is left as it was: training flags, weights, ``.grad``, random states and hooks.

        Args:
            module: The module to explain; it may be in training mode.
            batch: A batch as the task reads it, on the module's device.
            task: How module and batch are read.
            layer: Name of the layer to attribute to, or several; by default the task's.
            which: ``predicted``, ``gold``, a label, or a contrast ``A-B``.
            output: ``logit``, ``log_prob``, ``prob`` or ``margin``.

        Raises:
            ValueError: If the layer, the class or the output does not exist, or the baseline cannot be made.
        """
        choose("output", output, OUTPUTS)
        with explaining(module):
            batch = batches.clone(batch)  # an inference tensor cannot be saved for a gradient
            if layer is None or isinstance(layer, str):
                return self.attribute(module, batch, task, layer, which, output)
            return {name: self.attribute(module, batch, task, name, which, output) for name in layer}

    @abstractmethod
    def attribute(
        self, module: nn.Module, batch: Any, task: Task, layer: str | None, which: str, output: str
    ) -> Attribution:
        """Return the attribution to one layer; called inside the explaining scope."""

    def __post_init__(self) -> None:
        """Refuse options that are out of their range; the message names them."""
        for option, lowest in (("internal_batch_size", 1), ("max_steps", getattr(self, "steps", 1))):
            value = getattr(self, option, None)
            if value is not None and not (isinstance(value, int) and value >= lowest):
                raise ValueError(f"`{option}={value!r}` must be a whole number of at least {lowest}.")
        for option in ("tolerance", "error_floor"):
            value = getattr(self, option, None)
            if value is not None and not value > 0:
                raise ValueError(f"`{option}={value!r}` must be positive.")
        if hasattr(self, "baseline"):
            Baseline.ensure(self.baseline)

    @property
    def baseline_used(self) -> Baseline | None:
        """The baseline that the method needs, or None."""
        value = getattr(self, "baseline", None)
        return None if value is None else Baseline.ensure(value)


@dataclass
class Case:
    """One call of a method: the features at x and x', the scalars there, and the function between them.

    Attributes:
        inputs: h(x) for each of the N targets, ``(N, *shape)``.
        baselines: h(x'), same shape, or None where no baseline was asked for.
        target: F(x), ``(N,)``.
        baseline_target: F(x; h := h(x')), ``(N,)``, or None.
        cut: Whether F(x; h := h(x')) is F(x'), or None.
        forwards: ``(N,)``, forward passes without a gradient that each row took.
        chunk: Points in one pass.
        order: The rows by their padding, so that those of a pass have as little of it as can be.
    """

    layer: str
    output: str
    inputs: Tensor
    target: Tensor
    targets: Targets
    units: Units
    forwards: Tensor
    chunk: int
    score: path.Score
    order: Tensor
    described: dict[str, Any] = field(default_factory=dict)
    baselines: Tensor | None = None
    baseline_target: Tensor | None = None
    cut: bool | None = None

    def per_unit(self, values: Tensor) -> Tensor:
        """Return values ``(M, *shape)`` summed to one a unit."""
        return values.reshape(len(values), *self.units.shape, -1).sum(dim=-1)

    def to_units(self, contributions: Tensor) -> Tensor:
        """Return contributions ``(N, *shape)`` summed to one score a unit; exactly 0 on padding."""
        scores = self.per_unit(contributions)
        return scores.masked_fill(self.units.padding.to(scores.device), 0.0)

    def record(self, method: Method, scores: Tensor, **values: Any) -> Attribution:
        """Return the record of ``scores``; ``values`` are fields of :class:`Attribution` that the method knows."""
        zero = torch.zeros(len(self.target), dtype=torch.long)
        known = self.described | {"gradients": zero, "forwards": self.forwards} | values
        return Attribution(
            scores=scores,
            target=self.target.double(),
            target_name=self.targets.name,
            output=self.output,
            method=method.name,
            layer=self.layer,
            units=self.units,
            **(known | {"reasons": self.described["reasons"] | values.get("reasons", {})}),
        )

    def errors(self, scores: Tensor, floor: float) -> dict[str, Any]:
        """Return the fields that say how far the scores miss their target."""
        if self.baseline_target is None:
            raise ValueError("Without a baseline there is no target, and so no error.")
        target, baseline = self.target.double(), self.baseline_target.double()
        error = scores.flatten(1).double().sum(dim=1) - (target - baseline)
        relative = path.relative_error(error, target, baseline, floor)
        return {
            "baseline_target": baseline,
            "error": error,
            "relative_error": relative,
            "error_floor": floor,
            "cut": self.cut,
        }


@contextmanager
def open_case(
    module: nn.Module,
    batch: Any,
    task: Task,
    *,
    layer: str | None,
    which: str,
    output: str,
    baseline: Baseline | None,
    chunk: int | None,
) -> Iterator[Case]:
    """Read module, batch and task at x and at x', and keep the layer open for other values while the block lasts."""
    words = task.layer(module)
    if layer is None or same_layer(module, layer, words):
        layer = words  # by whatever name it was called: hooks on one module twice would hide x' from one another
    units = task.units(batch)

    def forward() -> Tensor:
        return task.logits(module, batch)

    shape = (batches.batch_size(batch), *units.shape)
    with features(module, layer, forward, units=shape if layer == words else None) as (opened, logits, inputs):
        with torch.no_grad():
            targets = task.resolve(logits, batch, which)
            target = task.score(logits, targets, output)
        if len(inputs) != len(logits):
            raise ValueError(f"`layer={layer!r}` has shape {tuple(inputs.shape)}: its first dimension is no example.")

        def cropped(points: Tensor, rows: Tensor, columns: slice) -> Tensor:
            some = task.take(batch, targets.example[rows])
            if columns != slice(None):
                some, points = batches.crop(some, columns, units.shape[0]), points[:, columns]
            return task.score(opened.put(points, lambda: task.logits(module, some)), targets.at(rows), output)

        gold, ids, notes = task.gold_names(batch), task.example_ids(batch), _notes(task, batch, units)
        of = targets.example.tolist()
        predicted = task.names(logits)
        rows = units.take(targets.example.cpu())
        # a unit has features of its own: a vector that is as long as the text by chance is no text
        fitted = inputs.dim() > 1 + len(units.shape) and inputs.shape[1 : 1 + len(units.shape)] == units.shape
        at_x, forwards = _in_single_precision(inputs)[targets.example], torch.ones(len(of), dtype=torch.long)
        padding = rows.padding if fitted else torch.zeros(len(of), 0, dtype=torch.bool)
        score = _without_padding(cropped, at_x, target, padding, forwards)
        case = Case(
            layer=layer,
            output=output,
            inputs=at_x,
            target=target,
            targets=targets,
            units=rows if fitted else Units.features(len(of), inputs[0].numel()),
            forwards=forwards,
            chunk=chunk or max(1, TOKENS_A_PASS.get(inputs.device.type, 4096) // max(1, units.shape[0])),
            score=score,
            order=padding.flatten(1).sum(dim=1).argsort(stable=True),
            described={
                "prediction": tuple(predicted[i] for i in of),
                "gold": None if gold is None else tuple(gold[i] for i in of),
                "example_id": None if ids is None else tuple(ids[i] for i in of),
                "notes": tuple(notes[i] for i in of),
                "baseline": None if baseline is None else baseline.name,
                "reasons": _reasons(gold, ids),
            },
        )
        if baseline is not None:
            with torch.no_grad():
                _read_baseline(case, opened, module, batch, task, words, shape, forward, baseline, inputs)
        yield case


def _read_baseline(
    case: Case,
    opened: Any,
    module: nn.Module,
    batch: Any,
    task: Task,
    words: str,
    shape: tuple[int, ...],
    forward: Any,
    baseline: Baseline,
    inputs: Tensor,
) -> None:
    """Fill in h(x'), F(x; h := h(x')) and whether that is F(x').

    One x' gives the baseline of every layer: a deeper layer's is what it returns while the word embeddings are those
    of x'. Where the layer is not a cut of the graph (something passes it by), the sum of attributions to it can only be
    F(x) − F(x; h := h(x')), and that is its target.
    """
    if case.layer == words:
        reference = task.baseline(module, batch, inputs, baseline)
        logits = opened.put(reference, forward)
        case.cut, case.forwards = True, case.forwards + 1
    else:
        with features(module, words, forward, units=shape) as (embedded, _, embeddings):
            absent = task.baseline(module, batch, embeddings, baseline)
            at_baseline, reference = opened.read(lambda: embedded.put(absent, forward))
        logits = opened.put(reference, forward)
        gap = (logits - at_baseline).abs().max() / at_baseline.abs().max().clamp(min=1e-6)
        case.cut, case.forwards = bool(gap < 1e-4), case.forwards + 3
    case.baselines = _in_single_precision(reference)[case.targets.example]
    case.baseline_target = task.score(logits, case.targets, case.output)


def _without_padding(
    score: Callable[[Tensor, Tensor, slice], Tensor], inputs: Tensor, target: Tensor, padding: Tensor, forwards: Tensor
) -> path.Score:
    """Return ``score`` with the columns left out that are padding in every row of a pass.

    Where the model gives the row with the most padding another score without it, or cannot be run so, they stay. The
    trial is added to that row's ``forwards``.
    """
    everything = slice(None)
    if padding.dim() != 2 or not bool(padding.any()):
        return lambda points, rows: score(points, rows, everything)

    def columns(rows: Tensor) -> slice:
        used = (~padding[rows.cpu()]).any(dim=0).nonzero().flatten().tolist()
        return slice(used[0], used[-1] + 1) if used else everything

    shortest = padding.sum(dim=1).argmax()[None].to(inputs.device)
    forwards[shortest.cpu()] += 1
    try:
        with torch.no_grad():
            alone = score(inputs[shortest], shortest, columns(shortest))
        same = bool(torch.allclose(alone, target[shortest], rtol=1e-4, atol=1e-5))
    except Exception:  # a model of one length only, a mask of another shape: it says so as it likes
        same = False
    return lambda points, rows: score(points, rows, columns(rows) if same else everything)


def _in_single_precision(features: Tensor) -> Tensor:
    """Return features in which a path can be told apart: half precision has 8e-3 of error alone."""
    return features if features.dtype == torch.float64 else features.float()


def _notes(task: Task, batch: Any, units: Units) -> list[tuple[str, ...]]:
    """Return the task's notes, and one on every text of which nothing can be absent."""
    nothing = (units.special | units.padding).flatten(1).all(dim=1).tolist()
    said = task.notes(batch) or [()] * len(nothing)
    empty = "the text has no tokens of its own: there is nothing to attribute to"
    return [(*notes, empty) if none else tuple(notes) for notes, none in zip(said, nothing, strict=True)]


def _reasons(gold: object, ids: object) -> dict[str, str]:
    reasons = {} if gold is not None else {"gold": "the batch has no labels"}
    return reasons if ids is not None else reasons | {"example_id": "the batch has no `example_id`"}
