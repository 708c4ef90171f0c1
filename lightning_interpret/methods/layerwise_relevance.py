"""Layer-wise relevance propagation: the prediction handed back through the model, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.explanations import Attribution
from lightning_interpret.functional.relevance import Rule, relevance
from lightning_interpret.methods.base import Method
from lightning_interpret.methods.case import Case, open_case
from lightning_interpret.names import choose
from lightning_interpret.tasks import Task

#: By how much what is told of a row may miss F(x), as a share of all that was told of it (single precision).
ROUNDING = 1e-3
RULES = ("attn_lrp", "cp_lrp", "epsilon", "gamma", "alpha1_beta0")


@dataclass(frozen=True)
class LayerwiseRelevance(Method):
    """R = x ⊙ g, with g the gradient under the rules of layer-wise relevance propagation (LRP; Bach et al., 2015).

    The prediction F(x) is handed back from each output to its inputs by how much they contributed to it. Its implicit
    baseline is no relevance, F = 0: the target is F(x) itself. What does not reach the layer is in ``absorbed``: what
    biases, constants (position embeddings) and the stabiliser ε took, and what AttnLRP's rule for softmax does not
    hand on; F(x) = Σ scores + Σ absorbed. The model runs as it is, and an operation without a rule is refused by name.
    ``docs/relevance.md`` has the rules, the models that were tried, and a remark on patents.

    Args:
        rule: ``attn_lrp`` (Achtibat et al., 2024) or ``cp_lrp`` (Ali et al., 2022) for transformers; ``epsilon``,
            ``gamma`` or ``alpha1_beta0`` (Bach et al., 2015; Montavon et al., 2019) for nets without attention.
        epsilon: Stabiliser ε of the linear layers. 0, the default, is LRP-0: nothing is divided by an input, so that
            it needs none. A larger one takes relevance from what is next to 0.
        gamma: γ of the linear layers; by default 0.25 with ``rule="gamma"`` and 0 with the rules for transformers.
        bias: ``absorb``: a bias keeps its share. ``share``: linear and recurrent layers hand theirs, and that of ε, to
            their inputs in equal parts (Arras et al., 2017); not meant for models with residual connections.
        error_floor: Floor τ of the relative error's denominator, in units of the output.
        internal_batch_size: Examples in one pass; by default as many as make 2,048 tokens (4,096 on a GPU).

    Raises:
        ValueError: If an option is out of its range; on a call, if the output is a probability, and (a
            :class:`~lightning_interpret.functional.relevance.RelevanceError`) if an operation has no rule.
    """

    name: ClassVar[str] = "layerwise_relevance"
    implicit_baseline: ClassVar[str | None] = "no relevance (F = 0)"
    rule: Literal["attn_lrp", "cp_lrp", "epsilon", "gamma", "alpha1_beta0"] = "attn_lrp"
    epsilon: float = 0.0
    gamma: float | None = None
    bias: Literal["absorb", "share"] = "absorb"
    error_floor: float = 0.01
    internal_batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("rule", self.rule, RULES)
        self._rules()

    def check(self, module: nn.Module, task: Task, layers: Sequence[str], output: str) -> None:
        """Refuse probabilities, which are no sums of scores."""
        if output not in ("logit", "margin"):
            raise ValueError(
                f"`output={output!r}` is no sum of scores, which is what relevance is handed back from: explain "
                "'logit' or 'margin', or use a method that needs no rules, such as 'integrated_gradients'."
            )

    def attribute(
        self, module: nn.Module, batch: Any, task: Task, layer: str | None, which: str, output: str
    ) -> Attribution:
        """Return the relevance of each unit of one layer."""
        with open_case(
            module, batch, task, layer=layer, which=which, output=output, baseline=None, chunk=self.internal_batch_size
        ) as case:
            gradients, absorbed = self.gradients(module, case)
            scores = case.to_units(case.inputs * gradients)
            target = case.target.double()
            errors = case.errors(scores, self.error_floor, attribution_target=target)
            errors |= {"baseline": self.implicit_baseline, "baseline_target": torch.zeros_like(target)}
            why = "relevance is handed back once: it has no steps to refine"
            one = torch.ones(len(scores), dtype=torch.long)
            return case.record(
                self,
                scores,
                steps=one,
                gradients=one,
                absorbed=told_apart(absorbed, errors["error"], scores),
                reasons=dict.fromkeys(("converged", "partial_error"), why),
                **errors,
            )

    def gradients(self, module: nn.Module, case: Case) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """Return g of all rows ``(N, *shape)``, R = x ⊙ g, and for each pass what was absorbed by its rows."""
        found, absorbed = [], []
        for rows in torch.arange(len(case.inputs), device=case.inputs.device).split(case.chunk):
            points = case.inputs[rows].detach().requires_grad_()
            with relevance(module, self._rules()) as scope:
                score = case.score(points, rows)
            found.append(scope.gradients(score, points)[0])
            absorbed.append(scope.ledger.absorbed | {"": torch.zeros(len(rows))})
        return torch.cat(found), absorbed

    def _rules(self) -> Rule:
        return Rule.named(self.rule, epsilon=self.epsilon, gamma=self.gamma, bias=self.bias)


def told_apart(passes: list[dict[str, Tensor]], error: Tensor, scores: Tensor) -> tuple[dict[str, float], ...]:
    """Return what absorbed relevance in each row, by name.

    A model may put other things than examples first inside (time, in a recurrent layer). Where what was found there
    does not add up for a row, its entry is one: what is missing from its scores.
    """
    rows = [
        {kind: float(amount[i]) for kind, amount in found.items() if kind}
        for found in passes
        for i in range(len(found[""]))
    ]
    for i, row in enumerate(rows):
        missing = -float(error[i])
        told = sum(abs(amount) for amount in row.values()) + float(scores[i].abs().sum()) + abs(missing)
        if not abs(sum(row.values()) - missing) <= ROUNDING * told:
            rows[i] = {"not told apart by row": missing}
    return tuple(rows)
