"""The scope in which relevance is propagated: it meets every operation on what is explained, or refuses it by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from lightning_interpret.functional.operations import Meeting, operation, tensors_in
from lightning_interpret.functional.relevance.ledger import Ledger
from lightning_interpret.functional.relevance.rule import Rule

_CURRENT: ContextVar[Scope | None] = ContextVar("lightning_interpret_relevance", default=None)


class RelevanceError(ValueError):
    """An operation for which there is no rule: a number that passed through it would be wrong."""


class Scope(Meeting):
    """One forward pass under the rules, and what its backward pass finds.

    Attributes:
        rule: The rule that holds where the forward is now.
        ledger: Where relevance went that did not reach the inputs.
    """

    def __init__(self, rule: Rule, module: nn.Module | None) -> None:
        super().__init__()
        self.rule, self.module, self.ledger = rule, module, Ledger()
        self._refused: dict[int, tuple[Any, str]] = {}
        self._met: dict[int, tuple[Any, bool]] = {}  # nodes of the graph, kept alive, so that an id stays theirs

    @property
    def here(self) -> bool:
        """Whether the code that runs now runs in this scope: hooks of modules are called in every thread."""
        return _CURRENT.get() is self

    def relevance(self, score: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return R = x ⊙ g of each of ``inputs``, with g as of :meth:`gradients`."""
        return tuple(x.detach() * g for x, g in zip(inputs, self.gradients(score, *inputs), strict=True))

    def gradients(self, score: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return g of each of ``inputs``, the gradient under the rules, and fill :attr:`ledger`; one backward pass.

        Args:
            score: F(x), ``(N,)``, computed in the scope.
            inputs: Tensors that require a gradient: leaves, or what was computed from them in the scope.

        Raises:
            RelevanceError: If the score, or anything before it, came by an operation that was not met.
            ValueError: If no path leads from the inputs to the score.
        """
        if not score.requires_grad:
            raise ValueError(
                "No relevance reaches the layer: the model runs what follows it under `no_grad` or detaches it, or "
                "uses another of its outputs than the first. Choose a layer after that place."
            )
        self._check_met(score, "the score")
        self.ledger.open(len(score) if score.dim() else 1)
        return torch.autograd.grad(score.sum(), inputs, allow_unused=True, materialize_grads=True)

    def watch(self, output: Tensor, act: Callable[[Tensor], Tensor | None]) -> None:
        """Call ``act`` with the gradient of ``output``; what it returns, if anything, takes the gradient's place."""
        if output.requires_grad:
            output.register_hook(act)

    def absorb(self, kind: str, output: Tensor, constant: Tensor) -> None:
        """Enter what ``constant``, a summand of ``output``, takes of its relevance."""
        constant = constant.detach()
        shared = (
            constant.dim() < output.dim() - 1 and constant.dim() > 0
        )  # the same at every place: they are added first

        def act(gradient: Tensor) -> None:
            if shared:
                gradient = gradient.flatten(1, gradient.dim() - constant.dim() - 1).sum(dim=1)
            taken = gradient * constant
            if kind == "constants":  # −∞ where attention is masked: no gradient comes from there
                taken = taken.masked_fill(gradient == 0, 0.0)
            self.ledger.add(kind, taken)

        self.watch(output, act)

    def mark(self, output: Any, *, gate: bool = False) -> None:
        """Remember that the tensors in ``output`` came by operations that were met."""
        for tensor in tensors_in(output):
            node = tensor.grad_fn
            if node is not None and (gate or id(node) not in self._met):
                self._met[id(node)] = (node, gate)

    def is_gate(self, tensor: Tensor) -> bool:
        """Whether a tensor is the output of a gate: a sigmoid, or what keeps being one."""
        return self._met.get(id(tensor.grad_fn), (None, False))[1]

    def refuse(self, name: str, why: str) -> NoReturn:
        """Raise for an operation without a rule; the message names it and the module that called it."""
        raise RelevanceError(self._refusal(name, why))

    def _refusal(self, name: str, why: str) -> str:
        return (
            f"Layer-wise relevance propagation cannot pass `{name}`{self._place()}: {why}. Explain a layer after it "
            "(`layer=`), or use a method that needs no rules, such as 'integrated_gradients'."
        )

    def _check_met(self, tensor: Tensor, name: str) -> None:
        node = tensor.grad_fn
        if node is None or id(node) in self._met:
            return
        if id(node) in self._refused:
            raise RelevanceError(self._refused[id(node)][1])
        self.refuse(
            node.name(),
            f"{name} came by an operation that is no function of torch (an `autograd.Function`, a scripted function, "
            "or one called outside of the scope)",
        )

    def _place(self) -> str:
        frame = sys._getframe(1)
        names = {} if self.module is None else {part: name for name, part in self.module.named_modules()}
        while frame is not None:
            caller = frame.f_locals.get("self")
            if isinstance(caller, nn.Module) and caller is not self.module:
                named = f" `{names[caller]}`" if caller in names else ""
                return f" (called by {type(caller).__name__}{named})"
            frame = frame.f_back  # type: ignore[assignment]
        return ""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Run one operation."""
        from lightning_interpret.functional.relevance.operations import IN_PLACE, KEEP_GATES, OPERATIONS

        kwargs = kwargs or {}
        name, in_place = operation(func)
        tracked = [tensor for tensor in tensors_in((args, kwargs)) if tensor.requires_grad]
        asked = name not in OPERATIONS and getattr(func, "__name__", "") in ("__get__", "__set__")
        if not asked and any(isinstance(tensor, nn.Parameter) for tensor in tracked):
            args, kwargs = tree_map_only(nn.Parameter, Tensor.detach, (args, kwargs))
            tracked = [tensor for tensor in tracked if not isinstance(tensor, nn.Parameter)]
        if not tracked or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        if (run := self.opened(func)) is not None:
            return run(*args, **kwargs)
        if name not in OPERATIONS:
            return self._unmet(name, func, args, kwargs)
        if in_place and name not in IN_PLACE:
            self.refuse(name, "it works in place; use the form that returns a new tensor")
        for tensor in tracked:
            self._check_met(tensor, f"what `{name}` takes")
        gate = name in KEEP_GATES and all(map(self.is_gate, tracked))
        output = OPERATIONS[name](self, func, args, kwargs)
        self.mark((output, args[0], args[0]._base) if in_place else output, gate=gate)
        return output

    def _unmet(self, name: str, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Call a function that has no rule: a question, an index, a constant, or refused where its output is used."""
        output = func(*args, **kwargs)
        if name == "set" and any(tensor.requires_grad for tensor in tensors_in(args[1:])):
            self.refuse(name, "an attribute of a tensor is written")
        for tensor in tensors_in(output):
            if tensor.requires_grad and id(tensor.grad_fn) not in self._met:
                why = self._refusal(getattr(func, "__name__", name), "there is no rule for it")
                self._refused.setdefault(id(tensor.grad_fn), (tensor.grad_fn, why))
        return output


@contextmanager
def relevance(
    module: nn.Module | None = None, rule: Rule | str = "attn_lrp", *, layers: Mapping[str, Rule] | None = None
) -> Iterator[Scope]:
    """Run a block in which every operation on tensors that require a gradient has the backward pass of LRP.

    Values are those of the model, bit by bit. Parameters are constants; so is what is computed under ``no_grad``.

        >>> from torch import nn
        >>> x, net = torch.ones(1, 2, requires_grad=True), nn.Linear(2, 1, bias=False)
        >>> with relevance(net, "epsilon") as scope:
        ...     score = net(x)[:, 0]
        >>> (found,) = scope.relevance(score, x)
        >>> bool(torch.allclose(found.sum(), score))
        True

    Args:
        module: The module that runs in the block. Given, its activations that are made of several functions (GPT-2's
            GELU) are met as a whole, by hooks that act in this scope alone and are removed at its end.
        rule: A :class:`Rule`, or the name of one with its defaults.
        layers: Rules of parts of the module, by the parts' names.

    Raises:
        RelevanceError: In the block, if an operation has no rule.
        ValueError: If a name does not exist.
    """
    from lightning_interpret.functional.relevance.modules import follow_layers, meet_activations

    scope = Scope(Rule.named(rule) if isinstance(rule, str) else rule, module)
    with ExitStack() as stack:
        if module is not None:
            stack.enter_context(meet_activations(scope, module))
            stack.enter_context(follow_layers(scope, module, layers or {}))
        elif layers:
            raise ValueError(f"`layers={sorted(layers)}` needs the `module` whose parts they are.")
        token = _CURRENT.set(scope)
        stack.callback(_CURRENT.reset, token)
        stack.enter_context(scope)
        yield scope
