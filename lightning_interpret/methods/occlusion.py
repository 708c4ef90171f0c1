"""What the prediction loses without each token, word or window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.explanations import Attribution
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.features import same_layer
from lightning_interpret.functional.occlusion import differences, share
from lightning_interpret.methods.base import Method
from lightning_interpret.methods.case import Case, open_case
from lightning_interpret.methods.unit_sets import KINDS, unit_sets
from lightning_interpret.names import choose
from lightning_interpret.tasks import Task

DELETE = "delete"

#: The scalar explained without some units ``(M, T)`` of given rows ``(M,)``.
Without = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Occlusion(Method):
    """F(x) − F(x without S) for each token, word or window S (Zeiler and Fergus, 2014; Li et al., 2016).

    Without gradients, so that it also serves what has none. What is lost without one unit may be lost again without
    another, or only without both: the scores sum to T = F(x) − F(x'), with all units absent, where units do not
    interact, and ``error`` = Σ scores − T is how much they do. It is a property of the model and of no quadrature.

    What a word or a window loses is shared out to its units in equal parts, so that a word's tokens sum to what is lost
    without it; of overlapping windows each unit has the mean of its parts. (Captum gives each unit of a window the
    whole loss: of windows of w units its scores are w times these.)

    Args:
        baseline: What stands at absent units: the name of a baseline x' (by default the task's: ``pad`` of a text,
            ``blur`` of an image) or a :class:`Baseline`; or ``delete``, where their ids and attention are removed and
            the text closes up; texts are never tokenized anew. Special tokens stay unless the baseline replaces them;
            at a deeper layer h(x') may, and then each stands alone.
        unit: ``token`` (each unit of the layer), ``word`` or ``window``.
        window: Units in a window: a number, or ``(rows, columns)`` of the grid of an image. For ``unit="window"``.
        stride: Units from one window to the next, in the same form; 1 where it is not given.
        error_floor: Floor τ of the relative error's denominator, in units of the output.
        internal_batch_size: Sets of units in one pass; by default as many as make 2,048 tokens (4,096 on a GPU).

    Raises:
        ValueError: If an option does not exist, does not fit another or the units, or units would be in no window; if
            tokens are to be deleted of something else than the words of a text.
    """

    name: ClassVar[str] = "occlusion"
    baseline: str | Baseline = "default"
    unit: Literal["token", "word", "window"] = "token"
    window: int | tuple[int, int] | None = None
    stride: int | tuple[int, int] | None = None
    error_floor: float = 0.01
    internal_batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("unit", self.unit, KINDS)
        if (self.unit == "window") != (self.window is not None) or (self.stride is not None and self.window is None):
            raise ValueError(
                f"`unit={self.unit!r}` with window={self.window!r}, stride={self.stride!r}: a window has a size, "
                "`unit='window', window=3`, and nothing else has."
            )
        steps, sizes = _by_axis("stride", self.stride), _by_axis("window", self.window)
        if any(step > size for step, size in zip(steps, sizes, strict=True)):
            raise ValueError(f"`stride={self.stride!r}` is larger than window={self.window!r}: units are left out.")

    @property
    def baseline_used(self) -> Baseline | None:
        """The baseline that the method needs, or None where tokens are deleted."""
        return None if self.baseline == DELETE else Baseline.ensure(self.baseline)

    def check(self, module: nn.Module, task: Task, layers: Sequence[str], output: str) -> None:
        """Raise where tokens are to be deleted of another layer than the one that reads them."""
        for layer in layers if self.baseline == DELETE else []:
            if not same_layer(module, layer, task.layer(module)):
                raise ValueError(
                    f"`layer={layer!r}` with baseline='delete': tokens are deleted of a text, and not of a layer. "
                    "Leave `layer` out, or use another baseline."
                )

    def attribute(
        self, module: nn.Module, batch: Any, task: Task, layer: str | None, which: str, output: str
    ) -> Attribution:
        """Return what is lost without each unit of one layer."""
        baseline, chunk = self.baseline_used, self.internal_batch_size
        with (
            torch.no_grad(),
            open_case(
                module, batch, task, layer=layer, which=which, output=output, baseline=baseline, chunk=chunk
            ) as case,
        ):
            absent, without = (
                self._deleted(case, module, batch, task) if baseline is None else (case.moved(), case.without)
            )
            window, stride = self.window or 1, self.stride or 1
            sets = unit_sets(case.units, absent, self.unit, window=window, stride=stride, order=case.order)
            lost = differences(without, case.target, sets.split(case.chunk)).cpu()
            scores = share(lost, sets.split(case.chunk), absent.shape)
            why = "forward passes alone: there is no path, and no step to refine"
            reasons = dict.fromkeys(("converged", "partial_error", "steps"), why)
            values = case.errors(scores, self.error_floor)
            if baseline is None:
                values["baseline"], reasons["cut"] = DELETE, "tokens are deleted of the text: no layer is replaced"
            forwards = torch.bincount(sets.row, minlength=len(scores)) + case.forwards
            return case.record(self, scores, forwards=forwards, reasons=reasons, **values)

    def _deleted(self, case: Case, module: nn.Module, batch: Any, task: Task) -> tuple[Tensor, Without]:
        """Return the units that can be deleted and the score without some; F(x') is that of a text without content."""

        def without(row: Tensor, units: Tensor) -> Tensor:
            row = row.to(case.target.device)
            shorter = task.delete(module, task.take(batch, case.targets.example[row]), units)
            return task.score(task.logits(module, shorter), case.targets.at(row), case.output)

        content = ~(case.units.special | case.units.padding)
        parts = torch.arange(len(content)).split(case.chunk)
        case.baseline_target = torch.cat([without(part, content[part]) for part in parts])
        case.forwards = case.forwards + 1
        return content, without


def _by_axis(option: str, value: Any) -> tuple[int, int]:
    """Return a size for rows and for columns; a line has the first."""
    sizes = (1,) if value is None else (value,) if isinstance(value, int) else tuple(value)
    if len(sizes) not in (1, 2) or any(not isinstance(size, int) or size < 1 for size in sizes):
        raise ValueError(f"`{option}={value!r}` must be a whole number of at least 1, or two: (rows, columns).")
    return sizes[0], sizes[-1]
