"""What every method shares: options in a frozen dataclass, one call, and the reading of module, batch and task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from lightning_interpret.explanations import Attribution
from lightning_interpret.functional.baselines import DRAWN, Baseline
from lightning_interpret.functional.scope import explaining
from lightning_interpret.names import check_positive, check_seed, check_whole, choose
from lightning_interpret.tasks import OUTPUTS, Task, batches

METHODS: dict[str, type[Method]] = {}


@dataclass(frozen=True)
class Method(ABC):
    """A way to attribute a prediction, with its options. Subclasses with a ``name`` are registered under it."""

    name: ClassVar[str]
    distribution: ClassVar[bool] = False  # whether it averages over a distribution of baselines
    implicit_baseline: ClassVar[str | None] = None  # what it is measured from where no option says so

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
        """Return the :class:`Attribution` of the batch; for several layers, a dict of them by name, in their order.

        The module is left as it was: training flags, weights, ``.grad``, random states and hooks.

        Args:
            module: The module to explain; it may be in training mode.
            batch: A batch as the task reads it, on the module's device.
            task: How module and batch are read.
            layer: Name of the layer to attribute to, a list of names, or ``"all"`` for a sweep over the task's
                ``layers``: its default and each block in the order of execution. By default the task's.
            which: ``predicted``, ``gold``, a label, or a contrast ``A-B``.
            output: ``logit``, ``log_prob``, ``prob`` or ``margin``.

        Raises:
            ValueError: If the layer, the class or the output does not exist, the list of layers is empty, or the
                baseline cannot be made.
        """
        choose("output", output, OUTPUTS)
        with explaining(module):
            batch = batches.clone(batch)  # an inference tensor cannot be saved for a gradient
            batch = task.prepared(module, batch)
            if layer == "all":
                layer = task.layers(module, batch)
            named = [layer] if isinstance(layer, str) else list(layer or [])
            self.check(module, task, named, output)
            if layer is None or isinstance(layer, str):
                return self.attribute(module, batch, task, layer, which, output)
            if not layer:
                raise ValueError(f"`layer={layer!r}` names no layer: give a name, a list of names, or 'all'.")
            return {name: self.attribute(module, batch, task, name, which, output) for name in layer}

    def check(self, module: nn.Module, task: Task, layers: Sequence[str], output: str) -> None:  # noqa: B027
        """Raise for what no call could serve, whatever the batch: so a Monitor says it before training starts.

        Args:
            module: The module to explain.
            task: How it is read.
            layers: Names of the layers to attribute to; none for the task's default and for a sweep over ``"all"``.
            output: ``logit``, ``log_prob``, ``prob`` or ``margin``.
        """

    @abstractmethod
    def attribute(
        self, module: nn.Module, batch: Any, task: Task, layer: str | None, which: str, output: str
    ) -> Attribution:
        """Return the attribution to one layer; called inside the explaining scope."""

    def __post_init__(self) -> None:
        """Refuse options that are out of their range; the message names them."""
        for option, lowest in (("internal_batch_size", 1), ("max_steps", getattr(self, "steps", 1))):
            value = getattr(self, option, None)
            if value is not None:
                check_whole(lowest, **{option: value})
        for option in ("tolerance", "error_floor"):
            value = getattr(self, option, None)
            if value is not None:
                check_positive(**{option: value})
        check_seed(getattr(self, "seed", 0))
        used = self.baseline_used
        if used is not None and (used.kind == "distribution") != self.distribution:
            able = [name for name, method in METHODS.items() if method.distribution == (used.kind == "distribution")]
            what = "a distribution of baselines" if used.kind == "distribution" else "one baseline"
            raise ValueError(
                f"`baseline={used.name!r}`: {self.name} takes no such baseline; {what} is of {', '.join(able)}."
            )

    @property
    def baseline_used(self) -> Baseline | None:
        """The baseline that the method needs, or None."""
        value = getattr(self, "baseline", None)
        return None if value is None else Baseline.ensure(value)

    @property
    def baseline_name(self) -> str:
        """What its scores are measured from: the baseline, the implicit one, or that it has none and only ranks."""
        used = self.baseline_used
        return used.name if used is not None else self.implicit_baseline or "none: it ranks"

    def check_references(self, references: Sequence[Any]) -> None:
        """Refuse references that this method would ignore, or none where they are given.

        Raises:
            ValueError: Either way.
        """
        used = self.baseline_used
        if used is None or not used.drawn:
            of = "no baseline" if used is None else f"baseline={used.name!r}"
            raise ValueError(
                f"`references` are given, but {self.name} with {of} draws from none: leave them out, or set `baseline` "
                f"to one of {', '.join(DRAWN)}."
            )
        if not references:
            raise ValueError("`references` is empty: give a few dozen training examples.")
