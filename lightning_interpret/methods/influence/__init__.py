"""Influence methods: which training examples made the model say this."""

from lightning_interpret.methods.influence.base import INFLUENCE, Fitted, InfluenceMethod, influence_named
from lightning_interpret.methods.influence.exact import ExactInfluence
from lightning_interpret.methods.influence.gradient_similarity import GradientSimilarity

__all__ = ["INFLUENCE", "ExactInfluence", "Fitted", "GradientSimilarity", "InfluenceMethod", "influence_named"]
