"""Agreement of rationales with people's, and how much of a text is selected."""

from typing import Any, Literal

import torch
from torch import Tensor

from lightning_interpret.functional.plausibility import (
    EMPTY,
    auprc,
    check_threshold,
    f1,
    overlap,
    selection_rate,
    span_matches,
    token_f1,
)
from lightning_interpret.metrics.full_precision import FullPrecisionMetric
from lightning_interpret.metrics.mean_of_examples import NONE_GIVEN, MeanOfExamples, keep_apart, say_why
from lightning_interpret.names import choose


class TokenF1(MeanOfExamples):
    """F1 of the tokens that the model selected with those that people did (DeYoung et al., 2020; ERASER).

    Args:
        average: ``"macro"`` for the mean of the examples' F1, which ERASER reports; ``"micro"`` for F1 of all tokens.
        empty: Where people selected nothing: ``"zero"`` for 0 where the model selected something, as ERASER's code,
            ``"skip"`` to leave it out, as where such examples have no rationale to find. Nothing on both sides is left
            out always; ``"micro"`` counts what the model selected there or, with ``"skip"``, does not.
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    higher_is_better = True
    nothing = "no token is selected by anybody, or none by people and those are left out"
    both: Tensor
    chosen: Tensor

    def __init__(
        self,
        average: Literal["macro", "micro"] = "macro",
        empty: Literal["zero", "skip"] = "zero",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.average, self.empty = choose("average", average, ("macro", "micro")), choose("empty", empty, EMPTY)
        for name in ("both", "chosen"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")
        keep_apart(self, empty=empty)

    def update(self, selected: Tensor, gold: Tensor, counts: Tensor) -> None:
        """Add examples: what the model selected, what people did, and which tokens count, all bool ``(N, T)``."""
        self.add(token_f1(selected, gold, counts, empty=self.empty))
        both, predicted, true = overlap(selected, gold, counts)
        kept = (true > 0) | (self.empty == "zero")
        self.both += both.sum()
        self.chosen += ((predicted + true) * kept).sum()

    def compute(self) -> Tensor:
        """Return F1, NaN without examples."""
        mean = super().compute()
        return mean if self.average == "macro" else 2 * self.both.double() / self.chosen


class IOUF1(FullPrecisionMetric):
    """F1 of the spans that the model selected with those that people did, by intersection over union (ERASER).

    Args:
        threshold: Intersection over union from which a span matches.
        average: ``"macro"`` for F1 of the mean precision (of examples where the model selected something) and the mean
            recall (of examples where people did), as ERASER's code; ``"micro"`` for F1 of all spans; ``"example"`` for
            the mean of the examples' F1.
        strict: Whether a span matches above the threshold only, as ERASER's paper says and its code does not.
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    higher_is_better = True
    full_state_update = False
    sums: Tensor

    def __init__(
        self,
        threshold: float = 0.5,
        average: Literal["macro", "micro", "example"] = "macro",
        strict: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_threshold(threshold)
        self.threshold, self.strict = threshold, strict
        self.average = choose("average", average, ("macro", "micro", "example"))
        self.add_state("sums", torch.zeros(3, 2, dtype=torch.float64), dist_reduce_fx="sum")
        keep_apart(self, threshold=threshold, average=average, strict=strict)

    def update(self, selected: Tensor, gold: Tensor, counts: Tensor) -> None:
        """Add examples: what the model selected, what people did, and which tokens count, all bool ``(N, T)``."""
        matches, spans, true = span_matches(selected, gold, counts, threshold=self.threshold, strict=self.strict)
        if self.average == "example":
            known = (spans + true) > 0
            sums = torch.stack([f1(matches, spans, true)[known].sum(), known.sum()])[None]
        else:
            each = self.average == "macro"
            sums = torch.stack([_parts(matches, spans, each), _parts(matches, true, each)])
        self.sums[: len(sums)] += sums.to(self.sums)

    def compute(self) -> Tensor:
        """Return F1, NaN without a span on either side."""
        if self.update_called:
            say_why(self)
        shares = self.sums[:, 0] / self.sums[:, 1]
        if self.average == "example":
            return shares[0]
        precision, recall = shares[:2].nan_to_num()  # no span on one side is no match
        known = bool(self.sums[:2, 1].any())
        return 2 * precision * recall / (precision + recall).clamp(min=1e-300) if known else shares[0]

    @property
    def reason(self) -> str | None:
        """Why F1 is NaN, by what this process was given; None where it is a number."""
        if bool(self.sums[:, 1].any()):
            return None
        return "there is no span on either side" if self.update_called else NONE_GIVEN


def _parts(matches: Tensor, of: Tensor, each: bool) -> Tensor:
    """Return a numerator and a denominator: of all spans, or over the examples that have one."""
    if not each:
        return torch.stack([matches.sum(), of.sum()])
    known = of > 0
    return torch.stack([(matches[known].double() / of[known]).sum(), known.sum().double()])


class RationaleAUPRC(MeanOfExamples):
    """Mean area under the precision-recall curve of the tokens by their scores (DeYoung et al., 2020; ERASER).

    Examples of which people selected nothing have no recall, and are left out.

    Args:
        step: Whether to take the average precision in place of ERASER's trapezoids.
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    higher_is_better = True
    nothing = "people selected nothing, or a score is no number"

    def __init__(self, step: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = step
        keep_apart(self, step=step)

    def update(self, scores: Tensor, gold: Tensor, counts: Tensor) -> None:
        """Add examples: scores ``(N, T)``, what people selected and which tokens count, bool ``(N, T)``."""
        self.add(auprc(scores, gold, counts, step=self.step))


class SelectionRate(MeanOfExamples):
    """Mean share of the tokens that count which are selected.

    Args:
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    nothing = "no token counts"

    def update(self, selected: Tensor, counts: Tensor) -> None:
        """Add examples: what the model selected, and which tokens count, bool ``(N, T)``."""
        self.add(selection_rate(selected, counts))
