"""Influence methods: which training examples made the model say this."""

from lightning_interpret.methods.influence.base import INFLUENCE, Fitted, InfluenceMethod, influence_named
from lightning_interpret.methods.influence.gradient_similarity import GradientSimilarity

__all__ = ["INFLUENCE", "Fitted", "GradientSimilarity", "InfluenceMethod", "influence_named"]
