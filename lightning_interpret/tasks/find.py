"""Which task reads a module: the one given, the module's own, or one inferred."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from lightning_interpret.tasks.base import Task
from lightning_interpret.tasks.causal_generation import CausalGeneration
from lightning_interpret.tasks.image_classification import ImageClassification
from lightning_interpret.tasks.object_detection import ObjectDetection
from lightning_interpret.tasks.question_answering import QuestionAnswering
from lightning_interpret.tasks.seq2seq_generation import Seq2SeqGeneration
from lightning_interpret.tasks.sequence_classification import SequenceClassification
from lightning_interpret.tasks.several import MultiLabelClassification, Regression
from lightning_interpret.tasks.token_classification import TokenClassification
from lightning_interpret.tasks.transformer import (
    ANSWERS,
    BOXES,
    IMAGES,
    SEQUENCES,
    TAGS,
    WRITERS,
    has_head,
    label_names,
    transformer_in,
)


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
    for head in (SEQUENCES, TAGS, ANSWERS, IMAGES, BOXES, WRITERS):
        model = transformer_in(module, head=head)
        if model is not None and has_head(model, head):
            return _of(head, model, tokenizer, getattr(module, "processor", None))
    model = transformer_in(module)
    held = "no `transformers` model" if model is None else f"a {type(model).__name__}"
    raise ValueError(
        f"{type(module).__name__} holds {held}, and no task can be inferred for it (for `transformers` models with a "
        "head it can: classifiers of texts, tokens and images, question answering, detectors, models that write). Give "
        "`task=`, for example a SequenceClassification whose `logits(module, batch)` and `layer(module)` you override "
        "(of an ImageClassification the first is enough), or define `interpret_task()` on the module."
    )


def _of(head: Any, model: PreTrainedModel, tokenizer: Any, processor: Any) -> Task:
    """Return how a model with a head of some kind is read."""
    labels = label_names(model.config)
    if head == SEQUENCES:
        problem = getattr(model.config, "problem_type", None)
        if problem == "multi_label_classification":
            return MultiLabelClassification(tokenizer, labels)
        if problem == "regression" or (problem is None and len(labels) == 1):  # as `transformers` itself takes it
            return Regression(tokenizer, None if len(labels) == 1 else labels)
        return SequenceClassification(tokenizer, labels)
    if head == TAGS:
        return TokenClassification(tokenizer, labels)
    if head == ANSWERS:
        return QuestionAnswering(tokenizer)
    if head == WRITERS:
        decodes = bool(getattr(model.config, "is_encoder_decoder", False))
        return Seq2SeqGeneration(tokenizer) if decodes else CausalGeneration(tokenizer)
    return (ImageClassification if head == IMAGES else ObjectDetection)(labels, processor)
