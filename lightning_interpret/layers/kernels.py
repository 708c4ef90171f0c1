"""Kernels with their parameters, learned or fixed."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional import kernels
from lightning_interpret.names import check_positive, check_whole, choose


class Kernel(nn.Module):
    """Base of the kernels: ``(…, d) × (l, d) → (…, l)``."""

    learned = False  # whether it has parameters that are trained

    def fit(self, features: Tensor) -> None:
        """Take the unit of a scale that was not given from features of examples, ``(n, d)``."""


class LinearKernel(Kernel):
    """x·y."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the kernel."""
        return kernels.linear(x, y)


class CosineKernel(Kernel):
    """The cosine of x and y."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the kernel."""
        return kernels.cosine(x, y)


class RBFKernel(Kernel):
    """exp(−scale · ‖x − y‖² / m), m the unit of squared distance: 1 where a scale was given.

    Args:
        scale: By default 1/2, with m the median squared distance between examples (the median heuristic), which is
            measured again whenever landmarks are chosen or refreshed: it follows an encoder whose features grow.
        learned: Whether the scale is trained, as its logarithm.
    """

    log_scale: Tensor
    unit: Tensor

    def __init__(self, scale: float | None = None, learned: bool = True) -> None:
        super().__init__()
        self.given, self.learned = scale, learned
        _positive(self, "log_scale", 0.5 if scale is None else scale, "scale", learned)
        self.register_buffer("unit", torch.tensor(1.0, dtype=single_or_double()))

    def fit(self, features: Tensor) -> None:
        """Measure the unit, where no scale was given."""
        if self.given is None:
            self.unit.fill_(kernels.median_square(features))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the kernel."""
        return kernels.rbf(x, y, self.log_scale.exp() / self.unit)


class PolynomialKernel(Kernel):
    """(scale · x·y / m + offset)^degree, m the unit of squared length: 1 where a scale was given.

    Args:
        degree: A whole number of at least 1.
        offset: 0 or more; 0 stays 0.
        scale: By default 1, with m the mean squared length of the examples' features, which is measured again whenever
            landmarks are chosen or refreshed.
        learned: Whether scale and offset are trained, as their logarithms.
    """

    log_scale: Tensor
    log_offset: Tensor | None
    unit: Tensor

    def __init__(self, degree: int = 2, offset: float = 1.0, scale: float | None = None, learned: bool = True) -> None:
        super().__init__()
        check_whole(degree=degree)
        self.degree, self.given, self.learned = degree, scale, learned
        _positive(self, "log_scale", 1.0 if scale is None else scale, "scale", learned)
        self.register_buffer("unit", torch.tensor(1.0, dtype=single_or_double()))
        if offset == 0:
            self.register_parameter("log_offset", None)
        else:
            _positive(self, "log_offset", offset, "offset", learned)

    def fit(self, features: Tensor) -> None:
        """Measure the unit, where no scale was given."""
        if self.given is None:
            self.unit.fill_(float(features.square().sum(dim=1).mean()) or 1.0)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the kernel."""
        offset = 0.0 if self.log_offset is None else self.log_offset.exp()
        return kernels.polynomial(x, y, self.log_scale.exp() / self.unit, offset, self.degree)


class OwnKernel(Kernel):
    """A function of the user's on features, or a module, whose parameters are trained.

    Args:
        function: ``(…, d) × (l, d) → (…, l)``, symmetric, in the precision it is given, or where to import it from:
            ``"package.module.function"``.
    """

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = _imported(function) if isinstance(function, str) else function

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the kernel.

        Raises:
            ValueError: If the function returns another shape.
        """
        found = self.function(x, y)
        if found.shape != (*x.shape[:-1], len(y)):
            raise ValueError(
                f"The kernel {path_of(self.function)!r} of features {tuple(x.shape)} and landmarks {tuple(y.shape)} "
                f"has shape {tuple(found.shape)}: it must be {(*x.shape[:-1], len(y))}."
            )
        return found


#: By name; "precomputed" is the layer's own.
KERNELS: dict[str, type[Kernel]] = {
    "linear": LinearKernel,
    "rbf": RBFKernel,
    "polynomial": PolynomialKernel,
    "cosine": CosineKernel,
}


def kernel_named(kernel: Any, options: Mapping[str, Any] | None = None) -> Kernel:
    """Return a kernel by its name, or one's own by its import path, which has a dot, or as a function.

    Args:
        kernel: The kernel.
        options: Its options.

    Raises:
        ValueError: If there is no such kernel, or it has no such option.
    """
    if not isinstance(kernel, str) or "." in kernel:
        if options:
            raise ValueError(f"`options={options}` are those of named kernels: your own function has to hold its own.")
        return OwnKernel(kernel)
    kind = KERNELS[choose("kernel", kernel, KERNELS)]
    known = [] if kind.__init__ is Kernel.__init__ else list(inspect.signature(kind).parameters)
    for name in options or {}:
        choose(f"option of kernel {kernel!r}", name, known)
    return kind(**(options or {}))


def path_of(function: Any) -> str:
    """Return where a function, or the class of a module, is imported from."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def single_or_double() -> torch.dtype:
    """Return the default precision, but never half: a context such as that of ``bf16-true`` makes half the default."""
    dtype = torch.get_default_dtype()
    return dtype if dtype == torch.float64 else torch.float32


def _positive(module: nn.Module, name: str, value: float, argument: str, learned: bool) -> None:
    check_positive(**{argument: value})
    logarithm = torch.tensor(math.log(value), dtype=single_or_double())
    if learned:
        module.register_parameter(name, nn.Parameter(logarithm))
    else:
        module.register_buffer(name, logarithm)


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"`kernel={path!r}` cannot be imported: {error}. Write 'package.module.function'.") from error
