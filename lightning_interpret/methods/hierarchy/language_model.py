"""Contexts drawn from a masked language model of the user's."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, PreTrainedModel

from lightning_interpret.functional.scope import explaining
from lightning_interpret.names import check_positive, check_whole
from lightning_interpret.tasks import words
from lightning_interpret.tasks.encode import max_tokens, named_tokenizer
from lightning_interpret.tasks.transformer import call

_ROLES = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")

#: How a token is spelt, and whether it begins a word.
Form = tuple[str, bool]


class MaskedLanguageModel:
    """Fills in blanks of a text by draws from a masked language model, each given what stands around it by then.

    Blanks are masked at first and filled in a random order. A model with the explained model's vocabulary reads and
    writes its ids. Of another one, tokens that are spelt alike stand for each other; what it has no token for it reads
    as unknown, and it writes only what the explained model has a token for. Where none is spelt alike to the letter,
    one that differs in capitals alone stands for it.

    Args:
        model: A masked language model of `transformers`, read where it lies, or its name or directory; then it goes to
            the device of the texts.
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
        if not bool(blanks.any()):
            return ids
        read, written = self._translation(tokenizer)
        if isinstance(self._model, str):  # nobody else has placed it
            nn.Module.to(self.model, ids.device)
        device = next(self.model.parameters()).device
        whole, mask, blanks, noise = (each.to(device) for each in (ids, mask, blanks, noise))
        # padding goes to the right, whichever side it is on: positions are counted from the left
        front = (mask == 0).long().argsort(dim=1, stable=True)[:, : int((mask != 0).sum(dim=1).max())]
        self._refuse_longer(front.shape[1])
        filled, mask, blanks, order, chance = (
            each.gather(1, front) for each in (whole, mask, blanks, *noise.unbind(dim=2))
        )
        given = read.to(device)[filled].masked_fill(blanks, self._mask_id)
        known, written = written.to(device) >= 0, written.to(device)
        stage = order.masked_fill(~blanks, 2.0).argsort(dim=1).argsort(dim=1)  # of each blank in the order
        if self.steps is not None:
            stage = stage // ((blanks.sum(dim=1, keepdim=True) + self.steps - 1) // self.steps).clamp(min=1)
        with explaining(self.model), torch.no_grad():
            for now in range(int(stage[blanks].max()) + 1):
                row, column = (blanks & (stage == now)).nonzero().unbind(dim=1)
                logits = call(self.model, {"input_ids": given, "attention_mask": mask}).logits[row, column].float()
                logits = logits[:, : len(known)].masked_fill(~known[: logits.shape[1]], -torch.inf) / self.temperature
                drawn = _drawn(logits.softmax(dim=1), chance[row, column])
                given[row, column], filled[row, column] = drawn, written[drawn]
        return whole.scatter(1, front, filled).to(ids.device)

    def _refuse_longer(self, tokens: int) -> None:
        most = max_tokens(self.tokenizer, self.model)
        if most is not None and tokens > most:
            raise ValueError(
                f"`sampler`: a text has {tokens} tokens, and the language model reads {most} at most: cut the texts, "
                "or use a model of more positions."
            )

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
        if self._known[0] is not tokenizer:
            self._known = tokenizer, _translation(tokenizer, self.tokenizer)
        return self._known[1]

    _known: tuple[Any, Any] = (None, None)


def _translation(theirs: Any, ours: Any) -> tuple[Tensor, Tensor]:
    first, second = (tokenizer.get_vocab() for tokenizer in (theirs, ours))
    read = torch.full((max(first.values()) + 1,), int(ours.unk_token_id or 0))
    written = torch.full((max(second.values()) + 1,), -1)
    if first == second:
        special = set(ours.all_special_ids)
        reads, writes = {i: i for i in first.values()}, {i: i for i in first.values() if i not in special}
    else:
        mine, other = _forms(theirs, first), _forms(ours, second)
        reads, writes = _counterparts(mine, other), _counterparts(other, mine)
        for role in _ROLES:
            reads |= _paired(*(getattr(tokenizer, f"{role}_token_id", None) for tokenizer in (theirs, ours)))
    for table, pairs in ((read, reads), (written, writes)):
        table[torch.tensor([*pairs], dtype=torch.long)] = torch.tensor([*pairs.values()], dtype=torch.long)
    if not bool((written >= 0).any()):
        raise ValueError("`sampler`: the language model's tokenizer shares no token with the explained model's.")
    return read, written


def _paired(mine: int | None, other: int | None) -> dict[int, int]:
    return {} if mine is None or other is None else {mine: other}


def _forms(tokenizer: Any, vocabulary: dict[str, int]) -> list[tuple[Form, int]]:
    """Return how each token is spelt, whether it begins a word, and its id, by ids; special tokens left out."""
    special = set(tokenizer.all_special_ids)
    tokens = [token for token, i in sorted(vocabulary.items(), key=lambda item: item[1]) if i not in special]
    decode = tokenizer.convert_tokens_to_string
    starts, _, _ = words.marks(tokens, decode)
    texts = (token.removeprefix("##").strip("Ġ▁").removesuffix("</w>") for token in tokens)
    return [((text, start), vocabulary[token]) for text, start, token in zip(texts, starts, tokens, strict=True)]


def _counterparts(tokens: list[tuple[Form, int]], others: list[tuple[Form, int]]) -> dict[int, int]:
    """Return for tokens the other that is spelt alike: to the letter, or but for capitals, the first of those."""
    exact = dict(reversed(others))
    folded = {(text.lower(), start): i for (text, start), i in reversed(others)}
    found = ((i, exact.get((text, start), folded.get((text.lower(), start)))) for (text, start), i in tokens)
    return {i: other for i, other in found if other is not None}


def _drawn(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Return a draw from each row ``(n, V)``, by where a uniform number lies in its distribution."""
    sums = probabilities.double().cumsum(dim=1)
    place = torch.searchsorted(sums, (uniform.double() * sums[:, -1])[:, None], right=True).squeeze(1)
    last = (probabilities > 0).long().cumsum(dim=1).argmax(dim=1)  # of those that can be drawn
    return torch.minimum(place, last)
