"""Examples that carry ids: readers of labelled text, the generated review corpus, generated pictures."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightning_interpret.data.files import read_rows
from lightning_interpret.data.hub import hub_rows
from lightning_interpret.data.rows import TextRow, class_of

if TYPE_CHECKING:
    from lightning_interpret.data.reviews import Phrase, Review, ReviewCorpus
    from lightning_interpret.data.shapes import ShapesDataset

__all__ = ["Phrase", "Review", "ReviewCorpus", "ShapesDataset", "TextRow", "class_of", "hub_rows", "read_rows"]


def __getattr__(name: str) -> Any:
    # The generated sets are torch Datasets; the readers work without torch, so those are loaded on demand.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = "shapes" if name == "ShapesDataset" else "reviews"
    return getattr(import_module(f"{__name__}.{room}"), name)
