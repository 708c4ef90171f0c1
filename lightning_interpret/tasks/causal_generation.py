"""A text that goes on: any decoder of `transformers`, explained token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_interpret.functional.tokens import Tokens
from lightning_interpret.tasks.encode_written import encode_prompts
from lightning_interpret.tasks.generation import IGNORED, Generation
from lightning_interpret.tasks.text import is_pair
from lightning_interpret.tasks.writing import reads_both_ways
from lightning_interpret.tasks.written import ended


class CausalGeneration(Generation):
    """Reads a decoder: GPT-2, Llama and their kin, which read a text from left to right and say how it goes on.

    Batches are as `transformers` trains on them: ``labels`` ``(B, T)`` are the ids themselves, −100 at the prompt and
    at padding, which may stand at either side. Without labels every token but the first is output. What the model
    writes itself (``continuation="own"``) follows the prompt; where all is output, or nothing, the whole text.

    Options, targets and errors are those of :class:`~lightning_interpret.tasks.generation.Generation`.
    """

    segments: ClassVar[tuple[str, ...]] = ("prompt", "output")
    pooled: ClassVar[tuple[str, str]] = ("mean", "the prompt")

    def encoded(self, texts: Sequence[Any], max_length: int | None = None) -> Any:
        """Return the batch of some prompts with what follows them, or of texts: all output, or all prompt."""
        if not any(is_pair(text) for text in texts):
            return encode_prompts(self.tokenizer, [(str(text), None) for text in texts], max_length)
        return encode_prompts(self.tokenizer, self.pairs(texts), max_length)

    def layer(self, module: nn.Module) -> str:
        """Return the name of the word embeddings.

        Raises:
            ValueError: If the model is none that reads one text from left to right.
        """
        model = self.model_in(module)
        if getattr(model.config, "is_encoder_decoder", False):
            raise ValueError(f"{type(model).__name__} is an encoder-decoder: use Seq2SeqGeneration.")
        if reads_both_ways(model.config):
            raise ValueError(
                f"{type(model).__name__} reads what follows a token too, so that none is made from those before it: "
                "set `is_decoder=True` in its configuration, or use a model that reads from left to right."
            )
        return super().layer(module)

    def given(self, batch: Any) -> dict[str, Any]:
        """Return the parts of a batch, with labels."""
        parts = self.parts(batch)
        ids, there = self.input_ids(parts), self.attention_mask(parts) != 0
        labels = parts.get("labels")
        if isinstance(labels, Tensor) and labels.dim() > 1 and labels.shape != ids.shape:
            raise ValueError(
                f"The labels are {tuple(labels.shape)}, but the text {tuple(ids.shape)}: give the ids of the text, "
                "with -100 at its prompt."
            )
        if not isinstance(labels, Tensor) or labels.shape != ids.shape:
            labels = ids.masked_fill(~there, IGNORED)
        return parts | {"labels": labels}

    def written(self, model: Any, batch: Any) -> dict[str, Any]:
        """Return the parts of a batch of prompts, each with what the model writes after it."""
        parts = self.given(batch)
        ids, there, output = self.input_ids(parts), self.attention_mask(parts) != 0, parts["labels"] != IGNORED
        before = there & (output.long().cumsum(dim=1) == 0)
        prompt = Tokens.of(ids, torch.where(before.any(dim=1, keepdim=True), before, there)).closed(left=True)
        length = prompt.ids.shape[1]
        found = self._write(model, prompt.ids, prompt.there.long(), before=length)[:, length:]
        new = Tokens(found, ended(model, found, self.tokenizer))
        whole = prompt.then(new)
        others = {
            name: part
            for name, part in parts.items()
            if not (isinstance(part, Tensor) and part.dim() > 1 and part.shape[:2] == ids.shape)
        }
        labels = whole.ids.masked_fill(~whole.there, IGNORED)
        labels[:, :length] = IGNORED
        return others | {"input_ids": whole.ids, "attention_mask": whole.there.long(), "labels": labels}

    def answers(self, parts: dict[str, Any]) -> Tensor:
        """Return the token that follows each token, long ``(B, T)``; −100 where that is no output."""
        there = self.attention_mask(parts) != 0
        return F.pad(parts["labels"][:, 1:], (0, 1), value=IGNORED).masked_fill(~there, IGNORED)

    def scored_labels(self, parts: dict[str, Any]) -> Tensor:
        """Return the labels, −100 at those that no token stands before: the first one's, and those after a gap."""
        scored = F.pad(self.answers(parts)[:, :-1], (1, 0), value=IGNORED)
        return parts["labels"].masked_fill(scored == IGNORED, IGNORED)

    def segment(self, parts: dict[str, Any], special: Tensor, padding: Tensor) -> Tensor | None:
        """Return 0 for the prompt and 1 for the output, long ``(B, T)``; None where all is output."""
        output = self.given(parts)["labels"] != IGNORED
        return None if bool((output | padding | special).all()) else output.long()

    def content(self, batch: Any, features: Tensor, keep_special: bool = True) -> Tensor:
        """Return the content tokens ``(B, T)`` that x' replaces: of the prompt, of the output, or both."""
        found = super().content(batch, features, keep_special)
        return self._held(found, self.given(batch)["labels"] != IGNORED)

    def represented_at(self, batch: Any, features: Tensor) -> Tensor:
        """Return the tokens of the prompt, bool ``(B, T)``; of a text that is all output, all of them."""
        parts = self.given(batch)
        there = self.attention_mask(parts) != 0
        prompt = there & (parts["labels"] == IGNORED)
        first = there & (there.long().cumsum(dim=1) == 1)  # which stands before all that is scored, whatever is output
        return torch.where((prompt & ~first).any(dim=1, keepdim=True), prompt, there)

    def _called(self, module: nn.Module, parts: dict[str, Any]) -> Tensor:
        return self._output(self.model_in(module), parts)

    def _length(self, parts: dict[str, Any]) -> int:
        return self.input_ids(parts).shape[1]

    def _units_before(self, parts: dict[str, Any]) -> int:
        return 0
