"""Shows where a model's prediction comes from, inside PyTorch Lightning.

Names are resolved on first use (PEP 562): importing the package loads neither torch nor lightning, so that a command
that needs neither, or TensorBoard looking for plugins, starts at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_interpret.callbacks.influence import InfluenceMonitor
    from lightning_interpret.callbacks.landmarks import LandmarkMonitor
    from lightning_interpret.callbacks.neighbors import NeighborMonitor
    from lightning_interpret.callbacks.rationale import RationaleMonitor
    from lightning_interpret.callbacks.saliency import SaliencyMonitor
    from lightning_interpret.callbacks.twin import PlainTwin
    from lightning_interpret.data.ids import WithIds
    from lightning_interpret.evidence import Influence, InfluenceRow, Landmarks, LandmarksRow, Neighbors, NeighborsRow
    from lightning_interpret.explanations import Attribution, AttributionRow
    from lightning_interpret.functional.baselines import Baseline
    from lightning_interpret.methods import (
        DeepLift,
        DifferenceMap,
        ExpectedGradients,
        Gradient,
        GradientTimesInput,
        IntegratedGradients,
        KernelShap,
        LandmarkRelevance,
        LayerCam,
        LayerwiseRelevance,
        Lime,
        Occlusion,
        Odam,
        SequentialIntegratedGradients,
        SmoothGrad,
        Taylor,
        explain,
    )
    from lightning_interpret.methods.influence import (
        ConjugateGradientInfluence,
        EkfacInfluence,
        ExactInfluence,
        FeatureSimilarity,
        GradientSimilarity,
        LissaInfluence,
        ProjectedGradients,
        Rerank,
        SaliencyInfluence,
        TracIn,
        TurnOverDropoutInfluence,
    )
    from lightning_interpret.methods.neighbors import NearestNeighbors
    from lightning_interpret.mixins import (
        ConceptBottleneckMixin,
        GeneratedRationaleMixin,
        JointMixin,
        KernelMixin,
        RationaleMixin,
        SpanExplanationMixin,
        TurnOverDropoutMixin,
    )
    from lightning_interpret.modules.generated import GeneratedTextClassifier
    from lightning_interpret.modules.simulator import Simulator, train_simulator
    from lightning_interpret.modules.text_classifier import TextClassifier
    from lightning_interpret.modules.text_data import TextDataModule
    from lightning_interpret.rationales import (
        Concepts,
        ConceptsRow,
        GeneratedRationale,
        GeneratedRow,
        Rationale,
        RationaleRow,
        SpanExplanation,
        SpansRow,
    )
    from lightning_interpret.tasks import (
        Classification,
        ImageClassification,
        ObjectDetection,
        SequenceClassification,
        Targets,
        Task,
    )

_ROOMS = {
    "Attribution": "explanations",
    "AttributionRow": "explanations",
    "Baseline": "functional.baselines",
    "Classification": "tasks",
    "ConceptBottleneckMixin": "mixins",
    "Concepts": "rationales",
    "ConceptsRow": "rationales",
    "ConjugateGradientInfluence": "methods.influence",
    "DeepLift": "methods",
    "DifferenceMap": "methods",
    "EkfacInfluence": "methods.influence",
    "ExactInfluence": "methods.influence",
    "ExpectedGradients": "methods",
    "FeatureSimilarity": "methods.influence",
    "GeneratedRationale": "rationales",
    "GeneratedRationaleMixin": "mixins",
    "GeneratedRow": "rationales",
    "GeneratedTextClassifier": "modules.generated",
    "Gradient": "methods",
    "GradientSimilarity": "methods.influence",
    "GradientTimesInput": "methods",
    "ImageClassification": "tasks",
    "Influence": "evidence",
    "InfluenceMonitor": "callbacks.influence",
    "InfluenceRow": "evidence",
    "IntegratedGradients": "methods",
    "JointMixin": "mixins",
    "KernelMixin": "mixins",
    "KernelShap": "methods",
    "LandmarkMonitor": "callbacks.landmarks",
    "LandmarkRelevance": "methods",
    "Landmarks": "evidence",
    "LandmarksRow": "evidence",
    "LayerCam": "methods",
    "LayerwiseRelevance": "methods",
    "Lime": "methods",
    "LissaInfluence": "methods.influence",
    "NearestNeighbors": "methods.neighbors",
    "NeighborMonitor": "callbacks.neighbors",
    "Neighbors": "evidence",
    "NeighborsRow": "evidence",
    "ObjectDetection": "tasks",
    "Occlusion": "methods",
    "Odam": "methods",
    "PlainTwin": "callbacks.twin",
    "ProjectedGradients": "methods.influence",
    "Rationale": "rationales",
    "RationaleMixin": "mixins",
    "RationaleMonitor": "callbacks.rationale",
    "RationaleRow": "rationales",
    "Rerank": "methods.influence",
    "SaliencyInfluence": "methods.influence",
    "SaliencyMonitor": "callbacks.saliency",
    "SequenceClassification": "tasks",
    "SequentialIntegratedGradients": "methods",
    "Simulator": "modules.simulator",
    "SmoothGrad": "methods",
    "SpanExplanation": "rationales",
    "SpanExplanationMixin": "mixins",
    "SpansRow": "rationales",
    "Targets": "tasks",
    "Task": "tasks",
    "Taylor": "methods",
    "TextClassifier": "modules.text_classifier",
    "TextDataModule": "modules.text_data",
    "TracIn": "methods.influence",
    "TurnOverDropoutInfluence": "methods.influence",
    "TurnOverDropoutMixin": "mixins",
    "WithIds": "data.ids",
    "explain": "methods",
    "train_simulator": "modules.simulator",
}

__version__ = "0.1.0"
__all__ = [
    "Attribution",
    "AttributionRow",
    "Baseline",
    "Classification",
    "ConceptBottleneckMixin",
    "Concepts",
    "ConceptsRow",
    "ConjugateGradientInfluence",
    "DeepLift",
    "DifferenceMap",
    "EkfacInfluence",
    "ExactInfluence",
    "ExpectedGradients",
    "FeatureSimilarity",
    "GeneratedRationale",
    "GeneratedRationaleMixin",
    "GeneratedRow",
    "GeneratedTextClassifier",
    "Gradient",
    "GradientSimilarity",
    "GradientTimesInput",
    "ImageClassification",
    "Influence",
    "InfluenceMonitor",
    "InfluenceRow",
    "IntegratedGradients",
    "JointMixin",
    "KernelMixin",
    "KernelShap",
    "LandmarkMonitor",
    "LandmarkRelevance",
    "Landmarks",
    "LandmarksRow",
    "LayerCam",
    "LayerwiseRelevance",
    "Lime",
    "LissaInfluence",
    "NearestNeighbors",
    "NeighborMonitor",
    "Neighbors",
    "NeighborsRow",
    "ObjectDetection",
    "Occlusion",
    "Odam",
    "PlainTwin",
    "ProjectedGradients",
    "Rationale",
    "RationaleMixin",
    "RationaleMonitor",
    "RationaleRow",
    "Rerank",
    "SaliencyInfluence",
    "SaliencyMonitor",
    "SequenceClassification",
    "SequentialIntegratedGradients",
    "Simulator",
    "SmoothGrad",
    "SpanExplanation",
    "SpanExplanationMixin",
    "SpansRow",
    "Targets",
    "Task",
    "Taylor",
    "TextClassifier",
    "TextDataModule",
    "TracIn",
    "TurnOverDropoutInfluence",
    "TurnOverDropoutMixin",
    "WithIds",
    "explain",
    "train_simulator",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
