"""How one kind of model and batch is read: the only room a new kind of model has to add to."""

from lightning_interpret.tasks.base import OUTPUTS, Layout, Targets, Task
from lightning_interpret.tasks.classification import Classification
from lightning_interpret.tasks.find import find_task
from lightning_interpret.tasks.image_classification import ImageClassification
from lightning_interpret.tasks.object_detection import ObjectDetection
from lightning_interpret.tasks.sequence_classification import SequenceClassification

__all__ = [
    "OUTPUTS",
    "Classification",
    "ImageClassification",
    "Layout",
    "ObjectDetection",
    "SequenceClassification",
    "Targets",
    "Task",
    "find_task",
]
