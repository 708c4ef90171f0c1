"""JointMixin: what every joint method shares, so that several of them go together on one module."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lightning_interpret.trainer._compat import averaged_copies, logs_in_training_step

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

    A module that overrides one of Lightning's hooks calls ``super()``'s, as the mixins' are there too. A step that
    takes a ``dataloader_iter`` calls :meth:`begin_step` with the batch that it has drawn.

    Raises:
        TypeError: If the class lists ``LightningModule`` before a mixin, whose hooks would never run.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _check_bases(cls)
        if not issubclass(cls, LightningModule):
            return
        step = cls.training_step
        if step is not LightningModule.training_step and not hasattr(step, "_takes_terms"):
            cls.training_step = _taking_terms(cls, step)  # type: ignore[method-assign]
        build = cls.configure_model
        if not hasattr(build, "_attaches"):
            cls.configure_model = _attaching(build)  # type: ignore[method-assign]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._terms: dict[str, Tensor] = {}
        self._steps = 0  # training steps that run, one inside the other
        self._builds = 0  # the same of `configure_model`

    # What a mixin overrides

    @property
    def rows_per_example(self) -> int:
        """How many rows in a row a layer may have for each example: as many as labels that a language model scores."""
        return 1

    def attach(self) -> None:
        """Attach to the module's layers where they are there; called more than once."""

    def begin_step(self, batch: Any) -> None:
        """Take note of the batch of a training step that begins."""

    def finish_step(self) -> None:
        """Record terms of what the step has computed: called whenever terms are asked for, and at the step's end."""

    def end_step(self) -> None:
        """Forget what the step was told, whether or not it has failed."""

    def become_plain(self) -> None:
        """Take the method out for good, or put its plain form in its place: what `PlainTwin` trains beside it."""

    # The loss

    def add_term(self, name: str, value: Tensor) -> None:
        """Record a term of the loss, which is logged as ``train_<name>``; terms of one name are added up.

        Nothing is kept outside of a training step, nor where a backward pass computes activations again.

        Raises:
            ValueError: If the value is no tensor without dimensions.
        """
        if not isinstance(value, Tensor) or value.dim():
            found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            raise ValueError(
                f"The term {name!r} of the loss must be a tensor without dimensions, such as a mean over the batch, "
                f"but is {found}."
            )
        if self.training and self._steps and torch._C._current_graph_task_id() == -1:
            self._terms[name] = self._terms[name] + value if name in self._terms else value

    @torch.compiler.disable
    def auxiliary_loss(self) -> Tensor | float:
        """Return the sum of the terms recorded since the last call, and forget them; 0 where there are none.

        Raises:
            ValueError: If a term is not a number.
        """
        self.finish_step()
        terms, self._terms = self._terms, {}
        total = sum(terms.values(), start=0.0)
        if isinstance(total, Tensor) and bool(total.isnan()):  # the device is waited for once a step, not once a term
            wrong = [name for name, value in terms.items() if bool(value.isnan())] or list(terms)
            raise ValueError(f"Terms of the loss are NaN, and their gradients would be: {', '.join(wrong)}.")
        if logs_in_training_step(self):
            for name, value in terms.items():
                self.log(f"train_{name}", value.detach(), batch_size=1)  # read in each step, averaged nowhere
        return total

    # Hooks

    def configure_model(self) -> None:
        """Hand on; each class's own is followed by :meth:`attach`."""
        super().configure_model()

    def on_fit_start(self) -> None:
        """Complete the copy that weights are averaged in, which was made before this module was complete."""
        super().on_fit_start()
        names = dict(self.named_parameters()).keys()
        for copied in averaged_copies(self.trainer):
            if dict(copied.named_parameters()).keys() != names:
                copied.configure_model()

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Attach first, so that what the mixins have learnt has a place to go."""
        self.attach()
        return super().load_state_dict(*args, **kwargs)


def _check_bases(cls: type) -> None:
    order = cls.__mro__
    if any(base.__name__ == "LightningModule" and base.__module__.startswith("pytorch_lightning") for base in order):
        raise TypeError(
            f"{cls.__name__} is a LightningModule of `pytorch_lightning`, which the mixins do not know: import "
            "LightningModule and Trainer from `lightning.pytorch`."
        )
    if LightningModule not in order or order.index(JointMixin) < order.index(LightningModule):
        return
    mixins = [base for base in cls.__bases__ if issubclass(base, JointMixin) and not issubclass(base, LightningModule)]
    right = [base.__name__ for base in (*mixins, *(base for base in cls.__bases__ if base not in mixins))]
    raise TypeError(
        f"{cls.__name__} lists {cls.__bases__[0].__name__} before {mixins[0].__name__}, so that none of the mixin's "
        f"hooks would run: write `class {cls.__name__}({', '.join(right)})`, mixins first."
    )


def _taking_terms(cls: Any, step: Callable) -> Callable:
    """Return a training step that adds the terms which the module's own has not taken."""
    own = "training_step" in vars(cls)
    iterates = "dataloader_iter" in inspect.signature(step).parameters

    @wraps(step)
    def training_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        outermost = not self._steps
        self._steps += 1
        try:
            if outermost and not iterates:
                self.begin_step(next(iter((*args, *kwargs.values()))))
            # of an inherited step there may be another one between, in a class that derives from two
            result = step(self, *args, **kwargs) if own else super(cls, self).training_step(*args, **kwargs)
            if outermost:
                self.finish_step()
            return _with_terms(self, result) if outermost and self._terms else result
        finally:
            self._steps -= 1
            if outermost:
                self._terms = {}
                self.end_step()

    training_step._takes_terms = True  # type: ignore[attr-defined]
    return training_step


def _with_terms(module: JointMixin, result: Any) -> Any:
    if not module.automatic_optimization:
        raise RuntimeError(
            "Terms of the loss are pending after a `training_step` with manual optimisation: "
            f"{', '.join(module._terms)}. Add `self.auxiliary_loss()` to the loss before `self.manual_backward(loss)`."
        )
    if isinstance(result, Tensor):
        return result + module.auxiliary_loss()
    if isinstance(result, dict) and result.get("loss") is not None:
        return {**result, "loss": result["loss"] + module.auxiliary_loss()}
    return result  # None skips the batch, and so its terms; what else it is, Lightning refuses


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
