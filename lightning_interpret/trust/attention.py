"""Is attention an explanation? The debate as a measurement of one's own model, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.attention.debate import adversarial, permuted
from lightning_interpret.functional.attention.erasure import attention_gradient, until_flip, without_one
from lightning_interpret.functional.rank_tests import kendall_p_value
from lightning_interpret.functional.ranks import kendall
from lightning_interpret.names import check_seed, check_whole, choose
from lightning_interpret.tasks import Task, batches, find_task
from lightning_interpret.trust.attention_reading import Reading, each_batch, read_attention
from lightning_interpret.trust.attention_report import AttentionReport
from lightning_interpret.trust.attention_rows import PAIRS, AttentionRow, pair_name

PARTS = ("agreement", "permutation", "adversarial", "erasure")
_FEW = "fewer than two tokens that are neither special nor padding"


def attention_report(
    module: nn.Module,
    data: Any,
    task: Task | None = None,
    *,
    tokenizer: Any = None,
    inside: str | None = None,
    parts: Sequence[str] = PARTS,
    permutations: int = 100,
    candidates: int = 5,
    steps: int = 500,
    adversarial_texts: int | None = 100,
    seed: int = 0,
) -> AttentionReport:
    """Return how far a model's attention agrees with what its answers depend on, and whether other attention would do.

    Of each text (Jain and Wallace, 2019; Serrano and Smith, 2019):

    * ``agreement``: Kendall's τ-b of attention with gradients (attention held still) and with leave-one-out, over the
      tokens that are neither special nor padding; gradients with leave-one-out, and a random order with both, beside.
    * ``permutation``: how much the answer changes when the weights are shuffled.
    * ``adversarial``: how different attention can be while the answer stays.
    * ``erasure``: whether the largest weight decides, and how many must be erased until the decision flips.

    What is looked at and changed is the last attention that reaches the logits, from the positions that the head reads,
    each head by itself (:class:`~lightning_interpret.trust.attention_reading.Reading`). What modules compute before it
    is computed once and taken from there, if the answers are then the same; what follows is run for each change: of N
    texts ``permutations`` · N times for permutation, about four times a token for erasure, and for an adversary
    ``candidates`` · ``steps`` times with gradients. Leave-one-out takes a whole forward a token, and gradients one a
    class.

    The module is left as it was.

    Args:
        module: The model, on any device; it may be in training mode.
        data: A loader or list of batches, or one batch (a mapping, a tuple).
        task: How they are read; by default as :func:`~lightning_interpret.tasks.find_task` infers it.
        tokenizer: For a task that is inferred.
        inside: Name of a module: only attention that is made in there is looked at.
        parts: What is measured.
        permutations: Shuffles of each text.
        candidates: Distributions that an adversary tries at once.
        steps: Steps that it takes.
        adversarial_texts: How many texts have an adversary, the first ones; ``None`` for all.
        seed: Of the permutations, the starts of adversaries and random orders.

    Raises:
        AttentionError: If the model has no attention over the tokens that reaches its logits.
        ValueError: If an option is out of range, there is no text, or the model gives no probabilities.

    Example::

        report = attention_report(model, loader, tokenizer=tokenizer)
        print(report)
    """
    parts = (parts,) if isinstance(parts, str) else tuple(parts)
    for part in parts:
        choose("parts", part, PARTS)
    check_whole(1, permutations=permutations, candidates=candidates)
    check_whole(0, steps=steps, **({} if adversarial_texts is None else {"adversarial_texts": adversarial_texts}))
    check_seed(seed)
    task = find_task(module, task=task, tokenizer=tokenizer)
    device = next((weight.device for weight in module.parameters()), torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    rows: list[AttentionRow] = []
    site, read, by = "", "", "predicted"
    for batch in each_batch(data):
        with read_attention(module, batches.to(batch, device), task, inside=inside) as reading:
            left = None if adversarial_texts is None else max(0, adversarial_texts - len(rows))
            table = _Columns(reading, generator)
            if "agreement" in parts:
                table.agreement()
            if "permutation" in parts:
                table.permutation(permutations)
            if "adversarial" in parts:
                table.adversarial(candidates, steps, left)
            if "erasure" in parts:
                table.erasure()
            rows += table.rows()
            heads, positions = reading.site.weights.shape[1], reading.positions.shape[1]
            many = f"{heads} heads, from " + ("1 position" if positions == 1 else "each position") + " that is read"
            site, read = reading.site.name, "one distribution a text" if heads * positions == 1 else many
            by = "gold" if task.gold_names(batch) is not None else by
    if not rows:
        raise ValueError("`data` holds no batch: give a loader, a list of batches or one batch.")
    settings = {
        "parts": list(parts),
        "permutations": permutations,
        "candidates": candidates,
        "steps": steps,
        "adversarial_texts": adversarial_texts,
        "seed": seed,
    }
    return AttentionReport(type(module).__name__, site, read, by, settings, tuple(rows))


class _Columns:
    """What is measured of the texts of one batch, a list a column."""

    def __init__(self, reading: Reading, generator: torch.Generator) -> None:
        self._reading, self._generator = reading, generator
        self._texts = len(reading.weights)
        self._found: list[dict[str, Any]] = [{"reasons": {}} for _ in range(self._texts)]
        self._counted = reading.counts.sum(dim=1)

    def rows(self) -> list[AttentionRow]:
        """Return the rows of the batch."""
        task, batch, answer = self._reading.task, self._reading.batch, self._reading.answer
        predicted, gold, ids = task.names(answer), task.gold_names(batch), task.example_ids(batch)
        largest, tokens = self._reading.attention.amax(dim=1).tolist(), self._counted.tolist()
        return [
            AttentionRow(
                label=predicted[i] if gold is None or gold[i] is None else str(gold[i]),
                prediction=predicted[i],
                tokens=tokens[i],
                largest=largest[i],
                example_id=None if ids is None else ids[i],
                **self._found[i],
            )
            for i in range(self._texts)
        ]

    def agreement(self) -> None:
        """Compare the orders of tokens."""
        reading, counts = self._reading, self._reading.counts
        orders = {
            "attention": reading.attention,
            "gradient": reading.gradients(),
            "leave-one-out": reading.without_each(),
            "random": self._drawn(),
        }
        for pair in PAIRS:
            name, (first, second) = pair_name(*pair), (orders[each].double() for each in pair)
            tau = kendall(first, second, counts)
            p = kendall_p_value(tau, first, second, counts)
            for i, (each, chance) in enumerate(zip(tau.tolist(), p.tolist(), strict=True)):
                if each == each:
                    self._found[i].setdefault("tau", {})[name] = each
                    self._found[i].setdefault("p", {})[name] = chance
                else:
                    self._found[i]["reasons"][name] = self._why_no_order(i, {each: orders[each] for each in pair})

    def permutation(self, permutations: int) -> None:
        """Shuffle the weights."""
        reading = self._reading
        found = permuted(
            reading.weights,
            reading.respond,
            permutations=permutations,
            generator=self._generator,
            chunk=reading.chunk,
        )
        self._fill(permuted=found)

    def adversarial(self, candidates: int, steps: int, texts: int | None) -> None:
        """Look for other attention with the same answer, of so many texts."""
        reading, some = self._reading, slice(texts)
        found = adversarial(
            reading.weights[some],
            reading.respond,
            share=reading.share[some],
            candidates=candidates,
            steps=steps,
            generator=self._generator,
            chunk=reading.chunk,
        )
        self._fill(divergence=found.divergence, change=found.change)
        for each in self._found[len(found.change) :]:
            each["reasons"]["adversarial"] = "it comes after the first `adversarial_texts`"

    def erasure(self) -> None:
        """Erase weights: one, and one after the other."""
        reading, weights, counts = self._reading, self._reading.weights, self._reading.counts
        drawn = self._drawn().masked_fill(~counts, -1.0)
        top = reading.attention.masked_fill(~counts, -1.0).argmax(dim=1)
        other = drawn.scatter(1, top[:, None], -1.0).argmax(dim=1)
        moved, flips = zip(
            *(without_one(weights, places, reading.respond, chunk=reading.chunk) for places in (top, other)),
            strict=True,
        )
        slopes = attention_gradient(weights, reading.respond, chunk=reading.chunk)
        orders = {
            "attention": reading.attention,
            "gradient": slopes.sum(dim=1),
            "gradient x attention": (slopes * weights).sum(dim=1),
            "random": drawn,
        }
        erased = {
            name: until_flip(weights, scores, counts, reading.respond, chunk=reading.chunk).tolist()
            for name, scores in orders.items()
        }
        for i, each in enumerate(self._found):
            if self._counted[i] < 2:
                each["reasons"]["erasure"] = _FEW
                continue
            each["top_flips"], each["random_flips"] = (bool(flip[i]) for flip in flips)
            each["top_more"] = float(moved[0][i] - moved[1][i])
            each["erased"] = {name: counted[i] for name, counted in erased.items()}

    def _drawn(self) -> Tensor:
        drawn = torch.rand(self._reading.counts.shape, generator=self._generator)
        return drawn.to(self._reading.attention)

    def _fill(self, **columns: Tensor) -> None:
        for name, values in columns.items():
            for each, value in zip(self._found, values.tolist(), strict=False):
                each[name] = value

    def _why_no_order(self, text: int, orders: dict[str, Tensor]) -> str:
        if self._counted[text] < 2:
            return _FEW
        for name, scores in orders.items():
            values = scores[text][self._reading.counts[text]]
            if not bool(values.isfinite().all()):
                return f"{name} is not finite"
            if bool((values == values[0]).all()):
                return f"{name} is the same on every token"
        return "nothing to order"
