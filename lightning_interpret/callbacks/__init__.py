"""One Monitor a post-hoc family, and the context in which they run."""

from lightning_interpret.callbacks.evidence import EvidenceMonitor
from lightning_interpret.callbacks.influence import InfluenceMonitor
from lightning_interpret.callbacks.monitor import Monitor
from lightning_interpret.callbacks.neighbors import NeighborMonitor
from lightning_interpret.callbacks.saliency import SaliencyMonitor

__all__ = ["EvidenceMonitor", "InfluenceMonitor", "Monitor", "NeighborMonitor", "SaliencyMonitor"]
