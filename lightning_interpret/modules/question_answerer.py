"""QuestionAnswerer: any `transformers` model that finds answers in a context, as a LightningModule."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from transformers import AutoModelForQuestionAnswering

from lightning_interpret.functional.answers import best_spans, exact_match, null_places, token_f1
from lightning_interpret.metrics import BestWindows
from lightning_interpret.modules.text_module import TextModule
from lightning_interpret.names import check_whole
from lightning_interpret.tasks import QuestionAnswering
from lightning_interpret.tasks.placed import NEVER
from lightning_interpret.tasks.transformer import call


class QuestionAnswerer(TextModule):
    """Fine-tune a `transformers` model to find the answer to a question in its context, or that there is none.

    Logged: ``train_loss``; ``val_loss``, ``val_exact_match`` and ``val_f1`` (of words, as SQuAD has them), and the same
    under ``test_``. The answer is the best span of the context with at most ``max_answer_length`` tokens; there is none
    where the first token scores higher. A context that was cut has one answer, that of its best window. Batches are as
    those of :class:`~lightning_interpret.QuestionDataModule`.

    Args:
        model: Name or directory of a `transformers` model; its head is made anew where there is none.
        max_answer_length: Tokens that an answer may have.
        options: ``learning_rate``, ``weight_decay``, ``warmup``, ``tokenizer`` and ``config``, as of
            :class:`~lightning_interpret.TextClassifier`.

    Raises:
        ValueError: If neither ``model`` nor ``config`` is given, or both.
        OSError: If the model is neither a directory nor a name that can be reached.
    """

    def __init__(self, model: str | None = None, max_answer_length: int = 30, **options: Any) -> None:
        check_whole(max_answer_length=max_answer_length)
        super().__init__(model, **options)
        self.max_answer_length = max_answer_length
        self.configure_model()

    @property
    def auto_class(self) -> Any:
        """The class of `transformers` that makes the model."""
        return AutoModelForQuestionAnswering

    def forward(self, batch: Any) -> Tensor:
        """Return the scores of each token to begin and to end the answer, ``(B, 2, T)``; never at padding."""
        assert self.model is not None
        parts = {name: part for name, part in batch.items() if not name.endswith("_positions")}
        output = call(self.model, parts)
        scores = torch.stack([output.start_logits, output.end_logits], dim=1)
        never = max(NEVER, torch.finfo(scores.dtype).min)  # half precision knows no number as low
        return scores.masked_fill((batch["attention_mask"] == 0)[:, None], never)

    def interpret_task(self) -> QuestionAnswering:
        """Return how Monitors read this module."""
        return QuestionAnswering(self.tokenizer, longest=self.max_answer_length)

    def predict_step(self, batch: Any, batch_idx: int) -> list[dict[str, Any]]:
        """Return for each question ``example_id``, the ``answer``, where it stands, and its score less that of none.

        ``answer`` is empty, and ``start`` and ``end`` are ``None``, where there is none.
        """
        found = self._found(batch)
        rows: dict[int, dict[str, Any]] = {}
        for row, (answer, start, end), score, none in zip(
            _rows(batch), found.answers, found.scores.tolist(), found.none.tolist(), strict=True
        ):
            known = rows.setdefault(row, {"score": -float("inf"), "none": float("inf")})
            known["none"] = min(known["none"], none)
            if score > known["score"]:
                known |= {"score": score, "answer": answer, "start": start, "end": end}
        return [_row(example, known) for example, known in rows.items()]

    def _new_metrics(self) -> dict[str, Metric]:
        return {"exact_match": BestWindows(), "f1": BestWindows()}

    def _loss(self, output: Tensor, batch: Any) -> Tensor:
        gold = torch.stack([batch["start_positions"], batch["end_positions"]], dim=1)
        return F.cross_entropy(output.flatten(0, 1), gold.flatten())

    def _evaluate(self, stage: str, batch: Any, batch_idx: int) -> None:
        scores = self(batch)
        loss = self._loss(scores, batch)
        self.log(f"{stage}_loss", loss, prog_bar=True, batch_size=len(scores), sync_dist=True)
        found = self._found(batch, scores)
        rows = torch.tensor(_rows(batch), device=scores.device)
        for name, measure in (("exact_match", exact_match), ("f1", token_f1)):
            said, nothing = (
                scores.new_tensor([measure(text, gold) for text, gold in zip(texts, batch["answers"], strict=True)])
                for texts in ([answer for answer, *_ in found.answers], [""] * len(rows))
            )
            self._log_metric(f"{stage}_{name}", rows, found.scores, said, found.none, nothing, prog_bar=name == "f1")

    def _found(self, batch: Any, scores: Tensor | None = None) -> _Found:
        """Return the best span of each example, whatever no answer scores."""
        if "context_mask" not in batch or "context" not in batch or "offset_mapping" not in batch:
            raise ValueError(
                "To say an answer, a batch needs `context_mask` (B, T), 1 at the tokens of the context, "
                "`offset_mapping`, and `context`, its text, as `QuestionDataModule` has them."
            )
        scores = (self(batch) if scores is None else scores).float()
        start, end = scores.unbind(dim=1)
        first, last, best = best_spans(start, end, batch["context_mask"] == 1, self.max_answer_length)
        none = scores.sum(dim=1).gather(1, null_places(batch["attention_mask"])[:, None]).squeeze(1)
        example = torch.arange(len(first), device=first.device)
        offsets = batch["offset_mapping"]
        starts, ends = offsets[example, first, 0].tolist(), offsets[example, last, 1].tolist()
        texts = [(text[a:b], a, b) for text, a, b in zip(batch["context"], starts, ends, strict=True)]
        return _Found(texts, best, none)


class _Found(NamedTuple):
    """What was found in windows: text and place of the best span, its score, and that of no answer."""

    answers: list[tuple[str, int, int]]
    scores: Tensor
    none: Tensor


def _rows(batch: Any) -> list[int]:
    """Return whose windows the examples of a batch are: by default each is a row of its own."""
    for name in ("row_id", "example_id"):
        if name in batch:
            return batch[name].tolist()
    return list(range(len(batch["input_ids"])))


def _row(example: int, known: dict[str, Any]) -> dict[str, Any]:
    margin = known["score"] - known["none"]
    found = {name: known[name] for name in ("answer", "start", "end")} if margin >= 0 else _NONE
    return {"example_id": example, **found, "score": margin if math.isfinite(margin) else None}


_NONE = {"answer": "", "start": None, "end": None}
