"""Concepts as directions in the features of a layer: examples of them, their vectors, and what they are worth."""

from lightning_interpret.methods.concepts.fitted import FittedConcepts
from lightning_interpret.methods.concepts.sets import ConceptSets
from lightning_interpret.methods.concepts.vectors import ConceptActivationVectors

__all__ = ["ConceptActivationVectors", "ConceptSets", "FittedConcepts"]
