"""Which task reads a module: the one given, the module's own, or one inferred."""

from __future__ import annotations

from typing import Any

from torch import nn

from lightning_interpret.tasks.base import Task
from lightning_interpret.tasks.image_classification import ImageClassification
from lightning_interpret.tasks.object_detection import ObjectDetection
from lightning_interpret.tasks.sequence_classification import SequenceClassification
from lightning_interpret.tasks.transformer import BOXES, IMAGES, has_head, label_names, transformer_in


def find_task(module: nn.Module, *, task: Task | None = None, tokenizer: Any = None) -> Task:
    """Return the task for ``module``: ``task``, then ``module.interpret_task()``, then one inferred from its model.

    Args:
        module: The module to be explained.
        task: The task that the user gave.
        tokenizer: A tokenizer or its name, for a task of texts that is inferred; by default ``module.tokenizer``. The
            image processor of a task of images is ``module.processor``, if there is one.

    Raises:
        ValueError: If nothing can be inferred; the message says what to give.
    """
    if task is not None:
        return task
    own = getattr(module, "interpret_task", None)
    if callable(own):
        return own()
    tokenizer = tokenizer if tokenizer is not None else getattr(module, "tokenizer", None)
    model = transformer_in(module)
    if model is not None and has_head(model):
        return SequenceClassification(tokenizer, label_names(model.config))
    processor = getattr(module, "processor", None)
    for head, kind in ((IMAGES, ImageClassification), (BOXES, ObjectDetection)):
        model = transformer_in(module, head=head)
        if model is not None and has_head(model, head):
            return kind(label_names(model.config), processor)
    held = "no `transformers` model" if model is None else f"a {type(model).__name__}"
    raise ValueError(
        f"{type(module).__name__} holds {held}, and no task can be inferred for it (for sequence classifiers, image "
        "classifiers and detectors of `transformers` it can). Give `task=`, for example a SequenceClassification whose "
        "`logits(module, batch)` and `layer(module)` you override (of an ImageClassification the first is enough), or "
        "define `interpret_task()` on the module."
    )
