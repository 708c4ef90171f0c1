"""Turn-over dropout: each training example has a mask of its own, so that half of the network never learns it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_interpret.functional.turn_over import checked_ids, kept, unit_keys
from lightning_interpret.layers.sites import INPUT, find_sites, known_units, time_first, units_dim
from lightning_interpret.names import check_seed


class TurnOverDropout(nn.Module):
    """Dropout whose mask m(z) is fixed for each training example z (Kobayashi et al., 2020).

    In training the masked values are m(z) ⊙ x / (1 − p); ordinary evaluation masks nothing. The flipped mask 1 − m(z),
    divided by p, is a network that has not learnt z. Which examples are in a batch is said with :meth:`begin`
    (training) or by the scopes :meth:`seen`, :meth:`unseen` and :meth:`masked`.

    A mask is one bit a unit, the same at all positions of an example (the tokens of a text, the pixels of a channel),
    and at each call of a layer that is called more than once (the shared blocks of ALBERT). It is a function of the id,
    of the site's name, the unit, the seed and the rate alone; nothing is stored for an example.

    Args:
        rate: Probability p that a unit is dropped, between 0 and 1.
        seed: Seed of all masks.

    Raises:
        ValueError: If the rate does not lie between 0 and 1, or the seed is none.

    Attributes:
        plain: Whether it is plain dropout at the same sites: each value is dropped by itself, anew each time.
        sites: Where it masks: names of layers for what they return, ``"input of NAME"`` for what they are given.
        rows_per_example: How many rows, one after the other, an example has in a layer that has more than one.
    """

    def __init__(self, rate: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < 1:
            raise ValueError(
                f"`rate={rate!r}` of turn-over dropout must lie between 0 and 1: a part of the network has to learn "
                "each example, and a part must not."
            )
        check_seed(seed)
        self.rate, self.seed = float(rate), seed
        self.plain = False
        self.rows_per_example = 1
        self.sites: tuple[str, ...] = ()
        self._handles: list[Any] = []
        self._units: dict[str, int] = {}  # of each site, where that is known
        self._keys: dict[Any, Tensor] = {}
        self._passed: set[str] = set()  # sites that values have come through in training
        self._batch: _Scope | None = None
        self._scoped: _Scope | None = None

    def attach(self, module: nn.Module, sites: Sequence[str]) -> None:
        """Mask what some layers return, or are given.

        Args:
            module: The module that contains the layers.
            sites: Names of layers, or ``"input of NAME"``.

        Raises:
            LayerError: If there is no such layer, or it returns states beside its output (an LSTM).
            ValueError: If there are no sites, or one comes twice.
        """
        parts = find_sites(module, sites)
        self.detach()
        self.sites = tuple(parts)
        for site, part in parts.items():
            if (units := known_units(site, part)) is not None:
                self._units[site] = units
            hook = _Hook(self, site, time_first(module, site.removeprefix(INPUT)))
            if site.startswith(INPUT):
                self._handles.append(part.register_forward_pre_hook(hook.before, with_kwargs=True))
            else:
                self._handles.append(part.register_forward_hook(hook.after))

    def detach(self) -> None:
        """Leave every layer; it has no state then."""
        for handle in self._handles:
            handle.remove()
        self._handles, self.sites, self._batch = [], (), None
        self._units, self._keys, self._passed = {}, {}, set()

    @property
    def idle(self) -> tuple[str, ...]:
        """The sites that no value has come through in training so far."""
        return tuple(site for site in self.sites if site not in self._passed)

    def begin(self, ids: Tensor | None) -> None:
        """Say which examples the next training batch holds, ``(B,)``; ``None`` for the end of it."""
        self._batch = None if ids is None else _Scope(ids)
        if self._batch is not None and len(self._units) == len(self.sites):
            self._draw(self._batch, ids.device)  # type: ignore[union-attr]  # now, and not inside of a compiled forward

    @contextmanager
    def seen(self, ids: Tensor) -> Iterator[None]:
        """Run a block with the mask of each example, m(z) / (1 − p), for ids ``(B,)``."""
        with self._scope(_Scope(checked_ids(ids))):
            yield

    @contextmanager
    def unseen(self, ids: Tensor) -> Iterator[None]:
        """Run a block with the flipped mask of each example, (1 − m(z)) / p: the network that has not learnt it."""
        with self._scope(_Scope(checked_ids(ids), flipped=True)):
            yield

    @contextmanager
    def masked(self, factors: Mapping[str, Tensor]) -> Iterator[None]:
        """Run a block with these factors at each site, ``(B, units)``, or ``(1, units)`` for all examples alike."""
        with self._scope(_Scope(None, factors=dict(factors))):
            yield

    def factors(self, site: str, ids: Tensor, size: int, *, flipped: bool = False) -> Tensor:
        """Return what the units of a site are multiplied by for each example, ``(B, size)`` in single precision."""
        return self._scaled(ids, self._keys_of(((site, size),), ids.device), flipped)

    # State

    def get_extra_state(self) -> dict[str, Any]:
        """Return what the masks are made of."""
        return {"rate": self.rate, "seed": self.seed, "sites": list(self.sites)}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take the rate and the seed of the checkpoint: with others every example would have another mask."""
        for name in ("rate", "seed"):
            if state[name] != getattr(self, name):
                _warn(f"its {name} is that of the checkpoint, {state[name]!r}, and not {getattr(self, name)!r}")
        self.rate, self.seed, self._keys = state["rate"], state["seed"], {}
        if set(state["sites"]) != set(self.sites):
            _warn(
                f"the checkpoint was trained with masks at {', '.join(state['sites'])}, and here they are at "
                f"{', '.join(self.sites) or 'no layer'}: give `turn_over_layers={state['sites']!r}` to read it"
            )

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if not self.sites:
            destination.pop(prefix + "_extra_state")

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        if prefix + "_extra_state" in state_dict:
            super()._load_from_state_dict(state_dict, prefix, *args)
        elif self.sites:
            _warn("the checkpoint is of a module that was trained without, and no part of it has not learnt an example")

    def extra_repr(self) -> str:
        """Return the options."""
        return f"rate={self.rate}, seed={self.seed}, sites={list(self.sites)}"

    # Masking

    @contextmanager
    def _scope(self, scope: _Scope) -> Iterator[None]:
        before, self._scoped = self._scoped, scope
        try:
            yield
        finally:
            self._scoped = before

    def _apply_to(self, site: str, part: nn.Module, value: Any, time_first: bool) -> Tensor | None:
        """Return the masked value, or None where nothing is masked."""
        scope = self._scoped
        if scope is None and not self.training:
            return None
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dim() < 2:
            what = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"`turn_over_layers`: {site!r} is no tensor of numbers (batch, ..., units) but {what}: name a layer "
                "that returns one, or is given it as its first argument."
            )
        if scope is None:
            if site not in self._passed:
                self._passed.add(site)
            if self.plain:
                return F.dropout(value, self.rate)
            scope = self._batch
        if scope is None:
            raise ValueError(
                "Turn-over dropout does not know which examples this batch holds. In training mode call the module in "
                "`training_step` only, with `example_id` in the batch (`WithIds` puts it there); elsewhere call "
                "`module.eval()` first, or use `turn_over_dropout.seen(ids)`."
            )
        dim = units_dim(part, value)
        factor = scope.factors.get(site)
        if factor is None or factor.shape[-1] != value.shape[dim]:
            factor = self._found(scope, site, value.shape[dim], value.device)
        batch = 1 if time_first and value.dim() > 2 else 0
        if len(factor) != value.shape[batch] == len(factor) * self.rows_per_example:
            factor = factor.repeat_interleave(self.rows_per_example, dim=0)
        if len(factor) != value.shape[batch] and (scope.ids is not None or len(factor) != 1):
            place = ("first", "second")[batch]
            raise ValueError(
                f"`turn_over_layers`: {site!r} has shape {tuple(value.shape)}, and masks are of {len(factor)} "
                f"examples (`example_id`). Its {place} dimension must be the batch: name another layer, or give ids."
            )
        shape = [1] * value.dim()
        shape[batch], shape[dim] = factor.shape
        return value * factor.to(value.device, value.dtype).reshape(shape)

    def _found(self, scope: _Scope, site: str, size: int, device: torch.device) -> Tensor:
        """Return the factors of a site whose units have not been known."""
        if scope.ids is None:
            raise ValueError(f"`factors` has none of shape (B, {size}) for the site {site!r}.")
        self._units[site] = size
        self._draw(scope, device)
        return scope.factors[site]

    def _draw(self, scope: _Scope, device: torch.device) -> None:
        """Draw the factors of all known sites at once: a few operations on the device, however many sites there are."""
        assert scope.ids is not None
        sites = tuple(self._units.items())
        drawn = self._scaled(scope.ids.to(device), self._keys_of(sites, device), scope.flipped)
        scope.factors.update(zip(self._units, drawn.split([size for _, size in sites], dim=1), strict=True))

    def _keys_of(self, sites: tuple[tuple[str, int], ...], device: torch.device) -> Tensor:
        if (sites, device) not in self._keys:
            with torch.inference_mode(False):  # what is made there could be used nowhere else
                keys = [unit_keys(site, size, self.seed) for site, size in sites]
                self._keys[sites, device] = torch.cat(keys).to(device)
        return self._keys[sites, device]

    def _scaled(self, ids: Tensor, keys: Tensor, flipped: bool) -> Tensor:
        mask = kept(ids, keys, self.rate)
        return (~mask).float() / self.rate if flipped else mask.float() / (1 - self.rate)


@dataclass
class _Scope:
    ids: Tensor | None
    flipped: bool = False
    factors: dict[str, Tensor] = field(default_factory=dict)  # by site


@dataclass(frozen=True)
class _Hook:
    """An object and no closure, so that a copy of the module masks by its own copy of the dropout."""

    dropout: TurnOverDropout
    site: str
    time_first: bool

    def after(self, part: nn.Module, args: Any, output: Any) -> Any:
        return self.dropout._apply_to(self.site, part, output, self.time_first)

    def before(self, part: nn.Module, args: Any, kwargs: Any) -> Any:
        name = None if args else next(iter(kwargs), None)  # a head may be called as `head(input=h)`
        given = args[0] if args else kwargs.get(name)
        found = self.dropout._apply_to(self.site, part, given, self.time_first)
        if found is None:
            return None
        return ((found, *args[1:]), kwargs) if name is None else (args, {**kwargs, name: found})


def _warn(message: str) -> None:
    warnings.warn(f"Turn-over dropout: {message}.", stacklevel=2)
