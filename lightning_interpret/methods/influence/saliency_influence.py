"""Influence on a saliency: which training examples made a word of the query matter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_interpret.explanations import Units
from lightning_interpret.functional.features import LayerError, features, find_layer, same_layer
from lightning_interpret.functional.influence.blocks import Block, Gradient
from lightning_interpret.functional.influence.checkpoints import Checkpoints
from lightning_interpret.functional.influence.optimizers import Optimizers
from lightning_interpret.functional.influence.saliency import SALIENCIES, at_positions, saliency, strongest
from lightning_interpret.methods.describe import described
from lightning_interpret.methods.examples import Examples
from lightning_interpret.methods.influence.base import Fitted, InfluenceMethod, Measure, SecondOrder, influence_named
from lightning_interpret.names import check_whole, choose
from lightning_interpret.tasks import OUTPUTS, Targets, Task, batches
from lightning_interpret.tasks.images import ImageTask


@dataclass(frozen=True, kw_only=True)
class SaliencyInfluence(InfluenceMethod):
    """How removing a training example would change the saliency of a token of the query (Meng et al., 2020).

    The influence of another method, with the saliency s in the place of the query's loss: ∇_θ sᵀ H⁻¹ ∇_θ ℓ / n.
    Positive: without the example the saliency would be higher. So where s > 0, the examples that made the token matter
    have negative scores, and are the ``harmful`` ones of the record; where s < 0, the ``helpful`` ones. The token, and
    the class that is explained, are those of the weights as they are. Each token is a row, and costs a backward pass
    through the gradient that its saliency is made of; special tokens and padding are never chosen.

    Args:
        saliency: ``"gradient_times_input"``, which has a sign, or the size of the gradient: ``"l2"`` or ``"mean_abs"``.
        influence: The method whose curvature and training gradients are used, or its name.
        tokens: ``"strongest"`` by absolute value, or positions among the text's own tokens, from 0.
        top_tokens: How many of the strongest of each query; a Monitor shows one.
        layer: Name of the layer whose features the saliency is of; by default the task's (the word embeddings).
        which: What is explained: ``predicted``, ``gold``, a label, or a contrast ``A-B``.
        output: ``logit``, ``log_prob``, ``prob`` or ``margin``.
        layers: Whose parameters are covered, of a method given by name: ``"all"``, ``"last"``, or names of modules.
        seed: Of a method given by name: seed of what is drawn.

    Raises:
        ValueError: If a name does not exist or an option is out of its range; when queries are scored, if the layer has
            no features of tokens, or the method is one of projections, which cannot take such a gradient.
    """

    name: ClassVar[str] = "saliency_influence"
    of_loss: ClassVar[bool] = False
    saliency: Literal["gradient_times_input", "l2", "mean_abs"] = "gradient_times_input"
    influence: str | InfluenceMethod = "exact"
    tokens: Literal["strongest"] | Sequence[int] = "strongest"
    top_tokens: int = 1
    layer: str | None = None
    which: str = "predicted"
    output: Literal["logit", "log_prob", "prob", "margin"] = "logit"
    layers: str | Sequence[str] = "last"

    def __post_init__(self) -> None:
        """Refuse options that do not exist, or not together."""
        super().__post_init__()
        choose("saliency", self.saliency, SALIENCIES)
        choose("output", self.output, OUTPUTS)
        check_whole(top_tokens=self.top_tokens)
        if isinstance(self.tokens, str):
            choose("tokens", self.tokens, ("strongest",))
            return
        whole = [isinstance(place, int) and not isinstance(place, bool) and place >= 0 for place in self.tokens]
        if not whole or not all(whole):
            raise ValueError(f"`tokens={self.tokens!r}` must be 'strongest' or positions, whole numbers from 0.")
        if self.top_tokens != 1:
            raise ValueError(f"`top_tokens={self.top_tokens}` is of the strongest: leave it out, or `tokens`.")

    @property
    def whole_only(self) -> str | None:
        """Why its scores are no means over the tokens of an example, and what to use instead; None where they are."""
        return "a saliency is no mean over tokens: use the method of `influence` alone"

    def fit(
        self,
        module: nn.Module,
        examples: Any,
        task: Task,
        *,
        weight_decay: float = 0.0,
        optimizer: Optimizers | None = None,
        checkpoints: Checkpoints = (),
    ) -> Fitted:
        """Return what scores queries, the influence method fitted."""
        given: dict[str, Any] = {"weight_decay": weight_decay, "optimizer": optimizer, "checkpoints": checkpoints}
        found = _Saliency(self, self._method().fit(module, examples, task, **given))
        found.whole_only = self.whole_only
        return found

    def fitted(
        self, module: nn.Module, examples: Examples, task: Task, blocks: list[Block], weight_decay: float
    ) -> Fitted:
        """Return what :meth:`fit` does, without what a run has to give."""
        return self.fit(module, examples, task, weight_decay=weight_decay)

    def check(self, module: nn.Module, task: Task) -> None:
        """Raise for several tokens a query, of which a Monitor shows one, and for what could not be explained."""
        count = self.top_tokens if isinstance(self.tokens, str) else len(self.tokens)
        if count > 1:
            option = f"top_tokens={self.top_tokens}" if isinstance(self.tokens, str) else f"tokens={self.tokens!r}"
            raise ValueError(
                f"`{option}` makes {count} rows of each query, and a Monitor shows one: ask for one token."
            )
        if isinstance(task, ImageTask):
            raise ValueError(f"`method='saliency_influence'` is of tokens, and {type(task).__name__} reads images.")
        if task.view in ("grid", "entities") or (task.view == "labels" and self.which in ("predicted", "gold")):
            raise ValueError(_several(self.which, task))
        if self.layer is not None:
            find_layer(module, self.layer)
        task.check(module, self.which, None)
        self._method().check(module, task)

    def _method(self) -> InfluenceMethod:
        options = {"layers": self.layers, "seed": self.seed} if isinstance(self.influence, str) else {}
        return influence_named(self.influence, **options)


@dataclass(frozen=True)
class _Chosen(SecondOrder):
    """The saliency of chosen tokens of a batch, of a target that stays what it is.

    Attributes:
        row: Long ``(M,)``, the example.
        place: Long ``(M,)``, the column of its token.
        there: Bool ``(M,)``; 0 is measured where there is no such token.
    """

    method: SaliencyInfluence
    task: Task
    targets: Targets
    row: Tensor
    place: Tensor
    there: Tensor

    def __call__(self, module: nn.Module, batch: Any) -> Tensor:
        values, _ = _saliencies(self.method, module, batch, self.task, self.targets)
        return values[self.row, self.place].where(self.there, 0.0)


class _Saliency(Fitted):
    def __init__(self, method: SaliencyInfluence, inner: Fitted) -> None:
        super().__init__(inner.module, inner.examples, inner.task, inner.blocks)
        self.method, self.inner, self.total, self.keeps = method, inner, inner.total, inner.keeps
        self._state()

    def asked(
        self, batch: Any, measure: Measure | None = None, *, summed: bool = False
    ) -> tuple[list[dict[str, Any]], list[Gradient | None]]:
        """Return what there is to say of each token chosen, and the gradients of its saliency."""
        if measure is not None:
            raise ValueError("`measure` is the saliency of a token here: leave it out, or ask another method.")
        batch = batches.to_full_precision(batch)
        with torch.no_grad():
            targets = self.task.resolve(self.task.logits(self.module, batch), batch, self.method.which)
        if targets.example.tolist() != list(range(batches.batch_size(batch))):
            raise ValueError(_several(self.method.which, self.task))
        values, units = _saliencies(self.method, self.module, batch, self.task, targets)
        values, own = values.detach(), ~(units.special | units.padding)
        allowed, tokens = own.to(values.device), self.method.tokens
        row, place, there = (
            strongest(values, allowed, self.method.top_tokens)
            if isinstance(tokens, str)
            else at_positions(allowed, tokens)
        )
        chosen = _Chosen(self.method, self.task, targets, row, place, there)
        found = self.inner.gradients(batch, chosen, summed=summed)
        if summed:
            return [{}] * len(row), found
        facts, said = described(self.module, batch, self.task), []
        number = own.long().cumsum(dim=1) - 1
        what = f"{self.method.saliency} of the {self.method.output} of"
        for i, t, found_there in zip(row.tolist(), place.tolist(), there.tolist(), strict=True):
            if found_there:
                token, value = units.texts[i][t], float(values[i, t])
                note = (
                    f"token {token!r} (number {int(number[i, t])}): saliency {value:+.4g}, {what} {targets.name[i]!r}"
                )
                said.append(facts[i] | {"measure": f"saliency of token {token!r}", "notes": (note,)})
            else:
                said.append(facts[i] | {"notes": ("the text has no such token of its own: there is nothing to score",)})
        return said, found

    def gradients(self, batch: Any, measure: Measure | None = None, *, summed: bool = False) -> list[Gradient | None]:
        """Return the gradients of the saliency of each token chosen."""
        return self.asked(batch, measure, summed=summed)[1]

    def stream(
        self, queries: list[Gradient | None], examples: Iterable[tuple[Tensor, Any]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self.inner.stream(queries, examples)
        self._state()  # whether a solver converged is known by now

    def read(self, source: Examples) -> Iterator[tuple[Tensor, Any]]:
        return self.inner.read(source)

    def own(self, batch: Any) -> Tensor:
        """Return each example's influence on its own loss, by the influence method."""
        return self.inner.own(batch)

    def self_influence(self, examples: Any = None) -> tuple[Tensor, Tensor]:
        """Return the ids and each example's influence on its own loss, by the influence method."""
        return self.inner.self_influence(examples)

    def _state(self) -> None:
        stated = self.inner.approximation
        notes = (*stated.notes, f"influence by {stated.method!r}, on a saliency in the place of the loss")
        named = replace(stated, method=self.method.name, notes=notes)
        self.approximation = named.of("saliency of the queries' tokens")


def _several(which: str, task: Task) -> str:
    return (
        f"'saliency_influence' is of the one target of an example, and `which={which!r}` of {type(task).__name__} "
        "means several: name one label or number, or use 'ekfac', of tags and outputs with `per_token=True`."
    )


def _saliencies(
    method: SaliencyInfluence, module: nn.Module, batch: Any, task: Task, targets: Targets
) -> tuple[Tensor, Units]:
    """Return the saliency of each token ``(B, T)``, with its graph in the weights that require one, and the units.

    Raises:
        LayerError: If the layer has no features of tokens, or no gradient of the score reaches it.
    """
    words, units = task.layer(module), task.units(batch)
    layer = words if method.layer is None or same_layer(module, method.layer, words) else method.layer

    def forward() -> Tensor:
        return task.logits(module, batch)

    shape = (len(units.padding), *units.shape) if units.kind == "token" and layer == words else None
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # the fused kernels have no second derivative
        opened, _, _ = stack.enter_context(features(module, layer, forward, units=shape))
        _, values = opened.read(forward)
        layout = task.layout(module, batch, values, layer)
        if layout.units.kind != "token":
            raise LayerError(
                f"`layer={layer!r}` has features {tuple(values.shape)} of no tokens, whose saliency this is: choose a "
                "layer whose output is (batch, tokens, dimensions)."
            )
        values = values if values.requires_grad else values.detach().requires_grad_()
        score = task.score(opened.put(values, forward), targets, method.output)
        if not score.requires_grad:
            raise LayerError(
                f"`layer={layer!r}`: no gradient of the score reaches it, as the model runs what follows under "
                "`no_grad` or detaches it. Choose a layer after that place."
            )
        return saliency(score, values, layout.per_unit, method.saliency), layout.units
