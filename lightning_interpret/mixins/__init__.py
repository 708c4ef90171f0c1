"""Joint methods: one LightningModule mixin each, trained with the model."""

from lightning_interpret.mixins.concepts import ConceptBottleneckMixin
from lightning_interpret.mixins.generated import GeneratedRationaleMixin
from lightning_interpret.mixins.joint import JointMixin
from lightning_interpret.mixins.kernel import KernelMixin
from lightning_interpret.mixins.rationale import RationaleMixin
from lightning_interpret.mixins.spans import SpanExplanationMixin
from lightning_interpret.mixins.turn_over_dropout import TurnOverDropoutMixin

__all__ = [
    "ConceptBottleneckMixin",
    "GeneratedRationaleMixin",
    "JointMixin",
    "KernelMixin",
    "RationaleMixin",
    "SpanExplanationMixin",
    "TurnOverDropoutMixin",
]
