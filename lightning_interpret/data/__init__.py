"""Examples that carry ids: any data set's, labelled text, generated reviews (with bad cases planted), pictures."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightning_interpret.data.files import read_rows
from lightning_interpret.data.hub import hub_rows
from lightning_interpret.data.rows import TextRow, class_of

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
    "Phrase",
    "PlantedBadCases",
    "PlantedRow",
    "Review",
    "ReviewCorpus",
    "ShapesDataset",
    "TextRow",
    "TrainingExamples",
    "WithIds",
    "class_of",
    "example_ids",
    "hub_rows",
    "read_rows",
]


def __getattr__(name: str) -> Any:
    # The readers of text work without torch, so what needs it is loaded on demand.
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
