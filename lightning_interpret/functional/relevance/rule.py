"""The rules of layer-wise relevance propagation, by name and by their numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from lightning_interpret.names import choose

LINEAR = ("epsilon", "gamma", "alpha1_beta0", "identity")
ATTENTION = ("gradient", "constant", "refused")
BIAS = ("absorb", "share")


@dataclass(frozen=True)
class Rule:
    """What is done at the linear layers and at the softmax of attention; all else is the same in every rule.

    Args:
        linear: With z_ij = x_i·w_ij, y_j = Σ_i z_ij + b_j and R_j the relevance of y_j:
            ``epsilon`` R_i = Σ_j z_ij / (y_j + ε·sign y_j) · R_j (Bach et al., 2015, equation 58);
            ``gamma`` with z_ij + γ·z_ij⁺ in the place of z_ij where y_j > 0, and z_ij + γ·z_ij⁻ where y_j < 0
            (Montavon et al., 2019, generalised to inputs of either sign);
            ``alpha1_beta0`` with z_ij⁺ (Bach et al., 2015, equation 60; the z⁺ rule);
            ``identity`` R_i = R_i, for a layer whose output has the shape of its input.
        attention: ``gradient``: R_i = x_i·(R_i − s_i·Σ R) through s = softmax(x) (AttnLRP: Achtibat et al.,
            2024); ``constant``: all relevance to the values (CP-LRP: Ali et al., 2022); ``refused``.
        epsilon: ε of all linear rules; 0, the default, is LRP-0 (in the modified-gradient form nothing is
            divided by an input, so that it needs none). A larger one takes more from what is next to 0.
        gamma: γ of ``gamma``.
        bias: ``absorb``: a bias keeps its share of the relevance, and the stabiliser ε too; ``share``: both are given
            in equal parts to the inputs that are not zero (Arras et al., 2017, with their bias factor 1).

    Raises:
        ValueError: If a name does not exist or a number is negative.
    """

    linear: str = "epsilon"
    attention: str = "refused"
    epsilon: float = 0.0
    gamma: float = 0.0
    bias: str = "absorb"

    def __post_init__(self) -> None:
        choose("linear", self.linear, LINEAR)
        choose("attention", self.attention, ATTENTION)
        choose("bias", self.bias, BIAS)
        for name in ("epsilon", "gamma"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}={getattr(self, name)!r}` must be 0 or more.")

    @classmethod
    def named(cls, rule: str, *, epsilon: float = 0.0, gamma: float | None = None, bias: str = "absorb") -> Self:
        """Return the rule of a name: one of :data:`RULES`.

        Args:
            rule: ``attn_lrp`` or ``cp_lrp`` for transformers; ``epsilon``, ``gamma``, ``alpha1_beta0`` or ``identity``
                for nets without attention.
            epsilon: ε.
            gamma: γ; 0.25 for ``gamma``. With ``attn_lrp`` or ``cp_lrp`` their linear layers follow the γ rule.
            bias: ``absorb`` or ``share``.

        Raises:
            ValueError: If a name does not exist, or γ is given to a rule that has none.
        """
        found = RULES[choose("rule", rule, RULES)]
        if gamma is None:
            gamma = 0.25 if found.linear == "gamma" else 0.0
        elif found.linear in ("alpha1_beta0", "identity") or rule == "epsilon":
            raise ValueError(f"`gamma={gamma!r}` has no meaning with rule={rule!r}: use rule='gamma', or leave it out.")
        linear = "gamma" if gamma > 0 else found.linear
        return replace(found, linear=linear, epsilon=epsilon, gamma=gamma, bias=bias)  # type: ignore[return-value]


RULES = {
    "attn_lrp": Rule("epsilon", "gradient"),
    "cp_lrp": Rule("epsilon", "constant"),
    "epsilon": Rule("epsilon"),
    "gamma": Rule("gamma"),
    "alpha1_beta0": Rule("alpha1_beta0"),
    "identity": Rule("identity"),
}
