"""Contexts drawn from a masked language model of the user's."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM, PreTrainedModel

from lightning_interpret.functional.scope import explaining
from lightning_interpret.names import check_positive, check_whole
from lightning_interpret.tasks import words
from lightning_interpret.tasks.encode import named_tokenizer
from lightning_interpret.tasks.transformer import call

_ROLES = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")


class MaskedLanguageModel:
    """Fills in blanks of a text by draws from a masked language model, each given what stands around it by then.

    Blanks are masked at first and filled in a random order. A model with the explained model's vocabulary reads and
    writes its ids. Of another one, tokens that are spelt alike stand for each other; what it has no token for it reads
    as unknown, and it writes only what the explained model has a token for.

    Args:
        model: A masked language model of `transformers`, or its name or directory.
        tokenizer: Its tokenizer, or name or directory; by default the model's, where that is given by name.
        steps: Forward passes to fill a text in; by default one a blank. Fewer fill several blanks at once, each
            without knowing the others.
        temperature: What its logits are divided by.

    Raises:
        ValueError: If a model is given without its tokenizer, or a number is out of its range.
        OSError: On first use, if there is no model or tokenizer of that name.
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        tokenizer: Any = None,
        *,
        steps: int | None = None,
        temperature: float = 1.0,
    ) -> None:
        if tokenizer is None and not isinstance(model, str):
            raise ValueError("`tokenizer=None`: a model that is given as an object needs its tokenizer, too.")
        if steps is not None:
            check_whole(steps=steps)
        check_positive(temperature=temperature)
        self._model, self._tokenizer = model, model if tokenizer is None else tokenizer
        self.steps, self.temperature = steps, temperature

    @cached_property
    def model(self) -> PreTrainedModel:
        """The model, loaded on first use where a name was given."""
        return AutoModelForMaskedLM.from_pretrained(self._model) if isinstance(self._model, str) else self._model

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer, loaded on first use where a name was given."""
        return named_tokenizer(self._tokenizer) if isinstance(self._tokenizer, str) else self._tokenizer

    def fill(self, tokenizer: Any, ids: Tensor, mask: Tensor, blanks: Tensor, noise: Tensor) -> Tensor:
        """Return texts with their blanks filled in, ids ``(M, T)`` of ``tokenizer``.

        Args:
            tokenizer: The tokenizer that the ids are of.
            ids: ``(M, T)``.
            mask: The attention mask, ``(M, T)``.
            blanks: Bool ``(M, T)``.
            noise: Two uniform numbers a token, ``(M, T, 2)``: by which one its place in the order is drawn, by the
                other what it becomes. So a text is filled in alike in any batch.
        """
        most = int(blanks.sum(dim=1).max()) if len(blanks) else 0
        if not most:
            return ids
        read, written = self._translation(tokenizer)
        device = next(self.model.parameters()).device
        filled, given = ids.to(device).clone(), read.to(device)[ids.to(device)]
        blanks, noise, mask = blanks.to(device), noise.to(device), mask.to(device)
        given = given.masked_fill(blanks, self._mask_id)
        place = noise[..., 0].masked_fill(~blanks, 2.0).argsort(dim=1).argsort(dim=1)  # of each blank in the order
        known, written = written.to(device) >= 0, written.to(device)
        size = -(-most // (self.steps or most))
        with explaining(self.model), torch.no_grad():
            for first in range(0, most, size):
                row, column = (blanks & (place >= first) & (place < first + size)).nonzero().unbind(dim=1)
                logits = call(self.model, {"input_ids": given, "attention_mask": mask}).logits[row, column].float()
                logits = logits[:, : len(known)].masked_fill(~known[: logits.shape[1]], -torch.inf) / self.temperature
                drawn = _drawn(logits.softmax(dim=1), noise[row, column, 1])
                given[row, column], filled[row, column] = drawn, written[drawn]
        return filled.to(ids.device)

    @property
    def _mask_id(self) -> int:
        found = getattr(self.tokenizer, "mask_token_id", None)
        if found is None:
            raise ValueError(
                f"`sampler`: {type(self.tokenizer).__name__} has no mask token: use a masked language model."
            )
        return int(found)

    def _translation(self, tokenizer: Any) -> tuple[Tensor, Tensor]:
        """Return for each id of ``tokenizer`` ours, and for each of ours the other; −1 for what is not written."""
        key = id(tokenizer)
        if self._known[0] != key:
            self._known = key, _translation(tokenizer, self.tokenizer)
        return self._known[1]

    _known: tuple[int, Any] = (0, None)


def _translation(theirs: Any, ours: Any) -> tuple[Tensor, Tensor]:
    first, second = (tokenizer.get_vocab() for tokenizer in (theirs, ours))
    special = {i for i in ours.all_special_ids if i is not None}
    read = torch.full((max(first.values()) + 1,), int(ours.unk_token_id or 0))
    written = torch.full((max(second.values()) + 1,), -1)
    if first == second:
        pairs = [(i, i) for i in first.values()]
    else:
        spelt = dict(_forms(ours, second))
        pairs = [(i, spelt[form]) for form, i in _forms(theirs, first) if form in spelt]
        for role in _ROLES:
            mine, other = (getattr(tokenizer, f"{role}_token_id", None) for tokenizer in (theirs, ours))
            pairs += [(mine, other)] if mine is not None and other is not None else []
    for mine, other in pairs:
        read[mine] = other
        if other not in special:
            written[other] = mine
    if not bool((written >= 0).any()):
        raise ValueError("`sampler`: the language model's tokenizer shares no token with the explained model's.")
    return read, written


def _forms(tokenizer: Any, vocabulary: dict[str, int]) -> list[tuple[tuple[str, bool], int]]:
    """Return how each token is spelt, whether it begins a word, and its id; special tokens left out."""
    special = set(tokenizer.all_special_ids)
    tokens = [token for token, i in sorted(vocabulary.items(), key=lambda item: item[1]) if i not in special]
    decode = tokenizer.convert_tokens_to_string
    starts, _, _ = words.marks(tokens, decode)
    texts = (token.removeprefix("##").strip("Ġ▁").removesuffix("</w>").lower() for token in tokens)
    return [((text, start), vocabulary[token]) for text, start, token in zip(texts, starts, tokens, strict=True)]


def _drawn(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Return a draw from each row ``(n, V)``, by where a uniform number lies in its distribution."""
    sums = probabilities.double().cumsum(dim=1)
    place = torch.searchsorted(sums, (uniform.double() * sums[:, -1])[:, None], right=True).squeeze(1)
    last = (probabilities > 0).long().cumsum(dim=1).argmax(dim=1)  # of those that can be drawn
    return torch.minimum(place, last)
