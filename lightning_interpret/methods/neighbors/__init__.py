"""Nearest neighbours: which training examples look like a query to the model."""

from lightning_interpret.methods.neighbors.calibration import Answers, Calibration, calibrate
from lightning_interpret.methods.neighbors.fitted import FittedNeighbors
from lightning_interpret.methods.neighbors.nearest import NearestNeighbors
from lightning_interpret.methods.neighbors.store import Datastore

__all__ = ["Answers", "Calibration", "Datastore", "FittedNeighbors", "NearestNeighbors", "calibrate"]
