"""Contextual decomposition: a forward pass that keeps apart what comes of a span and what comes of all else.

Every tensor x that was computed from the features is met as x = κ + β + γ: the *constant* κ (what the model makes of
x', with its biases and positions), the *relevant* β (of the span) and the *irrelevant* γ (of what is not in it). They
are carried as four states, κ, κ + β, κ + γ and x, through the model's own operations. What is affine keeps them apart
by itself. Any other operation g leaves g(x) + g(κ) − g(κ + β) − g(κ + γ), what the two do together only: for a
function of one tensor half goes to each, the Shapley values of β and γ over κ (Murdoch, Liu and Yu, 2018, whose bias is
κ); for a product all goes to γ, as there, where β is what the span does with itself and with constants. What scales
(the deviation in a LayerNorm, a denominator) is taken as it is at x in all states, as LRP does (Ali et al., 2022): the
states alone may have none, and what is divided by nearly 0 would drown the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from lightning_interpret.functional.hierarchy.normalisation import NORMALISATIONS
from lightning_interpret.functional.operations import (
    AFFINE,
    DROPOUTS,
    ELEMENTWISE,
    LINEAR,
    PRODUCTS,
    Meeting,
    bind,
    names,
    operation,
    tensors_in,
)
from lightning_interpret.functional.passes import Score
from lightning_interpret.functional.rescale.composites import COMPOSITES

States = tuple[Tensor, Tensor, Tensor]  # κ, κ + β, κ + γ

_LINEAR = LINEAR | AFFINE | DROPOUTS | names("detach data")
#: Of other steps than they are written in: a recurrent cell's gates, attention's scores, weights and values.
_STEPS = {
    name: COMPOSITES[name]
    for name in COMPOSITES
    if name.startswith(("lstm", "gru", "rnn")) or name in names("scaled_dot_product_attention addmm baddbmm addmv glu")
}
#: Functions of tensors as a whole: pooling, softmax.
_WHOLE = names(
    "softmax log_softmax logsumexp batch_norm amax amin max min maximum minimum fmax fmin topk sort msort median "
    "cummax cummin norm vector_norm var std cumprod prod lerp addcmul hypot max_pool1d max_pool2d max_pool3d "
    "max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool1d adaptive_max_pool2d "
    "adaptive_max_pool3d"
)
#: What scales: a constant, as it is at x.
_SCALES = names("rsqrt reciprocal")
#: Functions of each element that not every number has a value of.
_ROOTS = names("sqrt log log2 log10 log1p logit pow float_power acosh atanh asin acos")
#: What takes nothing of a tensor but its shape and kind.
_SHAPES = names("zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty new_tensor")


_UNMET = (
    "What the model computes from the layer passes through functions that cannot be met (of `torch.jit`, in C++, or on "
    "numbers): attribute to a layer after them, or use Hedge, which needs no rules."
)


class ContextualError(ValueError):
    """An operation that contextual decomposition has no rule for, or a forward pass that went past it."""


@dataclass(frozen=True)
class Decomposition:
    """F(x) − F(x') of M rows, in two; each ``(M,)``.

    Attributes:
        relevant: β, what comes of the span.
        irrelevant: γ, what comes of all else.
        constant: κ, what constants make of it, the same whatever the span is: the bias. It is F(x') of a model without
            normalisation; where deviations are those of x, it is what F(x') would be with these.
        total: F(x) = κ + β + γ.
    """

    relevant: Tensor
    irrelevant: Tensor
    constant: Tensor
    total: Tensor


class Contextual(Meeting):
    """Carries the states through a forward pass; values are the model's own.

    Args:
        cross: Where what a product makes of β and γ together goes: ``irrelevant`` (Murdoch et al.), or ``shared``, half
            to each, with which the spans of a partition are treated alike.
    """

    def __init__(self, cross: str = "irrelevant") -> None:
        super().__init__()
        self.cross, self._mark = cross, object()

    def track(self, value: Tensor, states: States) -> Tensor:
        """Return ``value``, from now on met with these states."""
        value._contextual_states = (self._mark, states)  # type: ignore[attr-defined]
        return value

    def states(self, value: Any) -> States | None:
        """Return κ, κ + β and κ + γ of a tensor, or None of a constant."""
        mark, found = getattr(value, "_contextual_states", (None, None)) if isinstance(value, Tensor) else (None, None)
        return found if mark is self._mark else None

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run one operation on all states."""
        kwargs = kwargs or {}
        leaves, form = tree_flatten((args, kwargs))
        tracked = [i for i, leaf in enumerate(leaves) if self.states(leaf) is not None]
        self._refuse_unmet(leaves)
        if not tracked:
            return func(*args, **kwargs)
        if (run := self.opened(func)) is not None:
            return run(*args, **kwargs)
        name, in_place = operation(func)
        _refuse_random(name, args, kwargs)
        if name in _STEPS:
            with self, torch.no_grad():
                steps = _STEPS[name](*args, **kwargs)
            return self._carry(func(*args, **kwargs), steps)
        if in_place and self.states(args[0]) is None:
            self._spread(args[0])
            tracked = sorted({0, *tracked})

        def at(state: int) -> Any:
            places = {i: self.states(leaves[i])[state] for i in tracked}  # type: ignore[index]
            given, named = tree_unflatten([places.get(i, leaf) for i, leaf in enumerate(leaves)], form)
            return func(*given, **named)

        if _scales(name, args, kwargs):
            return func(*args, **kwargs).detach()
        if name in NORMALISATIONS:
            return self._normalised(name, func, args, kwargs)
        quotient = name == "div" and kwargs.get("rounding_mode") is None
        if quotient:
            tracked = [i for i in tracked if leaves[i] is args[0]]  # the denominator is as it is at x
            if not tracked:
                return func(*args, **kwargs).detach()
        affine = name in _LINEAR or quotient or (name in PRODUCTS and len(tracked) == 1)
        if not affine and not (name in PRODUCTS or name in ELEMENTWISE or name in _WHOLE):
            return self._unknown(name, func, args, kwargs)
        with torch.no_grad():
            shares = self._shares(leaves[tracked[0]]) if name in _ROOTS else None
            others = tuple(at(state) for state in range(3))
        found = func(*args, **kwargs)
        with torch.no_grad():
            values, same = tensors_in(found), [tensors_in(other) for other in others]
            for value, *states in zip(values, *same, strict=True):
                if not value.is_floating_point():
                    continue  # places and comparisons: constants, as they are at x
                if not affine:
                    self._hand_out(value, *states, product=name in PRODUCTS, shares=shares)
                self.track(value, tuple(states))
            return found

    def _hand_out(
        self,
        value: Tensor,
        constant: Tensor,
        relevant: Tensor,
        irrelevant: Tensor,
        *,
        product: bool,
        shares: Tensor | None,
    ) -> None:
        """Hand out, in place, what β and γ do together only, so that κ + β + γ is the value again."""
        if (
            shares is not None
        ):  # a state may lie where there is no root of it: there the whole is shared as the argument
            outside = ~(relevant.isfinite() & irrelevant.isfinite()) & value.isfinite() & constant.isfinite()
            whole = value - constant
            relevant.copy_(torch.where(outside, constant + shares * whole, relevant))
            irrelevant.copy_(torch.where(outside, constant + (1 - shares) * whole, irrelevant))
        together = value + constant - relevant - irrelevant
        together = together.where(together.isfinite(), torch.zeros_like(together))  # −∞ − (−∞) under a mask
        share = 0.0 if product and self.cross == "irrelevant" else 0.5
        relevant += share * together
        irrelevant += (1 - share) * together

    def _shares(self, argument: Tensor) -> Tensor:
        """Return β / (β + γ) of an argument, ½ where there is neither."""
        constant, relevant, irrelevant = self.states(argument) or (argument, argument, argument)
        relevant, whole = relevant - constant, relevant + irrelevant - 2 * constant
        return torch.where(whole == 0, torch.full_like(whole, 0.5), relevant / whole)

    def _normalised(self, name: str, func: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Return a normalisation with states that have the deviation of x."""
        given = bind(args, kwargs, NORMALISATIONS[name][0])
        states = self.states(given["input"])
        if states is None:
            raise ContextualError(
                f"`{name}` has a weight or a bias that was computed from the layer: there is no rule."
            )
        value = func(*args, **kwargs)
        with torch.no_grad():
            return self.track(value, NORMALISATIONS[name][1](given, given["input"], states))

    def _refuse_unmet(self, leaves: list[Any]) -> None:
        """Refuse what was computed from the layer and has no states: nothing else requires a gradient but weights."""
        for leaf in leaves:
            if isinstance(leaf, Tensor) and leaf.requires_grad and not leaf.is_leaf and self.states(leaf) is None:
                raise ContextualError(_UNMET)

    def _carry(self, value: Any, steps: Any) -> Any:
        """Return an operation's own values with the states of the steps that it was taken in."""
        for own, step in zip(tensors_in(value), tensors_in(steps), strict=False):
            states = self.states(step)
            if states is not None:
                self.track(own, states)
        return value

    def _spread(self, target: Tensor) -> None:
        """Let a constant that is written into have states, with the tensor that it is a view of."""
        base = target._base if target._is_view() and target._base is not None else target
        if self.states(base) is None:
            self.track(base, (base.clone(), base.clone(), base.clone()))
        if base is not target:
            shape = target.size(), target.stride(), target.storage_offset() - base.storage_offset()
            constant, relevant, irrelevant = (s.as_strided(*shape) for s in self.states(base) or ())
            self.track(target, (constant, relevant, irrelevant))

    def _unknown(self, name: str, func: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Call a function without a rule: a question, a shape, an index; refused where it makes numbers of x."""
        found = func(*args, **kwargs)
        if name not in _SHAPES and any(t.is_floating_point() or t.is_complex() for t in tensors_in(found)):
            raise ContextualError(
                f"Contextual decomposition has no rule for `{name}`, which the model applies to what it computed from "
                "the layer. Attribute to a layer after it, or use Hedge or SamplingAndOcclusion, which need no rules."
            )
        return found


def contextual_decomposition(
    score: Score, inputs: Tensor, baselines: Tensor, inside: Tensor, rows: Tensor, *, cross: str = "irrelevant"
) -> Decomposition:
    """Return β, γ and κ of the score for M spans, from one forward pass in four states; without gradients.

    β + γ = F(x) − κ for any span, with the same κ for all; of all of x, γ = 0, and of nothing, β = 0. Biases, positions
    and whatever else x and x' have in common are in κ: with the zero embedding as x', κ is what the model makes of no
    words at all, as the bias of its head is in a model that has no other.

    Weights must not require gradients, as in :func:`~lightning_interpret.functional.scope.explaining`.

    Args:
        score: The scalar explained, at points of given rows.
        inputs: x, ``(M, *shape)``.
        baselines: x', ``(M, *shape)``.
        inside: Bool ``(M, *shape)``, which features are of the span.
        rows: Which rows they are, ``(M,)``.
        cross: Where products of β and γ go, ``irrelevant`` or ``shared``.

    Raises:
        ContextualError: If an operation has no rule, or the score was not made by operations that are met.
    """
    scope = Contextual(cross)
    states = baselines, torch.where(inside, inputs, baselines), torch.where(inside, baselines, inputs)
    with torch.enable_grad():  # by which is told what was computed from x, also past this scope
        tracked = scope.track(inputs.detach().clone().requires_grad_().clone(), states)
        with scope:
            total = score(tracked, rows)
    found = scope.states(total)
    if found is None:
        raise ContextualError(_UNMET)
    constant, relevant, irrelevant = (state.double() for state in found)
    return Decomposition(relevant - constant, irrelevant - constant, constant, total.detach().double())


def _scales(name: str, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether an operation makes a scale of a tensor."""
    exponent = bind(args, kwargs, ("input", "exponent")).get("exponent") if name in ("pow", "float_power") else None
    return name in _SCALES or (isinstance(exponent, int | float) and exponent < 0)


def _refuse_random(name: str, args: tuple, kwargs: dict[str, Any]) -> None:
    given = bind(args, kwargs, ("input", "p", "train"))
    if name in DROPOUTS and given.get("train", True) and given.get("p", 0.5) > 0:
        raise ContextualError(f"`{name}` drops at random, so that the states are not of one model: call `eval()`.")
    if name == "batch_norm":
        given = bind(args, kwargs, ("input", "weight", "bias", "running_mean", "running_var", "training"))
        if given.get("training"):
            raise ContextualError("`batch_norm` with the statistics of the batch mixes its examples: call `eval()`.")
