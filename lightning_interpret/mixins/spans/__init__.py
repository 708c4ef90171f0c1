"""Weigh all spans of the text; the weights are the explanation."""

from lightning_interpret.mixins.spans.mixin import SpanExplanationMixin

__all__ = ["SpanExplanationMixin"]
