"""The method classes a user names: options and one call on (module, batch, task) that returns a record."""

from lightning_interpret.methods.attention import (
    AttentionFlow,
    AttentionRollout,
    AttentionWeights,
    GradientAttention,
    ValueZeroing,
)
from lightning_interpret.methods.base import METHODS, Method
from lightning_interpret.methods.deep_lift import DeepLift
from lightning_interpret.methods.difference_map import DifferenceMap
from lightning_interpret.methods.expected_gradients import ExpectedGradients
from lightning_interpret.methods.explain import explain
from lightning_interpret.methods.gradient import Gradient, GradientTimesInput
from lightning_interpret.methods.hierarchy.contextual import ContextualDecomposition
from lightning_interpret.methods.integrated_gradients import IntegratedGradients
from lightning_interpret.methods.landmarks import LandmarkRelevance
from lightning_interpret.methods.layer_cam import LayerCam
from lightning_interpret.methods.layerwise_relevance import LayerwiseRelevance
from lightning_interpret.methods.occlusion import Occlusion
from lightning_interpret.methods.odam import Odam
from lightning_interpret.methods.sequential_integrated_gradients import SequentialIntegratedGradients
from lightning_interpret.methods.smooth_grad import SmoothGrad
from lightning_interpret.methods.surrogate import KernelShap, Lime
from lightning_interpret.methods.taylor import Taylor
from lightning_interpret.names import choose

__all__ = [
    "METHODS",
    "AttentionFlow",
    "AttentionRollout",
    "AttentionWeights",
    "ContextualDecomposition",
    "DeepLift",
    "DifferenceMap",
    "ExpectedGradients",
    "Gradient",
    "GradientAttention",
    "GradientTimesInput",
    "IntegratedGradients",
    "KernelShap",
    "LandmarkRelevance",
    "LayerCam",
    "LayerwiseRelevance",
    "Lime",
    "Method",
    "Occlusion",
    "Odam",
    "SequentialIntegratedGradients",
    "SmoothGrad",
    "Taylor",
    "ValueZeroing",
    "explain",
    "method_named",
]


def method_named(method: str | Method) -> Method:
    """Return a method, by its name with default options, or as it is.

    Raises:
        ValueError: If there is no method of this name; the near ones are named.
    """
    return method if isinstance(method, Method) else METHODS[choose("method", method, METHODS)]()
