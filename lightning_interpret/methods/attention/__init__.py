"""Methods that read a model's attention: the weights themselves, and what is made of those of several layers."""

from lightning_interpret.methods.attention.base import AttentionMethod
from lightning_interpret.methods.attention.gradient_attention import GradientAttention
from lightning_interpret.methods.attention.maps import attention_maps
from lightning_interpret.methods.attention.rollout import AttentionFlow, AttentionRollout
from lightning_interpret.methods.attention.value_zeroing import ValueZeroing
from lightning_interpret.methods.attention.weights import AttentionWeights

__all__ = [
    "AttentionFlow",
    "AttentionMethod",
    "AttentionRollout",
    "AttentionWeights",
    "GradientAttention",
    "ValueZeroing",
    "attention_maps",
]
