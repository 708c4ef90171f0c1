"""What metrics share whose numbers are sums: they stay in the precision that they were made in."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torchmetrics import Metric


class FullPrecisionMetric(Metric):
    """A metric whose states keep their precision in a module that is converted (``precision="bf16-true"``).

    torchmetrics means this of every metric, but for ``module.to(dtype)``, which Lightning calls: sums would be in
    bfloat16, where a count ends at 256. ``set_dtype`` converts them all the same.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        def moved(tensor: Tensor) -> Tensor:
            found = fn(tensor)
            return found if found.dtype == tensor.dtype else tensor.to(found.device)

        return super()._apply(fn if self._dtype_convert else moved, exclude_state)
