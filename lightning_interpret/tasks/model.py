"""What tasks of `transformers` models share: which model in the module it is, and the names of what it tells apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import nn
from transformers import PreTrainedModel

from lightning_interpret.tasks import batches
from lightning_interpret.tasks.base import Task
from lightning_interpret.tasks.transformer import SEQUENCES, check_called_alone, named_head, transformer_in


class ModelTask(Task):
    """Reads a module by the `transformers` model in it, which is called with what its ``forward`` names.

    Args:
        labels: Names of the classes in order; by default their numbers.
        model: Name of the `transformers` model in the module, where it holds several.
    """

    #: What the names of the `transformers` models that this task reads have in common.
    head: ClassVar[str | tuple[str, ...]] = SEQUENCES

    def __init__(self, labels: Sequence[str] | None = None, model: str | None = None) -> None:
        self._labels, self._model = None if labels is None else tuple(str(label) for label in labels), model

    def model_in(self, module: nn.Module) -> PreTrainedModel:
        """Return the `transformers` model in ``module``.

        Raises:
            ValueError: If there is none, or adapters around it change what goes into it.
        """
        model = transformer_in(module, self._model, self.head)
        if model is None:
            raise ValueError(
                f"{type(module).__name__} holds no `transformers` model: give a `task=`, for example a "
                f"subclass of {self._name} whose `logits(module, batch)` and `layer(module)` you override (README, "
                "'A model of your own')."
            )
        check_called_alone(module, model)
        return model

    def parts(self, batch: Any) -> dict[str, Any]:
        """Return the parts of a batch by the names that a `transformers` model has for them."""
        return batches.as_mapping(batch)

    def label_names(self, classes: int) -> tuple[str, ...]:
        """Return the name of each class: those given, or their numbers."""
        if self._labels is None:
            return tuple(str(i) for i in range(classes))
        if len(self._labels) != classes:
            raise ValueError(
                f"`labels={list(self._labels)}` names {len(self._labels)} classes; the model has {classes}."
            )
        return self._labels

    @property
    def _name(self) -> str:
        return named_head(self.head).removeprefix("For")
