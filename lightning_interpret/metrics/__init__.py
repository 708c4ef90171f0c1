"""torchmetrics classes over `functional/`: the numbers that are logged, reduced over processes."""

from lightning_interpret.metrics.attribution_error import AttributionError
from lightning_interpret.metrics.concepts import ConceptAccuracy, ConceptLeakage, InterventionCurve, ResidualShare
from lightning_interpret.metrics.explanation_drift import ExplanationDrift
from lightning_interpret.metrics.linear_datamodeling_score import LinearDatamodelingScore

__all__ = [
    "AttributionError",
    "ConceptAccuracy",
    "ConceptLeakage",
    "ExplanationDrift",
    "InterventionCurve",
    "LinearDatamodelingScore",
    "ResidualShare",
]
