"""Faithfulness by erasure: what a prediction loses without what an explanation names, and with that alone.

All are marginal effects and have a ``control`` of random orders beside them. Each asks the model by
``kept(masks, rows)``, which returns the probability of the class predicted at x with the units of bool ``masks``
``(M, T)`` present, of examples ``rows`` ``(M,)`` of the batch, as
:class:`~lightning_interpret.methods.perturbed.Perturbed` makes it of any module.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_interpret.functional import faithfulness
from lightning_interpret.functional.agreement import CORRELATIONS, correlation
from lightning_interpret.functional.aopc import MOST_UNITS, aopc, aopc_limits, normalized_aopc
from lightning_interpret.functional.erasure import BINS, Kept, sizes
from lightning_interpret.functional.faithfulness import leave_one_out, log_odds, probability_drop
from lightning_interpret.metrics.marginal_effect import MarginalEffect, apart
from lightning_interpret.names import check_whole, choose


class _Drop(MarginalEffect):
    """Comprehensiveness or sufficiency: of probabilities that are there, or over bins from scores."""

    measure: ClassVar[Callable[..., Tensor]]

    def __init__(self, bins: Sequence[int] | None = None, **kwargs: Any) -> None:
        if bins is None and kwargs.setdefault("control_orders", 0):
            raise ValueError(
                f"`control_orders={kwargs['control_orders']!r}`: without `bins` probabilities are given, and no order."
            )
        super().__init__(1 if bins is None else len(bins), **kwargs)
        self.bins = None if bins is None else _checked(bins)
        apart(self, bins=self.bins)

    def given(self, full: Tensor, other: Tensor, classes: Any) -> None:
        """Add examples in either form."""
        if callable(classes) == (self.bins is None):
            asked = "classes, or nothing, comes" if self.bins is None else "`kept`, the model to be asked, comes"
            raise ValueError(
                f"`bins={self.bins!r}`: {asked} after the first two, but {type(classes).__name__} is given. With bins "
                "the three are scores, counts and `kept`; without, probabilities of both texts and maybe classes."
            )
        if self.bins is not None:
            self.add_ranked(full, other, classes)
        else:
            self.add_parts(probability_drop(full, other, classes)[:, None])

    def values(self, rankings: Tensor, counts: Tensor, model: Kept) -> Tensor:
        """Return the drop of each bin."""
        return type(self).measure(rankings, counts, model, bins=self.bins, chunk=self.chunk)


class Sufficiency(_Drop):
    """Mean of p(x) − p(r), r the rationale alone (DeYoung et al., 2020): near 0 or below, it is enough.

    Either of probabilities that are there, as a model gives them that selects; or, with ``bins``, of scores: the mean
    over the bins, which is the area over the curve, ``curve()`` the mean of each, and ``control`` of random orders.

    Args:
        bins: Shares of the units, whole percent, such as :data:`~lightning_interpret.functional.erasure.BINS`; None for
            given probabilities, where nothing is ranked and there is no control.
        kwargs: ``control_orders``, ``seed`` and ``chunk`` of :class:`~.marginal_effect.MarginalEffect`; the rest is
            passed on to :class:`torchmetrics.Metric`.
    """

    higher_is_better = False
    measure = faithfulness.sufficiency

    def update(self, full: Tensor, rationale: Tensor, classes: Tensor | Kept | None = None) -> None:
        """Add examples: probabilities from the whole text and from the rationale, ``(N, C)``, of ``classes`` ``(N,)``.

        The classes are by default those predicted from the whole text. With bins the three are, in this order, scores
        ``(N, T)``, the units that count, bool ``(N, T)``, and ``kept``.

        Raises:
            ValueError: If it is the other form's, or shapes differ.
        """
        self.given(full, rationale, classes)


class Comprehensiveness(_Drop):
    """Mean of p(x) − p(x ∖ r), r the rationale (DeYoung et al., 2020): high, what is left does not give the same.

    Both forms and all arguments are those of :class:`Sufficiency`.
    """

    higher_is_better = True
    measure = faithfulness.comprehensiveness

    def update(self, full: Tensor, rest: Tensor, classes: Tensor | Kept | None = None) -> None:
        """Add examples as :meth:`Sufficiency.update` does, ``rest`` from what the rationale leaves."""
        self.given(full, rest, classes)


class AreaOverPerturbationCurve(MarginalEffect):
    """AOPC: the mean over bins of comprehensiveness or sufficiency (DeYoung et al., 2020).

    Args:
        bins: Shares of the units, whole percent.
        sufficient: Whether it is that of sufficiency, of which low is good, and not of comprehensiveness.
        paper: Whether to divide by the number of bins plus one, as ERASER's paper has it; its code does not.
        kwargs: As :class:`Sufficiency`'s.
    """

    def __init__(
        self, bins: Sequence[int] = BINS, sufficient: bool = False, paper: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.bins, self.sufficient, self.paper = _checked(bins), sufficient, paper
        apart(self, bins=self.bins, sufficient=sufficient, paper=paper)

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """Whether more is better: not of sufficiency."""
        return not self.sufficient

    def values(self, rankings: Tensor, counts: Tensor, model: Kept) -> Tensor:
        """Return the area of each ranking."""
        measure = faithfulness.sufficiency if self.sufficient else faithfulness.comprehensiveness
        return aopc(measure(rankings, counts, model, bins=self.bins, chunk=self.chunk), paper=self.paper)


class NormalizedAreaOverPerturbationCurve(MarginalEffect):
    """NAOPC: where AOPC lies between the least and the most that any order reaches, 0 and 1 (Edin et al., 2025).

    The limits are exact up to 14 units, at the price of some thousand masks a text. Longer texts are left out, or with
    a ``beam`` measured between limits that are searched, and may lie further out.

    Args:
        bins: Shares of the units, whole percent.
        sufficient: Whether it is that of sufficiency, of which low is good, and not of comprehensiveness.
        beam: Sets of each size from which the search goes on; None for no search.
        kwargs: As :class:`Sufficiency`'s.
    """

    nothing = (
        "a score or an answer of the model is not finite, no order matters, or there are no units or, without a "
        f"`beam`, more than {MOST_UNITS}"
    )

    def __init__(
        self, bins: Sequence[int] = BINS, sufficient: bool = False, beam: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_whole(beam=1 if beam is None else beam)
        self.bins, self.sufficient, self.beam = _checked(bins), sufficient, beam
        apart(self, bins=self.bins, sufficient=sufficient, beam=beam)

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """Whether more is better: not of sufficiency."""
        return not self.sufficient

    def values(self, rankings: Tensor, counts: Tensor, model: Kept) -> Tensor:
        """Return the normalised area of each ranking, NaN on rows of which no limits are known."""
        many = counts.sum(dim=1)
        rows = ((many > 0) & ((many <= MOST_UNITS) | (self.beam is not None))).nonzero().flatten()
        found = rankings.new_full(rankings.shape[:2], torch.nan)
        if not len(rows):
            return found
        some, bins, chunk = counts[rows], self.bins, self.chunk

        def of(masks: Tensor, each: Tensor) -> Tensor:
            return model(masks, rows[each])

        measure = faithfulness.sufficiency if self.sufficient else faithfulness.comprehensiveness
        areas = aopc(measure(rankings[:, rows], some, of, bins=bins, chunk=chunk)).double()
        limits = aopc_limits(some, of, bins=bins, sufficient=self.sufficient, beam=self.beam, chunk=chunk)
        found[:, rows] = normalized_aopc(areas, *limits).to(found)
        return found


class LogOdds(MarginalEffect):
    """Mean of log p(x) − log p(x ∖ r), r the highest ``share`` percent of the units: high is good.

    It is the log-odds score of Chen et al. (2020, HEDGE) with the other sign.

    Args:
        share: Share of the units, whole percent.
        kwargs: As :class:`Sufficiency`'s.
    """

    higher_is_better = True

    def __init__(self, share: int = 20, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        (self.share,) = _checked([share])
        apart(self, share=share)

    def values(self, rankings: Tensor, counts: Tensor, model: Kept) -> Tensor:
        """Return the drop of each ranking."""
        return log_odds(rankings, counts, model, share=self.share, chunk=self.chunk)


class LeaveOneOutCorrelation(MarginalEffect):
    """Mean correlation of the scores with what the prediction loses without each unit (Jain and Wallace, 2019).

    Texts of one unit, and those on which the scores or the losses are all the same, are left out.

    Args:
        kind: ``kendall`` (τ-b), ``spearman``, ``pearson`` or ``cosine``; of signed scores.
        kwargs: As :class:`Sufficiency`'s.
    """

    higher_is_better = True
    nothing = (
        "there are fewer than two units, the scores or the losses are all the same, or a score or an answer of the "
        "model is not finite"
    )

    def __init__(self, kind: str = "kendall", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kind = choose("kind", kind, CORRELATIONS)
        apart(self, kind=kind)

    def values(self, rankings: Tensor, counts: Tensor, model: Kept) -> Tensor:
        """Return the correlation of each ranking; each unit is left out once for all of them."""
        lost, orders = leave_one_out(counts, model, chunk=self.chunk), len(rankings)
        found = correlation(rankings.flatten(0, 1), lost.repeat(orders, 1), counts.repeat(orders, 1), self.kind)
        return found.view(orders, -1)


def _checked(bins: Sequence[int]) -> tuple[int, ...]:
    sizes(torch.ones(1, 1, dtype=torch.bool), bins)
    return tuple(bins)
