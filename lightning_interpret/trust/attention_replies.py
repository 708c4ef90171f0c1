"""Replies to "attention is not explanation" (Wiegreffe and Pinter, 2019): other seeds, and a trained adversary."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.attention.debate import adversary_loss
from lightning_interpret.functional.attention.distances import jensen_shannon, total_variation
from lightning_interpret.functional.attention.scope import Site, attention
from lightning_interpret.names import check_positive, check_whole
from lightning_interpret.report import markdown, terminal
from lightning_interpret.tasks import Task, batches, find_task
from lightning_interpret.trust.attention_reading import each_batch, probabilities, read_attention
from lightning_interpret.trust.attention_rows import ALL


@dataclass(frozen=True)
class ComparedRow:
    """One text, by several models: means over their pairs.

    Attributes:
        label: Its gold class, or the one that the first model predicts where the batch has no labels.
        divergence: Jensen-Shannon divergence between their attention, nats.
        change: Total variation between their answers.
        same: Share of the pairs with the same decision.
        example_id: Its id in the data set.
    """

    label: str
    divergence: float
    change: float
    same: float
    example_id: int | None = None


@dataclass(frozen=True)
class ComparedAttention:
    """How far the attention of several models is apart on the same texts, and their answers.

    Attributes:
        models: How many models.
        rows: One for each text.
    """

    models: int
    rows: tuple[ComparedRow, ...]

    def summary(self) -> dict[str, dict[str, float | int]]:
        """Return mean and standard deviation of the divergence, mean change and agreement, of each class and of all."""
        labels = [*sorted({row.label for row in self.rows}), ALL]
        found: dict[str, dict[str, float | int]] = {}
        for label in labels:
            rows = [row for row in self.rows if label in (row.label, ALL)]
            divergences = [row.divergence for row in rows]
            found[label] = {
                "divergence": statistics.fmean(divergences),
                "std": statistics.pstdev(divergences),
                "change": statistics.fmean(row.change for row in rows),
                "same": statistics.fmean(row.same for row in rows),
                "texts": len(rows),
            }
        return found

    def __str__(self) -> str:
        return f"{self._title()}\n\n{terminal.table(self._heads(), self._lines())}"

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [[markdown.escape(cell) for cell in line] for line in self._lines()]
        return f"**{self._title()}**\n\n{markdown.table(self._heads(), lines)}"

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON holds it, its summary included."""
        rows = [asdict(row) for row in self.rows]
        known = {"schema": 1, "kind": "compared_attention", "models": self.models}
        return known | {"summary": self.summary(), "rows": rows}

    def to_json(self) -> str:
        """Return the comparison as a line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def _title(self) -> str:
        return f"Attention of {self.models} models on the same texts (divergence in nats, of at most 0.693)"

    def _heads(self) -> list[str]:
        return ["class", "divergence", "change of the answer", "same decision", "texts"]

    def _lines(self) -> list[list[str]]:
        return [
            [
                label,
                f"{each['divergence']:.3f} ± {each['std']:.3f}",
                f"{each['change']:.3f}",
                f"{each['same']:.1%}",
                str(each["texts"]),
            ]
            for label, each in self.summary().items()
        ]


def compare_attention(
    modules: Sequence[nn.Module],
    data: Any,
    task: Task | None = None,
    *,
    tokenizer: Any = None,
    inside: str | None = None,
) -> ComparedAttention:
    """Return how far the attention of several models is apart, over every pair of them, and how far their answers.

    Given models of several seeds it is what chance alone does, and what a divergence of adversarial attention is to be
    held against (Wiegreffe and Pinter, 2019, section 3.4). Of several heads and positions their mean is compared: those
    of two models have nothing to do with one another one by one.

    Args:
        modules: The models, two or more, on one device.
        data: A loader or list of batches, or one batch.
        task: How they are read; by default as :func:`~lightning_interpret.tasks.find_task` infers it of the first.
        tokenizer: For a task that is inferred.
        inside: Name of a module: only attention that is made in there is looked at.

    Raises:
        AttentionError: If a model has no attention over the tokens that reaches its logits.
        ValueError: If there are fewer than two models, or no batch.
    """
    if len(modules) < 2:
        raise ValueError(f"`modules` holds {len(modules)}: give two or more, such as models of several seeds.")
    rows: list[ComparedRow] = []
    task = find_task(modules[0], task=task, tokenizer=tokenizer)
    device = next((weight.device for weight in modules[0].parameters()), torch.device("cpu"))
    for batch in each_batch(data):
        batch = batches.to(batch, device)
        seen, answers = [], []
        for module in modules:
            with read_attention(module, batch, task, inside=inside) as reading:
                seen.append(reading.attention.double())
                answers.append(reading.answer.double())
        pairs = torch.tensor(list(combinations(range(len(modules)), 2)), device=device).T
        (one, other), (first, second) = (torch.stack(each)[pairs] for each in (seen, answers))
        same = (first.argmax(dim=-1) == second.argmax(dim=-1)).double()
        columns = [
            each.mean(dim=0).tolist() for each in (jensen_shannon(one, other), total_variation(first, second), same)
        ]
        predicted, gold, ids = task.names(answers[0]), task.gold_names(batch), task.example_ids(batch)
        labels = [name if gold is None or gold[i] is None else gold[i] for i, name in enumerate(predicted)]
        rows += map(ComparedRow, labels, *columns, ids or [None] * len(labels))
    if not rows:
        raise ValueError("`data` holds no batch: give a loader, a list of batches or one batch.")
    return ComparedAttention(len(modules), tuple(rows))


def train_adversary(
    adversary: nn.Module,
    base: nn.Module,
    data: Any,
    task: Task | None = None,
    *,
    strength: float = 1e-3,
    epochs: int = 8,
    learning_rate: float = 1e-3,
    tokenizer: Any = None,
    inside: str | None = None,
) -> list[float]:
    """Train a model to answer as another does with other attention, and return the mean loss of each epoch.

    One adversary for all texts, in place of one distribution a text: what cannot be learned like that, attention was
    needed for (Wiegreffe and Pinter, 2019, section 4). The loss is that of
    :func:`~lightning_interpret.functional.attention.debate.adversary_loss`; the base is read and left as it was. What
    came of it is said by :func:`compare_attention` of the two, on texts that it was not trained on.

    Args:
        adversary: A model of the base's architecture with weights of its own, freshly made; it is trained in place.
        base: The model whose answers it learns.
        data: A loader or a list of batches, passed through once an epoch; labels are not used.
        task: How both are read.
        strength: λ, what a nat of divergence is worth in answers.
        epochs: Passes over the data.
        learning_rate: Of Adam.
        tokenizer: For a task that is inferred.
        inside: Name of a module: only attention that is made in there is looked at.

    Raises:
        AttentionError: If the base has no attention over the tokens that reaches its logits.
        ValueError: If an option is out of range, the two are one or share weights that would be trained, there is no
            batch, or the adversary is of another architecture.
    """
    check_whole(1, epochs=epochs)
    check_positive(strength=strength, learning_rate=learning_rate)
    if adversary is base:
        raise ValueError("`adversary` is the base itself: give a model of its own, of the same architecture.")
    theirs = {id(weight) for weight in base.parameters()}
    shared = [name for name, weight in adversary.named_parameters() if weight.requires_grad and id(weight) in theirs]
    if shared:
        raise ValueError(
            f"`adversary` shares {len(shared)} weights with the base, such as `{shared[0]}`, which would be trained "
            "with it: give it weights of its own, or freeze those (`requires_grad_(False)`)."
        )
    task = find_task(base, task=task, tokenizer=tokenizer)
    device = next((weight.device for weight in base.parameters()), torch.device("cpu"))
    optimizer = torch.optim.Adam([weight for weight in adversary.parameters() if weight.requires_grad], learning_rate)
    flags, means = [(part, part.training) for part in adversary.modules()], []
    adversary.train()
    try:
        for _ in range(epochs):
            losses = []
            for batch in each_batch(data):
                batch = batches.to(batch, device)
                with read_attention(base, batch, task, inside=inside) as reading:
                    pass
                with torch.inference_mode(False), torch.enable_grad():
                    with attention(adversary, inside=inside) as met:
                        answered = probabilities(task, task.logits(adversary, batches.clone(batch)))
                    own = _same_site(met.weights, reading.site)
                    found = answered, reading.picked(own), reading.answer, reading.weights
                    loss = adversary_loss(*found, strength=strength, share=reading.share).mean()
                    optimizer.zero_grad()
                    loss.backward()
                optimizer.step()
                losses.append(float(loss.detach()))
            if not losses:
                raise ValueError("`data` holds no batch: give a loader or a list of batches, not an iterator spent.")
            means.append(statistics.fmean(losses))
    finally:
        for part, flag in flags:
            part.training = flag
    return means


def _same_site(met: Sequence[Site], base: Site) -> Tensor:
    """Return the adversary's weights at a site of the base."""
    if base.number >= len(met) or met[base.number].weights.shape != base.weights.shape:
        seen = [tuple(site.weights.shape) for site in met]
        raise ValueError(
            f"`adversary` attends with shapes {seen}, and the base with {tuple(base.weights.shape)} at place "
            f"{base.number} (`{base.name}`): give a model of the same architecture."
        )
    return met[base.number].weights
