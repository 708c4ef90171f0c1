"""Hierarchical explanations: trees of spans, divided from the top or put together from below."""

from lightning_interpret.methods.hierarchy.base import HIERARCHICAL, HierarchicalMethod, hierarchical_named
from lightning_interpret.methods.hierarchy.contextual import (
    AgglomerativeContextualDecomposition,
    ContextualDecomposition,
)
from lightning_interpret.methods.hierarchy.hedge import Hedge
from lightning_interpret.methods.hierarchy.language_model import MaskedLanguageModel
from lightning_interpret.methods.hierarchy.sampling import SamplingAndOcclusion

__all__ = [
    "HIERARCHICAL",
    "AgglomerativeContextualDecomposition",
    "ContextualDecomposition",
    "Hedge",
    "HierarchicalMethod",
    "MaskedLanguageModel",
    "SamplingAndOcclusion",
    "hierarchical_named",
]
