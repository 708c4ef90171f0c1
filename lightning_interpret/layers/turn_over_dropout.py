"""Turn-over dropout: each training example has a mask of its own, so that half of the network never learns it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_interpret.functional.features import find_layer
from lightning_interpret.functional.turn_over import kept, unit_keys
from lightning_interpret.names import check_seed

INPUT = "input of "


class TurnOverDropout(nn.Module):
    """Dropout whose mask m(z) is fixed for each training example z (Kobayashi et al., 2020).

    In training the outputs of the masked layers are m(z) ⊙ x / (1 − p); ordinary evaluation masks nothing. The flipped
    mask 1 − m(z), divided by p, is a network that has not learnt z. Which examples are in a batch is said with
    :meth:`begin` (training) or by the scopes :meth:`seen`, :meth:`unseen` and :meth:`masked`.

    Args:
        rate: Probability p that a unit is dropped, between 0 and 1.
        seed: Seed of all masks.

    Raises:
        ValueError: If the rate does not lie between 0 and 1.
    """

    def __init__(self, rate: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        if not 0 < rate < 1:
            raise ValueError(
                f"`rate={rate!r}` must lie between 0 and 1: a part of the network has to learn each example."
            )
        check_seed(seed)
        self.rate, self.seed = rate, seed
        self.plain = False  # whether masks are drawn anew each time, as plain dropout does it
        self.sites: tuple[str, ...] = ()
        self._handles: list[Any] = []
        self._keys: dict[str, Tensor] = {}
        self._ids: Tensor | None = None
        self._factors: dict[str, Tensor] | None = None  # by site; those of the batch in training, or of a scope
        self._scoped: _Scope | None = None

    def attach(self, module: nn.Module, sites: Sequence[str]) -> None:
        """Mask what some layers return, or are given.

        Args:
            module: The module that contains the layers.
            sites: Names of layers, or ``"input of NAME"``.

        Raises:
            ValueError: If there is no such layer.
        """
        self.detach()
        self.sites = tuple(sites)
        for site in sites:
            part = find_layer(module, site.removeprefix(INPUT))
            hook = _Hook(self, site)
            if site.startswith(INPUT):
                self._handles.append(part.register_forward_pre_hook(hook.before))
            else:
                self._handles.append(part.register_forward_hook(hook.after))

    def detach(self) -> None:
        """Leave every layer."""
        for handle in self._handles:
            handle.remove()
        self._handles, self.sites = [], ()

    def begin(self, ids: Tensor | None) -> None:
        """Say which examples the next training batch holds, ``(B,)``; ``None`` for the end of it."""
        self._ids, self._factors = ids, None

    @contextmanager
    def seen(self, ids: Tensor) -> Iterator[None]:
        """Run a block with the mask of each example, m(z) / (1 − p)."""
        with self._scope(_Scope(ids, flipped=False, factors={})):
            yield

    @contextmanager
    def unseen(self, ids: Tensor) -> Iterator[None]:
        """Run a block with the flipped mask of each example, (1 − m(z)) / p: the network that has not learnt it."""
        with self._scope(_Scope(ids, flipped=True, factors={})):
            yield

    @contextmanager
    def masked(self, factors: Mapping[str, Tensor]) -> Iterator[None]:
        """Run a block with these factors at each site, ``(B, units)``."""
        with self._scope(_Scope(None, flipped=False, factors=dict(factors))):
            yield

    def factors(self, site: str, ids: Tensor, size: int, *, flipped: bool = False) -> Tensor:
        """Return what the units of a site are multiplied by for each example, ``(B, size)`` in single precision."""
        key = self._keys.get(site)
        if key is None or len(key) != size:
            key = self._keys[site] = unit_keys(site, size, self.seed)
        mask = kept(ids, key, self.rate)
        return (~mask).float() / self.rate if flipped else mask.float() / (1 - self.rate)

    def get_extra_state(self) -> dict[str, Any]:
        """Return what the masks are made of."""
        return {"rate": self.rate, "seed": self.seed, "sites": list(self.sites)}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take the rate and the seed of the checkpoint: with others every example would have another mask."""
        self.rate, self.seed, self._keys = state["rate"], state["seed"], {}

    def extra_repr(self) -> str:
        """Return the options."""
        return f"rate={self.rate}, seed={self.seed}, sites={list(self.sites)}"

    @contextmanager
    def _scope(self, scope: _Scope) -> Iterator[None]:
        before, self._scoped = self._scoped, scope
        try:
            yield
        finally:
            self._scoped = before

    def _apply_to(self, site: str, value: Tensor) -> Tensor | None:
        """Return the masked value, or None where nothing is masked."""
        if self._scoped is None and not self.training:
            return None
        if self.plain and self._scoped is None:
            return _times(value, F.dropout(value.new_ones(len(value), value.shape[-1]), self.rate))
        scope = self._scoped or _Scope(self._ids, flipped=False, factors=self._training_factors())
        if site not in scope.factors:
            if scope.ids is None:
                raise ValueError(
                    "Turn-over dropout does not know which examples this batch holds: call the module in training mode "
                    "in `training_step` only, with `example_id` in the batch (`WithIds` puts it there)."
                )
            scope.factors[site] = self.factors(site, scope.ids.to(value.device), value.shape[-1], flipped=scope.flipped)
        return _times(value, scope.factors[site])

    def _training_factors(self) -> dict[str, Tensor]:
        if self._factors is None:
            self._factors = {}
        return self._factors


@dataclass
class _Scope:
    ids: Tensor | None
    flipped: bool
    factors: dict[str, Tensor]


@dataclass(frozen=True)
class _Hook:
    """An object and no closure, so that a copy of the module masks by its own copy of the dropout."""

    dropout: TurnOverDropout
    site: str

    def after(self, part: nn.Module, args: Any, output: Any) -> Any:
        return self.dropout._apply_to(self.site, output)

    def before(self, part: nn.Module, args: Any) -> Any:
        found = self.dropout._apply_to(self.site, args[0])
        return None if found is None else (found, *args[1:])


def _times(value: Tensor, factor: Tensor) -> Tensor:
    return value * factor.to(value.dtype).reshape(len(factor), *(1,) * (value.dim() - 2), factor.shape[-1])
