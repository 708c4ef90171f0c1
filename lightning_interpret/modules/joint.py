"""TextClassifier with joint methods, ready to be named in a configuration file; a class of one's own is as short."""

from lightning_interpret.mixins import TurnOverDropoutMixin
from lightning_interpret.modules.text_classifier import TextClassifier


class TurnOverTextClassifier(TurnOverDropoutMixin, TextClassifier):
    """A :class:`TextClassifier` trained with turn-over dropout: the options of both."""
