"""Layer-wise relevance propagation (LRP) through any model as it is: a scope in which backward passes follow its rules.

The relevance of a tensor is R = x ⊙ g, where g is the gradient taken with other local derivatives than the true ones
(the modified-gradient form). Sums, shapes and indexing then need no rule at all, and no rule divides by an activation.
Operations are met by an :class:`operations.Meeting`.
"""

from lightning_interpret.functional.relevance.ledger import Ledger
from lightning_interpret.functional.relevance.rule import Rule
from lightning_interpret.functional.relevance.scope import RelevanceError, Scope, relevance

__all__ = ["Ledger", "RelevanceError", "Rule", "Scope", "relevance"]
