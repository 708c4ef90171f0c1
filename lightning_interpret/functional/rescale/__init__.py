"""DeepLIFT's rescale rule through any model as it is: a scope in which backward passes carry multipliers, Σ m Δx = Δy.

A forward pass at x' keeps what its operations met; one at x gives each a line through the two, and a backward pass
chains their slopes. The sum is exact but for rounding. Operations are met by an :class:`operations.Meeting`.
"""

from lightning_interpret.functional.rescale.contributions import deep_lift
from lightning_interpret.functional.rescale.rules import RescaleError
from lightning_interpret.functional.rescale.scope import Rescale

__all__ = ["Rescale", "RescaleError", "deep_lift"]
