"""Select tokens, then predict from the selection alone."""

from lightning_interpret.mixins.rationale.mixin import RationaleMixin

__all__ = ["RationaleMixin"]
