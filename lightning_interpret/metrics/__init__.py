"""torchmetrics classes over `functional/`: the numbers that are logged, reduced over processes."""

from lightning_interpret.metrics.attribution_error import AttributionError
from lightning_interpret.metrics.best_windows import BestWindows
from lightning_interpret.metrics.comparison import Complexity, MethodAgreement, Randomisation
from lightning_interpret.metrics.concepts import ConceptAccuracy, ConceptLeakage, InterventionCurve, ResidualShare
from lightning_interpret.metrics.entity_f1 import EntityF1
from lightning_interpret.metrics.explanation_drift import ExplanationDrift
from lightning_interpret.metrics.faithfulness import (
    AreaOverPerturbationCurve,
    Comprehensiveness,
    LeaveOneOutCorrelation,
    LogOdds,
    NormalizedAreaOverPerturbationCurve,
    Sufficiency,
)
from lightning_interpret.metrics.infidelity import Infidelity, MaxSensitivity
from lightning_interpret.metrics.linear_datamodeling_score import LinearDatamodelingScore
from lightning_interpret.metrics.plausibility import IOUF1, RationaleAUPRC, SelectionRate, TokenF1
from lightning_interpret.metrics.simulatability import LeakageAdjustedSimulatability
from lightning_interpret.metrics.soft_erasure import SoftComprehensiveness, SoftSufficiency

__all__ = [
    "IOUF1",
    "AreaOverPerturbationCurve",
    "AttributionError",
    "BestWindows",
    "Complexity",
    "Comprehensiveness",
    "ConceptAccuracy",
    "ConceptLeakage",
    "EntityF1",
    "ExplanationDrift",
    "Infidelity",
    "InterventionCurve",
    "LeakageAdjustedSimulatability",
    "LeaveOneOutCorrelation",
    "LinearDatamodelingScore",
    "LogOdds",
    "MaxSensitivity",
    "MethodAgreement",
    "NormalizedAreaOverPerturbationCurve",
    "Randomisation",
    "RationaleAUPRC",
    "ResidualShare",
    "SelectionRate",
    "SoftComprehensiveness",
    "SoftSufficiency",
    "Sufficiency",
    "TokenF1",
]
