"""Examples that carry ids: any data set's, text with what is to be said of it, generated reviews, pictures."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightning_interpret.data.files import file_records, read_rows
from lightning_interpret.data.hub import hub_records, hub_rows
from lightning_interpret.data.questions import Answer, QuestionColumns, QuestionRow, question_rows
from lightning_interpret.data.rows import TextRow, class_of
from lightning_interpret.data.tagged import TaggedColumns, TaggedRow, tagged_rows
from lightning_interpret.data.written import WrittenColumns, WrittenRow, written_rows

if TYPE_CHECKING:
    from lightning_interpret.data.examples import TrainingExamples
    from lightning_interpret.data.find_ids import example_ids
    from lightning_interpret.data.ids import WithIds
    from lightning_interpret.data.planted import PlantedBadCases, PlantedRow
    from lightning_interpret.data.reviews import Phrase, Review, ReviewCorpus
    from lightning_interpret.data.shapes import ShapesDataset

_ROOMS = {
    "Phrase": "reviews",
    "PlantedBadCases": "planted",
    "PlantedRow": "planted",
    "Review": "reviews",
    "ReviewCorpus": "reviews",
    "ShapesDataset": "shapes",
    "TrainingExamples": "examples",
    "WithIds": "ids",
    "example_ids": "find_ids",
}
__all__ = [
    "Answer",
    "Phrase",
    "PlantedBadCases",
    "PlantedRow",
    "QuestionColumns",
    "QuestionRow",
    "Review",
    "ReviewCorpus",
    "ShapesDataset",
    "TaggedColumns",
    "TaggedRow",
    "TextRow",
    "TrainingExamples",
    "WithIds",
    "WrittenColumns",
    "WrittenRow",
    "class_of",
    "example_ids",
    "file_records",
    "hub_records",
    "hub_rows",
    "question_rows",
    "read_rows",
    "tagged_rows",
    "written_rows",
]


def __getattr__(name: str) -> Any:
    # The readers of text work without torch, so what needs it is loaded on demand.
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
