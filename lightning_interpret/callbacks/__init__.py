"""One Monitor a post-hoc family, and what measures a joint method's cost."""

from lightning_interpret.callbacks.attention import AttentionMonitor
from lightning_interpret.callbacks.concepts import ConceptMonitor
from lightning_interpret.callbacks.evidence import EvidenceMonitor
from lightning_interpret.callbacks.hierarchy import HierarchyMonitor
from lightning_interpret.callbacks.influence import InfluenceMonitor
from lightning_interpret.callbacks.landmarks import LandmarkMonitor
from lightning_interpret.callbacks.monitor import Monitor
from lightning_interpret.callbacks.neighbors import NeighborMonitor
from lightning_interpret.callbacks.rationale import RationaleMonitor
from lightning_interpret.callbacks.saliency import SaliencyMonitor
from lightning_interpret.callbacks.trust import TrustMonitor
from lightning_interpret.callbacks.twin import PlainTwin

__all__ = [
    "AttentionMonitor",
    "ConceptMonitor",
    "EvidenceMonitor",
    "HierarchyMonitor",
    "InfluenceMonitor",
    "LandmarkMonitor",
    "Monitor",
    "NeighborMonitor",
    "PlainTwin",
    "RationaleMonitor",
    "SaliencyMonitor",
    "TrustMonitor",
]
