"""A layer put between an encoder and a head that is named, and taken out again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lightning_interpret.functional.features import find_layer


@dataclass
class BeforeHead:
    """A layer that a head reads through: what :func:`put_before` has changed in a module.

    Several layers may be put before one head: the first reads what the head did, each later one what the one before it
    returns. They are taken out in the opposite order.

    Attributes:
        name: The head's name in the module.
        plain: The head that was there before: the module's own, where there is one layer.
        head: The head that was put there: the same, or one that reads as many numbers as the layer returns.
    """

    name: str
    plain: nn.Linear
    head: nn.Linear
    _places: list[tuple[nn.Module, str]]
    _handle: Any

    def take_out(self) -> None:
        """Put the head back that was there before, where the other one is now.

        Raises:
            ValueError: If another layer was put before the head since.
        """
        if any(isinstance(hook, _Hook) for _, hook in self._after):
            raise ValueError(f"Another layer was put before the head {self.name!r} since: take that one out first.")
        self._handle.remove()
        for parent, leaf in self._places:
            setattr(parent, leaf, self.plain.to(self.head.weight))

    def scores(self, values: Tensor) -> Tensor:
        """Return what the head returns where the layer returns ``values``, in the precision of its weights."""
        parent, leaf = self._places[0]
        head = getattr(parent, leaf)
        args, kwargs = (values.to(head.weight.dtype),), dict[str, Any]()
        for key, hook in self._after:
            if key in head._forward_pre_hooks_with_kwargs:
                args, kwargs = hook(head, args, kwargs) or (args, kwargs)
            elif (found := hook(head, args)) is not None:
                args = found if isinstance(found, tuple) else (found,)
        return head.forward(*args, **kwargs)

    @property
    def _after(self) -> list[tuple[int, Any]]:
        """The hooks that come between the layer and the head."""
        hooks = list(self.head._forward_pre_hooks.items())
        return hooks[[key for key, _ in hooks].index(self._handle.id) + 1 :]


def put_before(module: nn.Module, name: str, layer: nn.Module, width: int) -> BeforeHead:
    """Let a head read what a layer returns of its input.

    A head that reads another width gives its place to a new one, initialised as the model that it is a part of
    initialises its linear layers (``_init_weights`` of `transformers`), or as PyTorch does.

    Args:
        module: The module.
        name: Name of the head, an ``nn.Linear``.
        layer: What is put before it, ``(…, d) → (…, width)``.
        width: How many numbers the layer returns.

    Raises:
        ValueError: If there is no such layer, or it is not linear.
    """
    plain = find_layer(module, name)
    if not isinstance(plain, nn.Linear):
        raise ValueError(f"The head {name!r} is a {type(plain).__name__}, and must be a linear layer (nn.Linear).")
    paths = [path for path, part in module.named_modules(remove_duplicate=False) if part is plain]
    places = [(module.get_submodule(path.rpartition(".")[0]), path.rpartition(".")[2]) for path in paths]
    head = plain if plain.in_features == width else _like(plain, width, [*_outer(module, paths[0])])
    if head is not plain:
        # shared, so that what is before the head already stays there, and can still be taken out
        head._forward_pre_hooks = plain._forward_pre_hooks
        head._forward_pre_hooks_with_kwargs = plain._forward_pre_hooks_with_kwargs
        for parent, leaf in places:
            setattr(parent, leaf, head)
    handle = head.register_forward_pre_hook(_Hook(layer), with_kwargs=True)
    return BeforeHead(name, plain, head, places, handle)


@dataclass(frozen=True)
class _Hook:
    """An object and no closure, so that a copy of the module reads through its own copy of the layer."""

    layer: nn.Module

    def __call__(self, head: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        if args:
            return (self.layer(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "input": self.layer(kwargs["input"])}


def _like(plain: nn.Linear, width: int, outer: list[Any]) -> nn.Linear:
    weight = plain.weight
    head = nn.Linear(width, plain.out_features, plain.bias is not None, device=weight.device, dtype=weight.dtype)
    initialise = next((part._init_weights for part in outer if callable(getattr(part, "_init_weights", None))), None)
    if initialise is not None:
        initialise(head)
    head.requires_grad_(weight.requires_grad)
    return head.train(plain.training)


def _outer(module: nn.Module, path: str) -> Iterator[Any]:
    """Yield the modules around one of them, the nearest first."""
    while path:
        path = path.rpartition(".")[0]
        yield module.get_submodule(path)
