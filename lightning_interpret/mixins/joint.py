"""JointMixin: what every joint method shares, so that several of them go together on one module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

from lightning.pytorch import LightningModule
from torch import Tensor

if TYPE_CHECKING:  # what a mixin is always mixed into, though it does not derive from it
    _Mixed = LightningModule
else:
    _Mixed = object


class JointMixin(_Mixed):
    """Base of the mixins: listed before ``LightningModule``, each with its own keywords, hooks and one named child.

    A mixin has no ``forward`` and no ``*_step`` of its own. What it adds to the loss is recorded with :meth:`add_term`;
    what the module's own ``training_step`` has not taken by :meth:`auxiliary_loss` is added to what it returns, so that
    nothing is lost and nothing counted twice. Layers are found by name in :meth:`attach`, which is called when the
    module is complete: after ``configure_model``, and before a checkpoint is loaded.

    Raises:
        TypeError: If the class lists ``LightningModule`` before a mixin, whose hooks would never run.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not issubclass(cls, LightningModule):
            return
        bases = cls.__mro__
        late = [
            base.__name__
            for base in bases[bases.index(LightningModule) :]
            if issubclass(base, JointMixin) and base is not JointMixin
        ]
        if late or bases.index(JointMixin) > bases.index(LightningModule):
            raise TypeError(
                f"{cls.__name__}: {', '.join(late) or 'JointMixin'} comes after LightningModule among its bases, so "
                f"that none of its hooks would run: write `class {cls.__name__}({', '.join(late)}, ...)`, mixins first."
            )
        step = cls.training_step
        if step is not LightningModule.training_step and not hasattr(step, "_takes_terms"):
            cls.training_step = _taking_terms(step)  # type: ignore[method-assign]
        build = cls.configure_model
        if not hasattr(build, "_attaches"):
            cls.configure_model = _attaching(build)  # type: ignore[method-assign]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._terms: dict[str, Tensor] = {}
        self._steps = 0  # training steps that run, one inside the other
        self._builds = 0  # the same of `configure_model`

    # What a mixin overrides

    def attach(self) -> None:
        """Attach to the module's layers where they are there; called more than once."""

    def begin_step(self, batch: Any) -> None:
        """Take note of the batch of a training step that begins."""

    # The loss

    def add_term(self, name: str, value: Tensor) -> None:
        """Record a term of the loss, a scalar; terms of one name are added up. Outside of training nothing is kept."""
        if self.training and self._steps:
            self._terms[name] = self._terms[name] + value if name in self._terms else value

    def auxiliary_loss(self) -> Tensor | float:
        """Return the sum of the terms recorded since the last call, and forget them; 0 where there are none."""
        terms, self._terms = self._terms, {}
        return sum(terms.values(), start=0.0)

    # Hooks

    def configure_model(self) -> None:
        """Hand on; each class's own is followed by :meth:`attach`."""
        super().configure_model()

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Attach first, so that what the mixins have learnt has a place to go."""
        self.attach()
        return super().load_state_dict(*args, **kwargs)

    @contextmanager
    def _step(self, batch: Any) -> Iterator[bool]:
        """Run a training step; yield whether it is the outermost."""
        outermost = not self._steps
        if outermost:
            self._terms = {}
            self.begin_step(batch)
        self._steps += 1
        try:
            yield outermost
        except BaseException:
            self._terms = {}
            raise
        finally:
            self._steps -= 1


def _taking_terms(step: Callable) -> Callable:
    """Return a training step that adds the terms which the module's own has not taken."""

    @wraps(step)
    def training_step(self: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        with self._step(batch) as outermost:
            result = step(self, batch, *args, **kwargs)
            return _with_terms(self, result) if outermost and self._terms else result

    training_step._takes_terms = True  # type: ignore[attr-defined]
    return training_step


def _with_terms(module: Any, result: Any) -> Any:
    if result is None:
        names = ", ".join(module._terms)
        module._terms = {}
        if module.automatic_optimization:  # the step skips this batch, and so do its terms
            return None
        raise RuntimeError(
            f"Terms of the loss are pending after a `training_step` with manual optimisation: {names}. Add "
            "`self.auxiliary_loss()` to the loss before `self.manual_backward(loss)`."
        )
    if isinstance(result, Mapping):
        return {**result, "loss": result["loss"] + module.auxiliary_loss()}
    return result + module.auxiliary_loss()


def _attaching(build: Callable) -> Callable:
    """Return a ``configure_model`` that attaches the mixins once all layers are there."""

    @wraps(build)
    def configure_model(self: Any) -> None:
        if not hasattr(self, "_builds"):  # called by the module's own `__init__`, before the mixins' are through
            build(self)
            return
        self._builds += 1
        try:
            build(self)
        finally:
            self._builds -= 1
        if not self._builds:
            self.attach()

    configure_model._attaches = True  # type: ignore[attr-defined]
    return configure_model
