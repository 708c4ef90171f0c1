"""What a model writes of a batch, and what is measured of it: the rows of a GeneratedRationale, and figures to log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.overlap import word_f1
from lightning_interpret.functional.tokens import Tokens
from lightning_interpret.methods.describe import described
from lightning_interpret.metrics.mean_of_examples import Mean
from lightning_interpret.rationales import GeneratedRationale, GeneratedRow
from lightning_interpret.tasks import batches

if TYPE_CHECKING:
    from lightning_interpret.mixins.generated.mixin import GeneratedRationaleMixin

WRITTEN = "written_ids"
_POST_HOC = "the prediction does not read the explanation, which is written after it"
FIGURES = ("log_likelihood", "probability", "erased", "shuffled_accuracy", "overlap", "shuffled_overlap")


@dataclass(frozen=True)
class Written:
    """What a model wrote of a batch, and what it made of that.

    Attributes:
        parts: The batch, with what was written where the prediction reads it.
        labels: The class that each text explains, ``(B,)``.
        tokens: The texts.
        scores: Class scores, ``(B, C)``.
        erased: The same without the text; ``None`` where it is not read.
        log_likelihood: Mean log probability of a text's tokens and its end, ``(B,)``.
    """

    parts: dict[str, Any]
    labels: Tensor
    tokens: Tokens
    scores: Tensor
    erased: Tensor | None
    log_likelihood: Tensor

    def probability(self, scores: Tensor | None) -> Tensor | None:
        """Return the probability of the class that is explained, ``(B,)``."""
        return None if scores is None else scores.softmax(dim=1).gather(1, self.labels[:, None]).squeeze(1)


def written_of(module: GeneratedRationaleMixin, batch: Any, which: str = "predicted") -> Written:
    """Return what a module writes of a batch; in evaluation mode, without gradients.

    Raises:
        ValueError: If ``which`` is no class.
    """
    parts, task, form = batches.as_mapping(batch), module.interpret_task(), module.generated
    tokens = None
    if form.explains_first:
        tokens = module.write_explanations(parts)
        parts = with_written(parts, tokens)
    scores = task.logits(module, parts)
    targets = task.resolve(scores, parts, which)
    if targets.contrast:
        raise ValueError(f"`which={which!r}` contrasts two classes: a text explains one. Give 'predicted' or a label.")
    if tokens is None:
        tokens = module.write_explanations(parts, targets.index)
    erased = task.logits(module, with_written(parts, Tokens.none(tokens))) if form.explains_first else None
    logs, there = module.explanation_log_probs(parts, targets.index, tokens)
    own = there & (there.cumsum(dim=1) > (there.sum(dim=1) - tokens.lengths - 1)[:, None])  # no word of the label
    mean = (logs * own).sum(dim=1) / own.sum(dim=1)
    return Written(parts, targets.index, tokens, scores, erased, mean)


def with_written(parts: dict[str, Any], tokens: Tokens) -> dict[str, Any]:
    """Return a batch whose prediction reads these texts."""
    return {**parts, WRITTEN: tokens.filled(-100)}


def texts_of(tokenizer: Any, tokens: Tokens) -> list[str]:
    """Return texts as a person reads them."""
    rows = [row[there].tolist() for row, there in zip(tokens.ids, tokens.there, strict=True)]
    return [text.strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]


def described_rows(module: GeneratedRationaleMixin, batch: Any, which: str) -> GeneratedRationale:
    """Return a row for each example; inside the explaining scope, without gradients."""
    found, task = written_of(module, batch, which), module.interpret_task()
    gold = module.given_explanations(found.parts)
    names = task.label_names(found.scores.shape[1])
    columns: dict[str, Any] = {
        "explanation": texts_of(task.tokenizer, found.tokens),
        "gold_explanation": None if gold is None else [text or None for text in texts_of(task.tokenizer, gold)],
        "target_name": [names[label] for label in found.labels.tolist()],
        "log_likelihood": found.log_likelihood.tolist(),
        "probability": found.probability(found.scores),
        "erased": found.probability(found.erased),
    }
    columns = {name: each.tolist() if isinstance(each, Tensor) else each for name, each in columns.items()}
    rows = []
    for i, facts in enumerate(described(module, found.parts, task)):
        values = {name: each[i] for name, each in columns.items() if each is not None}
        overlap = word_f1(values["explanation"], known) if (known := values.get("gold_explanation")) else None
        reasons = {} if found.erased is not None else {"erased": _POST_HOC}
        order = module.generated.order
        rows.append(GeneratedRow(**facts, **values, order=order, overlap=overlap, reasons=reasons))
    return GeneratedRationale(tuple(rows))


class Figures(nn.ModuleDict):
    """Means over validation examples, gathered from all processes when they are computed."""

    def __init__(self) -> None:
        super().__init__({name: Mean() for name in FIGURES})
        self.count = 0

    @property
    def _means(self) -> dict[str, Any]:
        return dict(self.items())

    def begin(self) -> None:
        """Forget what was measured."""
        self.count = 0
        for metric in self._means.values():
            metric.reset()
            metric.update(torch.zeros(0))  # so that a process without examples has something to give

    def add(self, module: GeneratedRationaleMixin, batch: Any, limit: int) -> None:
        """Measure the examples of a batch that are still wanted."""
        size = min(batches.batch_size(batch), limit - self.count)
        if size <= 0:
            return
        self.count += size
        found = written_of(module, batches.take(batch, torch.arange(size)))
        shift = (torch.arange(size, device=found.labels.device) + 1) % size
        values: dict[str, Tensor | None] = {
            "log_likelihood": found.log_likelihood,
            "probability": found.probability(found.scores),
            "erased": found.probability(found.erased),
        }
        task = module.interpret_task()
        labels = task.labels(found.parts)
        if found.erased is not None and labels is not None and size > 1:
            others = task.logits(module, with_written(found.parts, found.tokens.take(shift)))
            values["shuffled_accuracy"] = (others.argmax(dim=1) == labels).float()
        values |= self._overlaps(module, found, shift.tolist())
        for name, value in values.items():
            if value is not None:
                self._means[name].update(value.float())

    @staticmethod
    def _overlaps(module: GeneratedRationaleMixin, found: Written, shift: list[int]) -> dict[str, Tensor | None]:
        """Return the overlap with a person's text, and with that of another example, of those that have one."""
        gold = module.given_explanations(found.parts)
        if gold is None or not bool(gold.there.any()):
            return {}
        tokenizer = module.interpret_task().tokenizer
        texts, persons = texts_of(tokenizer, found.tokens), texts_of(tokenizer, gold)
        pairs = {"overlap": enumerate(persons), "shuffled_overlap": zip(shift, persons, strict=True)}
        shares = {name: [word_f1(texts[i], each) for i, each in some if each] for name, some in pairs.items()}
        if len(texts) == 1:
            del shares["shuffled_overlap"]
        return {name: torch.tensor(each, device=found.labels.device) for name, each in shares.items()}

    def computed(self) -> dict[str, Tensor]:
        """Return what there is, the same in all processes, by the name it is logged as."""
        means = {f"generated/{name}": metric.compute() for name, metric in self._means.items()}
        return {name: mean for name, mean in means.items() if bool(mean.isfinite())}
