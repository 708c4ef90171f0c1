"""How one kind of model and batch is read: the only room a new kind of model has to add to."""

from lightning_interpret.tasks.base import OUTPUTS, Layout, Targets, Task
from lightning_interpret.tasks.causal_generation import CausalGeneration
from lightning_interpret.tasks.classification import Classification
from lightning_interpret.tasks.find import find_task
from lightning_interpret.tasks.generation import Generation
from lightning_interpret.tasks.image_classification import ImageClassification
from lightning_interpret.tasks.object_detection import ObjectDetection
from lightning_interpret.tasks.question_answering import QuestionAnswering
from lightning_interpret.tasks.seq2seq_generation import Seq2SeqGeneration
from lightning_interpret.tasks.sequence_classification import SequenceClassification
from lightning_interpret.tasks.several import MultiLabelClassification, Regression
from lightning_interpret.tasks.text import TextTask
from lightning_interpret.tasks.token_classification import TokenClassification

__all__ = [
    "OUTPUTS",
    "CausalGeneration",
    "Classification",
    "Generation",
    "ImageClassification",
    "Layout",
    "MultiLabelClassification",
    "ObjectDetection",
    "QuestionAnswering",
    "Regression",
    "Seq2SeqGeneration",
    "SequenceClassification",
    "Targets",
    "Task",
    "TextTask",
    "TokenClassification",
    "find_task",
]
