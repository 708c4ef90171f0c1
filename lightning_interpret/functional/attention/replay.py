"""What a model computes before an attention, kept, so that another attention costs only what follows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import count
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map_only


class Replay:
    """The outputs of modules in one forward, and forwards of repeated rows that take them from there.

    Modules are looked at by a ``forward`` of their own that stands in the instance while a block lasts; hooks run as
    ever. What a module does besides returning its output is not done again: whether that matters, a trial has to say.
    """

    def __init__(self, module: nn.Module) -> None:
        self._parts = {name: part for name, part in module.named_modules() if name}
        self._ticks = count()
        self._outputs: dict[str, list[Any]] = {}
        self._ended: dict[str, int] = {}
        self._kept: tuple[str, ...] = ()
        self._size = 0

    def now(self) -> int:
        """Return a mark of what has run so far, to be given to :meth:`keep`."""
        return next(self._ticks)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keep what modules return in the forward of a block."""

        def recorded(name: str, forward: Callable) -> Callable:
            @wraps(forward)  # whoever asks for its arguments is told them
            def run(*args: Any, **kwargs: Any) -> Any:
                output = forward(*args, **kwargs)
                self._outputs.setdefault(name, []).append(tree_map_only(Tensor, Tensor.detach, output))
                self._ended[name] = self.now()
                return output

            return run

        with _standing_in({part: recorded(name, part.forward) for name, part in self._parts.items()}):
            yield

    def keep(self, before: int, size: int) -> None:
        """Keep the outputs of modules that had done all they do before a mark, and of no part of them.

        Args:
            before: The mark.
            size: Rows of the forward.
        """
        done = {name for name, ended in self._ended.items() if ended < before}
        self._kept = tuple(name for name in done if not any(name.startswith(f"{other}.") for other in done))
        self._outputs = {name: self._outputs[name] for name in self._kept}
        self._size = size

    @property
    def empty(self) -> bool:
        """Whether nothing is kept."""
        return not self._kept

    def forget(self) -> None:
        """Keep nothing: every forward is run as it is."""
        self._kept, self._outputs = (), {}

    @contextmanager
    def of(self, rows: Tensor) -> Iterator[None]:
        """Let the modules kept return in the forward of a block what they returned for these rows ``(M,)``."""

        def picked(tensor: Tensor) -> Tensor:
            return tensor[rows] if tensor.dim() and len(tensor) == self._size else tensor

        def replayed(name: str) -> Callable:
            calls = iter(self._outputs[name])

            @wraps(self._parts[name].forward)
            def run(*args: Any, **kwargs: Any) -> Any:
                return tree_map_only(Tensor, picked, next(calls))

            return run

        with _standing_in({self._parts[name]: replayed(name) for name in self._kept}):
            yield


@contextmanager
def _standing_in(forwards: dict[nn.Module, Callable]) -> Iterator[None]:
    """Let instances have forwards of their own while a block lasts."""
    before = {part: vars(part).get("forward") for part in forwards}
    try:
        for part, forward in forwards.items():
            vars(part)["forward"] = forward
        yield
    finally:
        for part, own in before.items():
            if own is None:
                vars(part).pop("forward", None)
            else:
                vars(part)["forward"] = own
