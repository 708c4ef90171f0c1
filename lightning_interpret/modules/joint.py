"""TextClassifier with joint methods, ready to be named in a configuration file; a class of one's own is as short."""

from lightning_interpret.mixins import (
    ConceptBottleneckMixin,
    KernelMixin,
    RationaleMixin,
    SpanExplanationMixin,
    TurnOverDropoutMixin,
)
from lightning_interpret.modules.text_classifier import TextClassifier


class TurnOverTextClassifier(TurnOverDropoutMixin, TextClassifier):
    """A :class:`TextClassifier` trained with turn-over dropout: the options of both."""


class KernelTextClassifier(KernelMixin, TextClassifier):
    """A :class:`TextClassifier` whose head sees similarities to training examples: the options of both."""


class SpanTextClassifier(SpanExplanationMixin, TextClassifier):
    """A :class:`TextClassifier` that predicts from weighed spans of the text: the options of both."""


class ConceptTextClassifier(ConceptBottleneckMixin, TextClassifier):
    """A :class:`TextClassifier` whose head reads concepts: the options of both."""


class TurnOverKernelTextClassifier(TurnOverDropoutMixin, KernelMixin, TextClassifier):
    """A :class:`TextClassifier` with both: turn-over dropout, and a kernel layer before the head."""


class RationaleTextClassifier(RationaleMixin, TextClassifier):
    """A :class:`TextClassifier` that selects tokens and predicts from these alone: the options of both."""
