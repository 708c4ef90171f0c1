"""torchmetrics classes over `functional/`: the numbers that are logged, reduced over processes."""

from lightning_interpret.metrics.attribution_error import AttributionError
from lightning_interpret.metrics.concepts import ConceptAccuracy, ConceptLeakage, InterventionCurve, ResidualShare
from lightning_interpret.metrics.explanation_drift import ExplanationDrift
from lightning_interpret.metrics.linear_datamodeling_score import LinearDatamodelingScore
from lightning_interpret.metrics.plausibility import IOUF1, RationaleAUPRC, SelectionRate, TokenF1
from lightning_interpret.metrics.rationale_faithfulness import Comprehensiveness, Sufficiency
from lightning_interpret.metrics.simulatability import LeakageAdjustedSimulatability

__all__ = [
    "IOUF1",
    "AttributionError",
    "Comprehensiveness",
    "ConceptAccuracy",
    "ConceptLeakage",
    "ExplanationDrift",
    "InterventionCurve",
    "LeakageAdjustedSimulatability",
    "LinearDatamodelingScore",
    "RationaleAUPRC",
    "ResidualShare",
    "SelectionRate",
    "Sufficiency",
    "TokenF1",
]
