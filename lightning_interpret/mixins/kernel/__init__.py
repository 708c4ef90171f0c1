"""A Nyström layer between encoder and head: predictions by similarity to training examples."""

from lightning_interpret.mixins.kernel.mixin import KernelMixin

__all__ = ["KernelMixin"]
