"""Influence methods: which training examples made the model say this."""

from lightning_interpret.methods.influence.base import INFLUENCE, Fitted, InfluenceMethod, influence_named
from lightning_interpret.methods.influence.conjugate_gradient import ConjugateGradientInfluence
from lightning_interpret.methods.influence.ekfac import EkfacInfluence
from lightning_interpret.methods.influence.exact import ExactInfluence
from lightning_interpret.methods.influence.feature_similarity import FeatureSimilarity
from lightning_interpret.methods.influence.gradient_similarity import GradientSimilarity
from lightning_interpret.methods.influence.lissa import LissaInfluence
from lightning_interpret.methods.influence.projected_gradients import ProjectedGradients
from lightning_interpret.methods.influence.rerank import Rerank
from lightning_interpret.methods.influence.saliency_influence import SaliencyInfluence
from lightning_interpret.methods.influence.tracin import TracIn
from lightning_interpret.methods.influence.turn_over_dropout import TurnOverDropoutInfluence

__all__ = [
    "INFLUENCE",
    "ConjugateGradientInfluence",
    "EkfacInfluence",
    "ExactInfluence",
    "FeatureSimilarity",
    "Fitted",
    "GradientSimilarity",
    "InfluenceMethod",
    "LissaInfluence",
    "ProjectedGradients",
    "Rerank",
    "SaliencyInfluence",
    "TracIn",
    "TurnOverDropoutInfluence",
    "influence_named",
]
