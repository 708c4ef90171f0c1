"""Sufficiency and comprehensiveness of probabilities that are there: what a rationale is worth to the prediction."""

from torch import Tensor

from lightning_interpret.functional.faithfulness import probability_drop
from lightning_interpret.metrics.mean_of_examples import MeanOfExamples


class Sufficiency(MeanOfExamples):
    """Mean of p(x) − p(r), r the rationale alone (DeYoung et al., 2020): near 0 or below, it is enough.

    Args:
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    higher_is_better = False

    def update(self, full: Tensor, rationale: Tensor, classes: Tensor | None = None) -> None:
        """Add examples: probabilities from the whole text and from the rationale, ``(N, C)``, of ``classes`` ``(N,)``.

        The classes are by default those predicted from the whole text.
        """
        self.add(probability_drop(full, rationale, classes))


class Comprehensiveness(MeanOfExamples):
    """Mean of p(x) − p(x ∖ r), r the rationale (DeYoung et al., 2020): high, what is left does not give the same.

    Args:
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    higher_is_better = True

    def update(self, full: Tensor, rest: Tensor, classes: Tensor | None = None) -> None:
        """Add examples as :meth:`Sufficiency.update` does, ``rest`` from what the rationale leaves."""
        self.add(probability_drop(full, rest, classes))
