"""A head that reads concepts."""

from lightning_interpret.mixins.concepts.mixin import ConceptBottleneckMixin

__all__ = ["ConceptBottleneckMixin"]
