"""Contextual decomposition as published: a forward pass that carries a relevant and an irrelevant part of every value.

Biases are shared between the parts here (golden case T23). The methods go by `hierarchy/contextual.py`, which keeps
them apart as constants and so meets transformers, recurrent cells and modules as they call their functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.weak import WeakIdKeyDictionary

from lightning_interpret.functional.operations import (
    AFFINE,
    DROPOUTS,
    ELEMENTWISE,
    LINEAR,
    PRODUCTS,
    Meeting,
    operation,
    out_of_place,
)


class Parts(NamedTuple):
    """A value h as β + γ + b."""

    relevant: Tensor
    irrelevant: Tensor
    bias: Tensor


class DecompositionError(ValueError):
    """A forward pass that contextual decomposition has no rule for; the message names the operation."""


def contextual_decomposition(function: Callable[[Tensor], Tensor], inputs: Tensor, relevant: Tensor) -> Parts:
    """Return what a subset of the inputs contributes to the output, and what the rest does (Murdoch et al., 2018).

    Every value h is carried as β + γ + b, whose sum is h but for rounding, through all that ``function`` calls:

    * affine functions act on each part; b has what they add;
    * where another function follows, b is shared in the proportion |β| : |γ| (Singh et al., 2019, section 3.1).
      Where both are 0, it is irrelevant, unless the subset is everything;
    * ReLU: β ↦ relu(β), and γ has the rest of relu(β + γ); a max pool keeps, of each part, the place where h is
      largest (the same);
    * other functions f: β ↦ ½[f(β) − f(0) + f(β + γ) − f(γ)], γ likewise, and b = f(0) (Murdoch et al., 2018);
    * products: β = β₁β₂, and γ has the rest;
    * ``torch.lstm``: as in Murdoch et al., section 3.2: gates of three terms, bias first; products with the bias are
      relevant with their other factor; the product of the gates' biases belongs to the step, relevant in the share
      that its input is; the output gate is not decomposed.

    So what the last affine functions add is in neither part: β + γ is the logits without their bias. Of all inputs,
    γ = 0; of none, β = 0.

    Args:
        function: A network written with PyTorch's functions, in evaluation mode: affine and elementwise functions,
            products, max pools, ``nn.LSTM`` from a state of zeros. Examples stay in the first dimension.
        inputs: ``(N, *shape)``.
        relevant: Bool, the subset: of the inputs' shape, or one that expands to it.

    Returns:
        β, γ and b, each of the shape of the output.

    Raises:
        DecompositionError: If an operation has no rule; the message names it.
    """
    relevant = relevant.to(inputs.device).expand(inputs.shape)
    scope = _Decomposition(relevant.flatten(1).all(dim=1))
    with torch.no_grad():
        inputs = inputs.detach().clone()
        nothing = torch.zeros_like(inputs)
        scope.parts[inputs] = Parts(inputs.where(relevant, 0.0), inputs.where(~relevant, 0.0), nothing)
        with scope:
            output = function(inputs)
    if output not in scope.parts:
        raise DecompositionError("The output does not depend on the inputs by operations that were met.")
    return scope.parts[output]


class _Decomposition(Meeting):
    """The scope that meets every operation."""

    def __init__(self, full: Tensor) -> None:
        super().__init__()
        self.parts = WeakIdKeyDictionary()
        self._full = full

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run one operation, on the value and on its parts."""
        kwargs = kwargs or {}
        leaves, form = tree_flatten((args, kwargs))
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf in self.parts]
        name, in_place = operation(func)
        if not places or name.startswith("new_") or name.endswith("_like"):
            return func(*args, **kwargs)
        if (run := self.opened(func)) is not None:
            return run(*args, **kwargs)
        if in_place and (name == "setitem" or places[0] != 0 or args[0]._base is not None):
            raise DecompositionError(f"`{name}` writes into a part of a tensor: write it out of place.")
        func = out_of_place(name) if in_place else func
        parts = [self.parts[leaves[i]] for i in places]

        def at(*tensors: Tensor) -> Any:
            put = dict(zip(places, tensors, strict=True))
            some, named = tree_unflatten([put.get(i, leaf) for i, leaf in enumerate(leaves)], form)
            return func(*some, **named)

        value = func(*args, **kwargs)
        results = tree_flatten(value)[0]
        if not any(isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in results):
            return value  # a shape, a comparison
        if (found := self._rule(name, at, parts, args, kwargs)) is None:
            raise DecompositionError(f"Contextual decomposition has no rule for `{name}`, which the model calls.")
        if in_place:
            value, results = args[0].copy_(value), [args[0]]
        for leaf, its in zip(results, found, strict=False):
            self.parts[leaf] = its
        return value

    def _rule(self, name: str, at: Callable, parts: list[Parts], args: tuple, kwargs: dict) -> list[Parts] | None:
        """Return the parts of each result, or None where there is no rule."""
        if name == "lstm":
            return self._lstm(parts, *args)
        training = name == "batch_norm" and args[5]
        constant = name in ("div", "grid_sampler") and len(parts) == 1 and not kwargs and args[0] in self.parts
        random = name in DROPOUTS and args[2] and args[1] > 0
        affine = name in LINEAR | AFFINE | DROPOUTS or name == "batch_norm" or constant
        if (affine and not training and not random) or (name in PRODUCTS and len(parts) == 1):
            return _affine(at, parts)
        settled = [self._settled(its) for its in parts]
        if name in PRODUCTS and len(parts) == 2:
            (a, c), (b, d) = settled
            relevant, none = at(a, b), at(torch.zeros_like(a), torch.zeros_like(b))
            return [Parts(relevant - none, at(a, d) - none + at(c, b + d) - none, none)]
        if name in ELEMENTWISE and len(parts) == 1:
            return [_elementwise(name, at, *settled[0])]
        if "max_pool" in name or (name in ("amax", "max") and isinstance([*args, *kwargs.values()][1], int)):
            return [Parts(*_largest(name, args[0], settled[0], *args[1:], **kwargs))]
        return None

    def _settled(self, parts: Parts) -> tuple[Tensor, Tensor]:
        """Return β and γ with the bias shared between them."""
        if not bool(parts.bias.any()):
            return parts.relevant, parts.irrelevant
        share = self._share(parts.relevant.abs(), parts.irrelevant.abs())
        return parts.relevant + share * parts.bias, parts.irrelevant + (1 - share) * parts.bias

    def _share(self, relevant: Tensor, irrelevant: Tensor) -> Tensor:
        """Return the relevant share; where there is nothing of either, 1 if the subset is everything and else 0."""
        full = self._full.to(relevant.dtype)
        if bool((self._full == self._full[0]).all()):
            full = full[0]
        elif len(relevant) % len(full) == 0:
            full = full.repeat_interleave(len(relevant) // len(full)).reshape(-1, *[1] * (relevant.dim() - 1))
        else:
            raise DecompositionError(
                f"A tensor of shape {tuple(relevant.shape)} has no examples in its first dimension, of which there are "
                f"{len(full)}: explain subsets that are everything apart from others."
            )
        total = relevant + irrelevant
        return torch.where(total == 0, full, relevant / total)

    def _lstm(self, parts: list[Parts], *args: Any) -> list[Parts]:
        """Run the layers of an LSTM on both parts (Murdoch et al., 2018, section 3.2)."""
        if len(parts) > 1 or isinstance(args[3], (list, tuple)) or any(bool(state.any()) for state in args[1]):
            raise DecompositionError("`lstm` has a rule for a padded batch from a state of zeros: call it so.")
        _, _, weights, biases, depth, _, _, both_ways, batch_first = args
        ways, each = 2 if both_ways else 1, 4 if biases else 2
        if len(weights) != depth * ways * each:
            raise DecompositionError("`lstm` has no rule with a projection.")
        x, last = list(self._settled(Parts(*(t if batch_first else t.transpose(0, 1) for t in parts[0])))), []
        for place in range(0, depth * ways, ways):
            runs = [
                self._run(x, weights[(place + w) * each : (place + w + 1) * each], back=w == 1) for w in range(ways)
            ]
            x = [torch.cat(halves, dim=-1) for halves in zip(*(outputs for outputs, _ in runs), strict=True)]
            last += [state for _, state in runs]
        found = [x if batch_first else [t.transpose(0, 1) for t in x]]
        found += [[torch.stack(part) for part in zip(*states, strict=True)] for states in zip(*last, strict=True)]
        return [Parts(r, i, torch.zeros_like(r)) for r, i in found]

    def _run(self, x: list[Tensor], weights: Any, *, back: bool) -> tuple[list[Tensor], tuple]:
        """Run one layer in one direction; return its outputs, and its last h and c, each as β and γ."""
        w_ih, w_hh, *biases = weights
        bias = sum(biases) if biases else x[0].new_zeros(len(w_ih))
        inside = self._share(*(part.abs().sum(dim=-1, keepdim=True) for part in x))
        h = c = (x[0].new_zeros(len(x[0]), w_hh.shape[1]),) * 2
        outputs = []
        for t in range(x[0].shape[1])[:: -1 if back else 1]:
            drive = [F.linear(part[:, t], w_ih) + F.linear(state, w_hh) for part, state in zip(x, h, strict=True)]
            i, f, g, o = zip(*(part.chunk(4, dim=-1) for part in (*drive, bias)), strict=True)
            (i, i_0), (f, f_0), (g, g_0) = _gate(torch.sigmoid, *i), _gate(torch.sigmoid, *f), _gate(torch.tanh, *g)
            both = i_0 * g_0
            kept, whole = (f[0] + f_0) * c[0], c[0] + c[1]
            relevant = kept + i[0] * (g[0] + g_0) + i_0 * g[0] + inside[:, t] * both
            rest = (sum(f) + f_0) * whole - kept + i[1] * (sum(g) + g_0) + (i[0] + i_0) * g[1]
            c = relevant, rest + (1 - inside[:, t]) * both
            shown, _ = _gate(torch.tanh, *c, torch.zeros_like(relevant))
            h = tuple(torch.sigmoid(sum(o)) * part for part in shown)
            outputs.append(h)
        if back:
            outputs.reverse()
        return [torch.stack(steps, dim=1) for steps in zip(*outputs, strict=True)], (h, c)


def _affine(at: Callable, parts: list[Parts]) -> list[Parts]:
    """Return the parts after an affine function of all: what it adds joins the bias."""
    relevant, irrelevant, bias = (tree_flatten(at(*tensors))[0] for tensors in zip(*parts, strict=True))
    nothing = tree_flatten(at(*(torch.zeros_like(its.bias) for its in parts)))[0]
    return [Parts(r - n, i - n, b) for r, i, b, n in zip(relevant, irrelevant, bias, nothing, strict=True)]


def _elementwise(name: str, at: Callable, relevant: Tensor, irrelevant: Tensor) -> Parts:
    nothing = at(torch.zeros_like(relevant))
    if name == "relu":
        shown = at(relevant)
        return Parts(shown, at(relevant + irrelevant) - shown, nothing)
    (relevant, irrelevant), _ = _gate(at, relevant, irrelevant, torch.zeros_like(relevant))
    return Parts(relevant, irrelevant, nothing)


def _gate(function: Callable, relevant: Tensor, irrelevant: Tensor, bias: Tensor) -> tuple[tuple, Tensor]:
    """Return the parts of f(β + γ + b), and f(b): b comes first, the others before one another equally often."""
    begin, whole = function(bias), function(relevant + irrelevant + bias)
    one, other = function(relevant + bias), function(irrelevant + bias)
    return (0.5 * (one - begin + whole - other), 0.5 * (other - begin + whole - one)), begin


def _largest(name: str, whole: Tensor, parts: tuple[Tensor, Tensor], *args: Any, **kwargs: Any) -> list[Tensor]:
    """Return the parts at the places where the whole is largest, and no bias."""
    if "max_pool" in name:
        depth = int(name.removesuffix("_with_indices")[-2])
        place = getattr(F, f"{name.removesuffix('_with_indices')}_with_indices")(whole, *args, **kwargs)[1]
        found = [t.flatten(-depth).gather(-1, place.flatten(-depth)).reshape(place.shape) for t in parts]
    else:
        dim, keepdim = [*args, *kwargs.values(), False][:2]
        place = whole.argmax(dim=dim, keepdim=True)
        found = [t.gather(dim, place) if keepdim else t.gather(dim, place).squeeze(dim) for t in parts]
    return [*found, torch.zeros_like(found[0])]
