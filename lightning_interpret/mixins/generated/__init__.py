"""A language model predicts by its words and explains in its own."""

from lightning_interpret.mixins.generated.mixin import GeneratedRationaleMixin

__all__ = ["GeneratedRationaleMixin"]
