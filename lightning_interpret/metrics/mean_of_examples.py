"""What metrics share that are a mean over examples."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import rank_zero_warn

from lightning_interpret.metrics.full_precision import FullPrecisionMetric

NONE_GIVEN = "no example was given"


class MeanOfExamples(FullPrecisionMetric):
    """A mean over examples, those that are NaN left out; of several processes it is that over all their examples.

    Args:
        dtype: What it is added up in.
        kwargs: Passed on to :class:`torchmetrics.Metric`.

    Attributes:
        total: Sum over the examples that have a number.
        count: How many those are.
        left_out: How many have none.
    """

    full_state_update = False
    #: Why an example has no number.
    nothing: ClassVar[str] = "there is nothing to compare"
    total: Tensor
    count: Tensor
    left_out: Tensor

    def __init__(self, dtype: torch.dtype = torch.float64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.tensor(0.0, dtype=dtype), dist_reduce_fx="sum")
        for name in ("count", "left_out"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")
        keep_apart(self)

    def add(self, values: Tensor) -> None:
        """Add one number an example."""
        known = values[~values.isnan()]
        self.total += known.sum().to(self.total)
        self.count += known.numel()
        self.left_out += values.numel() - known.numel()

    def compute(self) -> Tensor:
        """Return the mean; NaN, with a warning that says why, where no example has a number."""
        if self.left_out:
            say_why(self)
        return self.total / self.count

    @property
    def reason(self) -> str | None:
        """Why the mean is NaN, by what this process was given; None where it is a number."""
        if self.count:
            return None
        return f"{self.nothing}, in all {int(self.left_out)} examples" if self.left_out else NONE_GIVEN


class Mean(MeanOfExamples):
    """The mean of numbers; unlike ``MeanMetric``'s it is added up in single precision wherever it is made."""

    def __init__(self, **kwargs: Any) -> None:
        # not every accelerator has a double precision, and these stand in modules
        super().__init__(dtype=torch.float32, **kwargs)

    def update(self, values: Tensor) -> None:
        """Add numbers of any shape."""
        self.add(values)


def say_why(metric: Any) -> None:
    """Warn of a number that is NaN, so that its reason stands beside it wherever it is logged."""
    if metric.reason is not None:
        rank_zero_warn(f"{type(metric).__name__} is NaN: {metric.reason}.", UserWarning)


def keep_apart(metric: Metric, **options: Any) -> None:
    """Keep the states of a metric from being shared with those of one that counts other things.

    ``MetricCollection`` lets metrics share states that have the same names and, after the first batch, the same values.

    Args:
        metric: The metric, which gets a state that is named after its class and options, and stays 0.
        options: What it counts by.
    """
    name = "_".join(map(str, ("of", type(metric).__name__, *(part for each in options.items() for part in each))))
    metric.add_state(name.replace(".", "_"), torch.tensor(0), dist_reduce_fx="sum")
