"""Shows where a model's prediction comes from, inside PyTorch Lightning.

Names are resolved on first use (PEP 562): importing the package loads neither torch nor lightning, so that a command
that needs neither, or TensorBoard looking for plugins, starts at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_interpret.bad_cases import BadCaseGroupRow, BadCaseRow, BadCasesRow
    from lightning_interpret.callbacks.attention import AttentionMonitor
    from lightning_interpret.callbacks.bad_cases import BadCaseMonitor
    from lightning_interpret.callbacks.concepts import ConceptMonitor
    from lightning_interpret.callbacks.hierarchy import HierarchyMonitor
    from lightning_interpret.callbacks.influence import InfluenceMonitor
    from lightning_interpret.callbacks.landmarks import LandmarkMonitor
    from lightning_interpret.callbacks.neighbors import NeighborMonitor
    from lightning_interpret.callbacks.rationale import RationaleMonitor
    from lightning_interpret.callbacks.saliency import SaliencyMonitor
    from lightning_interpret.callbacks.trust import TrustMonitor
    from lightning_interpret.callbacks.twin import PlainTwin
    from lightning_interpret.causes import CauseFinder
    from lightning_interpret.data.ids import WithIds
    from lightning_interpret.evidence import Influence, InfluenceRow, Landmarks, LandmarksRow, Neighbors, NeighborsRow
    from lightning_interpret.explanations import Attribution, AttributionRow
    from lightning_interpret.functional.baselines import Baseline
    from lightning_interpret.methods import (
        AttentionFlow,
        AttentionRollout,
        AttentionWeights,
        ContextualDecomposition,
        DeepLift,
        DifferenceMap,
        ExpectedGradients,
        Gradient,
        GradientAttention,
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
        ValueZeroing,
        explain,
    )
    from lightning_interpret.methods.concepts import ConceptActivationVectors, ConceptSets
    from lightning_interpret.methods.hierarchy import (
        AgglomerativeContextualDecomposition,
        Hedge,
        MaskedLanguageModel,
        SamplingAndOcclusion,
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
    from lightning_interpret.methods.perturbed import Perturbed
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
    from lightning_interpret.modules.generation_data import GenerationDataModule
    from lightning_interpret.modules.question_answerer import QuestionAnswerer
    from lightning_interpret.modules.question_data import QuestionDataModule
    from lightning_interpret.modules.simulator import Simulator, train_simulator
    from lightning_interpret.modules.tagging_data import TaggingDataModule
    from lightning_interpret.modules.text_classifier import TextClassifier
    from lightning_interpret.modules.text_data import TextDataModule
    from lightning_interpret.modules.text_generator import TextGenerator
    from lightning_interpret.modules.token_tagger import TokenTagger
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
    from lightning_interpret.records.attention import AttentionMap, AttentionMapRow
    from lightning_interpret.records.concept_test import ConceptTest, ConceptTestRow, ConceptTests
    from lightning_interpret.records.span_tree import SpanTree, SpanTreeRow
    from lightning_interpret.records.targets import TargetsRow
    from lightning_interpret.records.trust import TrustRow
    from lightning_interpret.tasks import (
        CausalGeneration,
        Classification,
        ImageClassification,
        MultiLabelClassification,
        ObjectDetection,
        QuestionAnswering,
        Regression,
        Seq2SeqGeneration,
        SequenceClassification,
        Targets,
        Task,
        TokenClassification,
    )
    from lightning_interpret.trust.attention import attention_report
    from lightning_interpret.trust.attention_replies import ComparedAttention, compare_attention, train_adversary
    from lightning_interpret.trust.attention_report import AttentionReport
    from lightning_interpret.trust.compare import compare_methods
    from lightning_interpret.trust.drill import ShortcutDrill

_ROOMS = {
    "AgglomerativeContextualDecomposition": "methods.hierarchy",
    "AttentionFlow": "methods",
    "AttentionMap": "records.attention",
    "AttentionMapRow": "records.attention",
    "AttentionMonitor": "callbacks.attention",
    "AttentionReport": "trust.attention_report",
    "AttentionRollout": "methods",
    "AttentionWeights": "methods",
    "Attribution": "explanations",
    "AttributionRow": "explanations",
    "BadCaseGroupRow": "bad_cases",
    "BadCaseMonitor": "callbacks.bad_cases",
    "BadCaseRow": "bad_cases",
    "BadCasesRow": "bad_cases",
    "Baseline": "functional.baselines",
    "CausalGeneration": "tasks",
    "CauseFinder": "causes",
    "Classification": "tasks",
    "ComparedAttention": "trust.attention_replies",
    "ConceptActivationVectors": "methods.concepts",
    "ConceptBottleneckMixin": "mixins",
    "ConceptMonitor": "callbacks.concepts",
    "ConceptSets": "methods.concepts",
    "ConceptTest": "records.concept_test",
    "ConceptTestRow": "records.concept_test",
    "ConceptTests": "records.concept_test",
    "Concepts": "rationales",
    "ConceptsRow": "rationales",
    "ConjugateGradientInfluence": "methods.influence",
    "ContextualDecomposition": "methods",
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
    "GenerationDataModule": "modules.generation_data",
    "Gradient": "methods",
    "GradientAttention": "methods",
    "GradientSimilarity": "methods.influence",
    "GradientTimesInput": "methods",
    "Hedge": "methods.hierarchy",
    "HierarchyMonitor": "callbacks.hierarchy",
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
    "MaskedLanguageModel": "methods.hierarchy",
    "MultiLabelClassification": "tasks",
    "NearestNeighbors": "methods.neighbors",
    "NeighborMonitor": "callbacks.neighbors",
    "Neighbors": "evidence",
    "NeighborsRow": "evidence",
    "ObjectDetection": "tasks",
    "Occlusion": "methods",
    "Odam": "methods",
    "Perturbed": "methods.perturbed",
    "PlainTwin": "callbacks.twin",
    "ProjectedGradients": "methods.influence",
    "QuestionAnswerer": "modules.question_answerer",
    "QuestionAnswering": "tasks",
    "QuestionDataModule": "modules.question_data",
    "Rationale": "rationales",
    "RationaleMixin": "mixins",
    "RationaleMonitor": "callbacks.rationale",
    "RationaleRow": "rationales",
    "Regression": "tasks",
    "Rerank": "methods.influence",
    "SaliencyInfluence": "methods.influence",
    "SaliencyMonitor": "callbacks.saliency",
    "SamplingAndOcclusion": "methods.hierarchy",
    "Seq2SeqGeneration": "tasks",
    "SequenceClassification": "tasks",
    "SequentialIntegratedGradients": "methods",
    "ShortcutDrill": "trust.drill",
    "Simulator": "modules.simulator",
    "SmoothGrad": "methods",
    "SpanExplanation": "rationales",
    "SpanExplanationMixin": "mixins",
    "SpanTree": "records.span_tree",
    "SpanTreeRow": "records.span_tree",
    "SpansRow": "rationales",
    "TaggingDataModule": "modules.tagging_data",
    "Targets": "tasks",
    "TargetsRow": "records.targets",
    "Task": "tasks",
    "Taylor": "methods",
    "TextClassifier": "modules.text_classifier",
    "TextDataModule": "modules.text_data",
    "TextGenerator": "modules.text_generator",
    "TokenClassification": "tasks",
    "TokenTagger": "modules.token_tagger",
    "TracIn": "methods.influence",
    "TrustMonitor": "callbacks.trust",
    "TrustRow": "records.trust",
    "TurnOverDropoutInfluence": "methods.influence",
    "TurnOverDropoutMixin": "mixins",
    "ValueZeroing": "methods",
    "WithIds": "data.ids",
    "attention_report": "trust.attention",
    "compare_attention": "trust.attention_replies",
    "compare_methods": "trust.compare",
    "explain": "methods",
    "train_adversary": "trust.attention_replies",
    "train_simulator": "modules.simulator",
}

__version__ = "0.1.0"
__all__ = [
    "AgglomerativeContextualDecomposition",
    "AttentionFlow",
    "AttentionMap",
    "AttentionMapRow",
    "AttentionMonitor",
    "AttentionReport",
    "AttentionRollout",
    "AttentionWeights",
    "Attribution",
    "AttributionRow",
    "BadCaseGroupRow",
    "BadCaseMonitor",
    "BadCaseRow",
    "BadCasesRow",
    "Baseline",
    "CausalGeneration",
    "CauseFinder",
    "Classification",
    "ComparedAttention",
    "ConceptActivationVectors",
    "ConceptBottleneckMixin",
    "ConceptMonitor",
    "ConceptSets",
    "ConceptTest",
    "ConceptTestRow",
    "ConceptTests",
    "Concepts",
    "ConceptsRow",
    "ConjugateGradientInfluence",
    "ContextualDecomposition",
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
    "GenerationDataModule",
    "Gradient",
    "GradientAttention",
    "GradientSimilarity",
    "GradientTimesInput",
    "Hedge",
    "HierarchyMonitor",
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
    "MaskedLanguageModel",
    "MultiLabelClassification",
    "NearestNeighbors",
    "NeighborMonitor",
    "Neighbors",
    "NeighborsRow",
    "ObjectDetection",
    "Occlusion",
    "Odam",
    "Perturbed",
    "PlainTwin",
    "ProjectedGradients",
    "QuestionAnswerer",
    "QuestionAnswering",
    "QuestionDataModule",
    "Rationale",
    "RationaleMixin",
    "RationaleMonitor",
    "RationaleRow",
    "Regression",
    "Rerank",
    "SaliencyInfluence",
    "SaliencyMonitor",
    "SamplingAndOcclusion",
    "Seq2SeqGeneration",
    "SequenceClassification",
    "SequentialIntegratedGradients",
    "ShortcutDrill",
    "Simulator",
    "SmoothGrad",
    "SpanExplanation",
    "SpanExplanationMixin",
    "SpanTree",
    "SpanTreeRow",
    "SpansRow",
    "TaggingDataModule",
    "Targets",
    "TargetsRow",
    "Task",
    "Taylor",
    "TextClassifier",
    "TextDataModule",
    "TextGenerator",
    "TokenClassification",
    "TokenTagger",
    "TracIn",
    "TrustMonitor",
    "TrustRow",
    "TurnOverDropoutInfluence",
    "TurnOverDropoutMixin",
    "ValueZeroing",
    "WithIds",
    "attention_report",
    "compare_attention",
    "compare_methods",
    "explain",
    "train_adversary",
    "train_simulator",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
