"""Examples that carry ids: readers of labelled text, and the generated review corpus."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightning_interpret.data.files import read_rows
from lightning_interpret.data.hub import hub_rows
from lightning_interpret.data.rows import TextRow, class_of

if TYPE_CHECKING:
    from lightning_interpret.data.reviews import Phrase, Review, ReviewCorpus

__all__ = ["Phrase", "Review", "ReviewCorpus", "TextRow", "class_of", "hub_rows", "read_rows"]


def __getattr__(name: str) -> Any:
    # The corpus is a torch Dataset; the readers work without torch, so it is loaded on demand.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.reviews"), name)
