"""An answer in a passage: any `transformers` model that scores where one begins and where it ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_interpret.functional.influence import outputs
from lightning_interpret.names import check_whole, unknown
from lightning_interpret.tasks import batches
from lightning_interpret.tasks.placed import NEVER, PlacedTargets, PlacedTask, in_single_precision
from lightning_interpret.tasks.transformer import ANSWERS, call, special_mask

NO_ANSWER = "no answer"
_WHICH = ("predicted", "gold", "start", "end", NO_ANSWER)
_BEGIN, _END = 0, 1
_CUT = -100  # end of an answer that is at no token


@dataclass(frozen=True)
class AnswerTargets(PlacedTargets):
    """One row an answer: its places are the two ends, and its classes the tokens at which they are."""

    def crop(self, columns: Tensor) -> AnswerTargets:
        """Return the targets in a batch of which only some columns are left."""
        begin = int(columns[0])
        return replace(self, classes=self.classes - begin, others=self.others - begin) if begin else self


class QuestionAnswering(PlacedTask):
    """Reads a module that scores for each token whether the answer begins and whether it ends there.

    The answer is a span of the passage, the second of the two texts, of at most ``longest`` tokens. That there is none
    is scored at the first token (CLS). A target is one an example; ``which`` is:

    * ``predicted``: the best span, or that there is no answer where this scores higher;
    * ``gold``: from ``start_positions`` to ``end_positions`` of the batch, both at the first token where there is none;
    * ``start`` and ``end``: one end of what is predicted, alone;
    * ``no answer``: that there is none.

    The score of a span is that of its beginning and that of its end together: ``logit`` their sum, ``log_prob`` the sum
    of their log probabilities over the tokens of the text, ``prob`` the product of the probabilities, and ``margin`` is
    less the score of no answer (of ``no answer``, less that of the best span).

    Args:
        tokenizer: The tokenizer, or the name or directory to load it from.
        model: Name of the `transformers` model in the module, where it holds several.
        longest: Tokens of the longest answer.
        unanswerable: Whether ``predicted`` may be that there is no answer.

    Raises:
        ValueError: On first use: no tokenizer, no gold answers for ``gold``, a baseline that cannot be made.
    """

    head: ClassVar[str] = ANSWERS
    view: ClassVar[str | None] = "answer"
    segments: ClassVar[tuple[str, ...]] = ("question", "context")

    def __init__(
        self, tokenizer: Any = None, model: str | None = None, longest: int = 30, unanswerable: bool = True
    ) -> None:
        super().__init__(tokenizer, None, model)
        check_whole(longest=longest)
        self.longest, self.unanswerable = longest, unanswerable

    def encoded(self, texts: Sequence[Any], max_length: int | None = None) -> Any:
        """Return the batch of some pairs of a question and a passage."""
        return super().encoded(self.pairs(texts), max_length)

    # What the model is

    def logits(self, module: nn.Module, batch: Any) -> Tensor:
        """Return the scores of a beginning and of an end at each token, ``(B, 2, T)``; never at padding."""
        model, parts = self.model_in(module), self.parts(batch)
        output = call(model, {name: part for name, part in parts.items() if not name.endswith("_positions")})
        begin, end = getattr(output, "start_logits", None), getattr(output, "end_logits", None)
        if begin is None or end is None:
            raise ValueError(
                f"{type(model).__name__} returns no `start_logits` and `end_logits`: give a `task=`, a "
                "QuestionAnswering whose `logits(module, batch)` returns both as one tensor (batch, 2, tokens)."
            )
        return self._readable(torch.stack([begin, end], dim=1), batch)

    def losses(self, module: nn.Module, batch: Any) -> Tensor:
        """Return the mean cross-entropy of the two ends of each answer, ``(B,)``; 0 of one that was cut off.

        Raises:
            ValueError: If the batch has no gold answers.
        """
        gold = self._gold(batch)
        if gold is None:
            raise ValueError("The batch has no `start_positions` and `end_positions`, so it has no loss.")
        logits = self.logits(module, batch)
        known = gold.to(logits.device).masked_fill(~self._in_text(gold, batch)[:, None].to(logits.device), _CUT)
        lost = F.cross_entropy(logits.flatten(0, 1), known.flatten(), reduction="none", ignore_index=_CUT)
        return lost.unflatten(0, (-1, 2)).mean(dim=1)

    def roots(
        self, logits: Tensor, batch: Any, samples: int | None = None, generator: torch.Generator | None = None
    ) -> Iterator[Tensor]:
        """Yield roots of the Hessian of the mean cross-entropy of the two ends: a place for each."""
        ends = torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device)
        yield from outputs.placed_roots(logits, ends, samples, generator)

    def labels(self, batch: Any) -> Tensor | None:
        """Return the first and the last token of each gold answer, ``(B, 2)``, or None where the batch has none."""
        return self._gold(batch)

    # What is explained

    def resolve(self, logits: Tensor, batch: Any, which: str) -> AnswerTargets:
        """Return one target an example; what ``margin`` subtracts is no answer, of that the best span."""
        self.check_which(which)
        spans, none = self.best(logits, batch), self._none(batch).to(logits.device)[:, None].expand(-1, 2)
        predicted = self._predicted(logits, batch)
        if which == "gold":
            gold = self._gold(batch)
            if gold is None:
                raise ValueError(
                    "`which='gold'`, but the batch has no `start_positions` and `end_positions`: explain 'predicted'."
                )
            cut = (~self._in_text(gold, batch)).nonzero().flatten().tolist()
            if cut:
                raise ValueError(
                    f"`which='gold'`, but the answers of examples {cut} of the batch are at no token of their texts "
                    f"({gold[cut].tolist()}), as where they were cut off: explain 'predicted'."
                )
            chosen = gold.to(logits.device)
        else:
            chosen = none if which == NO_ANSWER else predicted
        nothing = (chosen == none).all(dim=1, keepdim=True)
        others, ends = torch.where(nothing, spans, none), [_BEGIN, _END]
        if which in ("start", "end"):
            ends = [_BEGIN if which == "start" else _END]
        example = torch.arange(len(logits), device=logits.device)
        rows = [None if empty else (a, b + 1) for (a, b), empty in zip(chosen.tolist(), nothing[:, 0], strict=True)]
        named = self._texts(chosen, none, batch)
        return AnswerTargets(
            example=example,
            index=chosen[:, ends[0]],
            against=others[:, ends[0]],
            contrast=False,
            name=tuple(f"{which} of {name!r}" for name in named) if which in ("start", "end") else tuple(named),
            place=torch.tensor(ends, device=logits.device).expand(len(logits), -1),
            classes=chosen[:, ends],
            others=others[:, ends],
            at_units=tuple(None if row is None else _end_of(row, which) for row in rows),
        )

    def score(self, logits: Tensor, targets: PlacedTargets, output: str) -> Tensor:  # type: ignore[override]
        """Return the scalars explained, ``(N,)``, in at least single precision."""
        return targets.summed(logits[targets.example[:, None], targets.place], output)

    def best(self, logits: Tensor, batch: Any) -> Tensor:
        """Return the first and the last token of the best span of each passage, long ``(B, 2)``."""
        allowed = self._passage(batch).to(logits.device)
        scores = logits.detach().float().masked_fill(~allowed[:, None], NEVER)
        longest = min(self.longest, scores.shape[2])
        ends = F.pad(scores[:, _END], (0, longest - 1), value=4 * NEVER).unfold(1, longest, 1)
        best = (scores[:, _BEGIN, :, None] + ends).flatten(1).argmax(dim=1)
        return torch.stack([best // longest, best // longest + best % longest], dim=1)

    def names(self, logits: Tensor) -> tuple[str, ...]:
        """Return where each answer is predicted: its tokens, by number, as the text is not known."""
        best = logits.argmax(dim=2)
        return tuple(f"tokens {a} to {b}" for a, b in best.tolist())

    def said(self, logits: Tensor, batch: Any) -> tuple[str, ...]:
        """Return the text of each predicted answer, or that there is none."""
        return tuple(self._texts(self._predicted(logits, batch), self._none(batch)[:, None], batch))

    def gold_names(self, batch: Any) -> tuple[str | None, ...] | None:
        """Return the text of each gold answer, None of one that was cut off, or None where the batch has none."""
        gold = self._gold(batch)
        if gold is None:
            return None
        said = self._texts(gold, self._none(batch)[:, None], batch)
        return tuple(text if there else None for text, there in zip(said, self._in_text(gold, batch), strict=True))

    def check_which(self, which: str) -> None:
        """Raise for what is no target."""
        if which not in _WHICH:
            raise ValueError(unknown("which", which, _WHICH))

    # How

    def _readable(self, logits: Tensor, batch: Any) -> Tensor:
        there = (self.attention_mask(self.parts(batch)) != 0).to(logits.device)
        return in_single_precision(logits).masked_fill(~there[:, None], NEVER)

    def _gold(self, batch: Any) -> Tensor | None:
        parts = batches.as_mapping(batch)
        ends = [parts.get(f"{end}_positions") for end in ("start", "end")]
        if not all(isinstance(end, Tensor) and end.dim() == 1 for end in ends):
            return None
        return torch.stack(ends, dim=1).long()  # type: ignore[arg-type]

    def _in_text(self, gold: Tensor, batch: Any) -> Tensor:
        """Return which gold answers are at tokens that are there, bool ``(B,)``; what was cut off is beyond them."""
        there = (self.attention_mask(self.parts(batch)) != 0).to(gold.device)
        inside = ((gold >= 0) & (gold < there.shape[1])).all(dim=1)
        return inside & there.gather(1, gold.clamp(0, there.shape[1] - 1)).all(dim=1)

    def _none(self, batch: Any) -> Tensor:
        """Return the token at which it is scored that there is no answer, long ``(B,)``: the first, past padding."""
        return (self.attention_mask(self.parts(batch)) != 0).long().argmax(dim=1)

    def _passage(self, batch: Any) -> Tensor:
        """Return the tokens an answer may have, bool ``(B, T)``: of the second text, or of the only one."""
        parts = self.parts(batch)
        ids, there = self.input_ids(parts), self.attention_mask(parts) != 0
        special = special_mask(ids, self.tokenizer) & there
        segment = self.segment(parts, special, ~there)
        own = there & ~special
        passage = own if segment is None else own & (segment == 1)
        for instead in (own, there):
            passage = torch.where(passage.any(dim=1, keepdim=True), passage, instead)
        return passage

    def _predicted(self, logits: Tensor, batch: Any) -> Tensor:
        spans, none = self.best(logits, batch), self._none(batch).to(logits.device)
        if not self.unanswerable:
            return spans
        of_span = logits.detach().gather(2, spans[:, :, None]).sum(dim=(1, 2))
        of_none = logits.detach().gather(2, none[:, None, None].expand(-1, 2, -1)).sum(dim=(1, 2))
        return torch.where((of_none > of_span)[:, None], none[:, None], spans)

    def _texts(self, spans: Tensor, none: Tensor, batch: Any) -> list[str]:
        ids = self.input_ids(self.parts(batch)).tolist()
        rows = [row[a : b + 1] for row, (a, b) in zip(ids, spans.tolist(), strict=True)]
        empty = (spans.cpu() == none.cpu()).all(dim=1).tolist()
        texts: Sequence[str] = self.tokenizer.batch_decode(rows)
        return [NO_ANSWER if nothing else text.strip() for text, nothing in zip(texts, empty, strict=True)]


def _end_of(span: tuple[int, int], which: str) -> tuple[int, int]:
    return {"start": (span[0], span[0] + 1), "end": (span[1] - 1, span[1])}.get(which, span)
