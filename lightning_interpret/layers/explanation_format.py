"""Where labels and explanations stand in what a model reads and writes: three orders of predicting and explaining."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.tokens import Tokens
from lightning_interpret.names import choose

ORDERS = ("predict_then_explain", "explain_then_predict", "jointly")
READS = ("explanation", "both")


class ExplanationFormat(nn.Module):
    """What is read and what is written, of a text x, the words of a label y and an explanation e, in each order.

    ======================  ===================  =================  ======================  =======================
    order                   the label: read      written            the explanation: read   written
    ======================  ===================  =================  ======================  =======================
    predict_then_explain    x                    label: y end       x label: y              explanation: e end
    explain_then_predict    (x) explanation: e   label: y end       x                       explanation: e end
    jointly                 x                    label: y expl…:    x                       label: y expl…: e end
    ======================  ===================  =================  ======================  =======================

    The marks ``label:`` and ``explanation:`` are given, not written, but for the second one in the order ``jointly``.
    Every label is followed by what ends it, so that one that another begins with is not a part of it.

    Args:
        order: One of :data:`ORDERS`.
        reads: What the label is read from with ``explain_then_predict``: the ``explanation``, or ``both``.
    """

    words: Tensor
    label_mark: Tensor
    explanation_mark: Tensor
    end: Tensor

    def __init__(self, order: str, reads: str = "explanation") -> None:
        super().__init__()
        self.order = choose("generated_order", order, ORDERS)
        self.reads = choose("generated_reads", reads, READS)
        if reads != "explanation" and order != "explain_then_predict":
            raise ValueError(
                f"`generated_reads={reads!r}`, but with `generated_order={order!r}` no prediction reads an explanation."
            )
        self.plain = False
        self._described: dict[str, Any] = {}
        for name in ("words", "label_mark", "explanation_mark", "end"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.long), persistent=False)

    def settle(
        self, words: Sequence[Sequence[int]], label_mark: Sequence[int], explanation_mark: Sequence[int], end: int
    ) -> None:
        """Take the ids of each label's words, of the marks and of the end."""
        device = self.end.device
        ending = list(explanation_mark) if self.order == "jointly" else [end]
        rows = [[*each, *ending] for each in words]
        width = max(map(len, rows))
        self.words = torch.tensor([row + [-1] * (width - len(row)) for row in rows], device=device)
        self.label_mark = torch.tensor(list(label_mark), dtype=torch.long, device=device)
        self.explanation_mark = torch.tensor(list(explanation_mark), dtype=torch.long, device=device)
        self.end = torch.tensor([end], device=device)
        self._described = {"order": self.order, "reads": self.reads, "words": [list(each) for each in words]}
        self._described |= {"marks": [list(label_mark), list(explanation_mark)]}

    @property
    def settled(self) -> bool:
        """Whether :meth:`settle` has been called."""
        return len(self.words) > 0

    @property
    def explains_first(self) -> bool:
        """Whether the prediction reads the explanation."""
        return self.order == "explain_then_predict" and not self.plain

    def labels(self, rows: int) -> Tokens:
        """Return the words of all labels for each of some rows, ``(rows · C, S)``."""
        return Tokens.of(self.words.repeat(rows, 1))

    def label_source(self, text: Tokens, explanation: Tokens | None) -> Tokens:
        """Return what a label is read from; ``None`` is the explanation of nobody, and so is one of no tokens."""
        if not self.explains_first:
            return text
        read = text if self.reads == "both" else Tokens.none(text)
        return read.then(self.explanation_mark, *([] if explanation is None else [explanation]))

    def explanation_source(self, text: Tokens, labels: Tensor) -> Tokens:
        """Return what an explanation is written from; ``labels`` are classes, ``(B,)``."""
        if self.order != "predict_then_explain":
            return text
        return text.then(self.label_mark, self._words(labels))

    def explanation_lead(self) -> Tensor:
        """Return what is given before :meth:`explanation_text`."""
        return self.label_mark if self.order == "jointly" else self.explanation_mark

    def explanation_text(self, labels: Tensor, explanation: Tokens) -> Tokens:
        """Return what is learnt to be written where an explanation is."""
        ended = explanation.then(self.end)
        if self.order == "jointly":
            ended = self._words(labels, ending=True).then(ended)
        return ended.closed()

    def explanation_start(self, text: Tokens, labels: Tensor) -> Tokens:
        """Return what is given before the explanation itself, for each row."""
        lead = Tokens.none(text).then(self.explanation_lead())
        return lead.then(self._words(labels, ending=True)).closed() if self.order == "jointly" else lead

    def _words(self, labels: Tensor, *, ending: bool = False) -> Tokens:
        """Return the words of some classes; with ``ending`` also what ends them."""
        words = Tokens.of(self.words[labels.to(self.words.device)])
        if ending:
            return words
        ends = len(self.explanation_mark) if self.order == "jointly" else 1
        return Tokens(words.ids, words.there & (words.there.cumsum(dim=1) <= words.lengths[:, None] - ends))

    def get_extra_state(self) -> dict[str, Any]:
        """Return what the weights have learnt to write."""
        return dict(self._described)

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Say where a checkpoint has learnt another format than this."""
        if not self._described or not state:
            return
        others = [name for name, value in state.items() if self._described.get(name) != value]
        if others:
            told = "; ".join(f"{name} {state[name]}, and here {self._described.get(name)}" for name in others)
            warnings.warn(f"The checkpoint was trained to predict and explain in another format: {told}.", stacklevel=2)
