"""The method classes a user names: options and one call on (module, batch, task) that returns a record."""

from lightning_interpret.methods.base import METHODS, Method
from lightning_interpret.methods.explain import explain
from lightning_interpret.methods.gradient import Gradient, GradientTimesInput
from lightning_interpret.methods.integrated_gradients import IntegratedGradients
from lightning_interpret.methods.surrogate import KernelShap, Lime
from lightning_interpret.names import choose

__all__ = [
    "METHODS",
    "Gradient",
    "GradientTimesInput",
    "IntegratedGradients",
    "KernelShap",
    "Lime",
    "Method",
    "explain",
    "method_named",
]


def method_named(method: str | Method) -> Method:
    """Return a method, by its name with default options, or as it is.

    Raises:
        ValueError: If there is no method of this name; the near ones are named.
    """
    return method if isinstance(method, Method) else METHODS[choose("method", method, METHODS)]()
