"""What tasks of texts share: tokens and their words, what is absent at a baseline, which layer is attributed to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_interpret.explanations import Units
from lightning_interpret.functional import baselines
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.features import find_layer
from lightning_interpret.tasks import batches, words
from lightning_interpret.tasks.base import Targets
from lightning_interpret.tasks.encode import encode, named_tokenizer
from lightning_interpret.tasks.encoding import encode_pairs
from lightning_interpret.tasks.model import ModelTask
from lightning_interpret.tasks.transformer import find_token_id, running_embedding, special_mask, transformer_in

_PAIR = 2


class TextTask(ModelTask):
    """Reads a batch of texts by their token ids.

    Args:
        tokenizer: The tokenizer, or the name or directory to load it from.
        labels: Names of the classes in order; by default their numbers.
        model: Name of the `transformers` model in the module, where it holds several.
    """

    #: Name of each segment of a text: of a pair, or of what is given and what follows.
    segments: ClassVar[tuple[str, ...]] = ("first", "second")

    def __init__(self, tokenizer: Any = None, labels: Sequence[str] | None = None, model: str | None = None) -> None:
        super().__init__(labels, model)
        self._tokenizer = tokenizer

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer, loaded on first use where a name was given."""
        if self._tokenizer is None:
            raise ValueError(
                "`tokenizer=None`: to show tokens, their tokenizer is needed. Give `tokenizer=` (an object, a name or "
                "a directory), or keep it in the module or the data module as `tokenizer`."
            )
        return named_tokenizer(self._tokenizer) if isinstance(self._tokenizer, str) else self._tokenizer

    def encoded(self, texts: Sequence[Any], max_length: int | None = None) -> Any:
        """Return the batch of some texts, or of pairs of them; longer ones are cut, and a ``note`` says it.

        Raises:
            ValueError: If some are pairs and others are not.
        """
        if not any(is_pair(text) for text in texts):
            return encode(self.tokenizer, list(texts), max_length=max_length)
        return encode_pairs(self.tokenizer, self.pairs(texts), max_length)

    def pairs(self, texts: Sequence[Any]) -> list[tuple[str, str]]:
        """Return texts that are to be pairs.

        Raises:
            ValueError: If one is none; the message says what the two are.
        """
        wrong = next((text for text in texts if not is_pair(text)), None)
        if wrong is not None:
            raise ValueError(
                f"{type(self).__name__} reads pairs of texts, ({', '.join(self.segments)}), but got {wrong!r}: give a "
                "tuple of two for each example."
            )
        return [(str(first), str(second)) for first, second in texts]

    # What the model is

    def layer(self, module: nn.Module) -> str:
        """Return the name of the word embeddings."""
        return running_embedding(module, self.model_in(module))

    # What the input is

    def units(self, batch: Any) -> Units:
        """Return the tokens of each text; padding is where the attention mask is 0."""
        parts = batches.as_mapping(batch)
        ids, mask = self.input_ids(parts), self.attention_mask(parts)
        tokens = [self.tokenizer.convert_ids_to_tokens(row) for row in ids.tolist()]
        tokens = [[str(token) for token in row] for row in tokens]  # an id outside the vocabulary has no token
        padding = mask == 0
        special = special_mask(ids, self.tokenizer) & ~padding
        skip = (special | padding).tolist()
        decode = self.tokenizer.convert_tokens_to_string
        word_ids = [words.group(row, out, self._style, decode) for row, out in zip(tokens, skip, strict=True)]
        offsets, segment = self.offsets(parts), self.segment(parts, special, padding)
        return Units(
            kind="token",
            shape=tuple(ids.shape[1:]),
            texts=tuple(map(tuple, tokens)),
            word_ids=tuple(word_ids),
            words=tuple(words.texts(row, ids, decode) for row, ids in zip(tokens, word_ids, strict=True)),
            special=special.cpu(),
            padding=padding.cpu(),
            offsets=tuple(tuple((a, b) for a, b in row) for row in offsets.tolist()) if offsets is not None else None,
            segment=None if segment is None else segment.cpu(),
            segment_names=None if segment is None else self.segments,
        )

    def offsets(self, parts: dict[str, Any]) -> Tensor | None:
        """Return where in its text each token stands, ``(B, T, 2)``, or None where the batch does not say."""
        found = parts.get("offset_mapping")
        return found if isinstance(found, Tensor) else None

    def read_for(self, units: Units, targets: Targets) -> Units:
        """Return the units of each target's row with the tokens that it is not made from as padding.

        A word of which only the first tokens are read is spelled by these.
        """
        read, decode = super().read_for(units, targets), self.tokenizer.convert_tokens_to_string
        if read is units:
            return units
        last, spelled = [row.nonzero() for row in ~read.padding], list(read.words)
        for i, kept in enumerate(last):
            word = units.word_ids[i][int(kept[-1])] if len(kept) else None
            if word is not None:
                tokens = [units.texts[i][t] for t in kept[:, 0].tolist() if units.word_ids[i][t] == word]
                text = decode(tokens).strip() or "".join(tokens)
                spelled[i] = (*spelled[i][:word], text, *spelled[i][word + 1 :])
        return replace(read, words=tuple(spelled))

    def segment(self, parts: dict[str, Any], special: Tensor, padding: Tensor) -> Tensor | None:
        """Return which of two texts each token is of, long ``(B, T)``, by its type; None of single texts.

        Where the model has no types of tokens, the texts are told by the separators between them.
        """
        types = parts.get("token_type_ids")
        if isinstance(types, Tensor) and bool(types.any()):
            return types.long().clamp(max=1)  # XLNet has a type of its own for what frames a text
        own = ~(special | padding)
        begins = own & ~torch.nn.functional.pad(own, (1, 0))[:, :-1]
        runs = begins.long().cumsum(dim=1)
        pair = runs.amax(dim=1, keepdim=True) == _PAIR  # of a batch, each text by itself: one of a pair may be empty
        return torch.where(pair, (runs - 1).clamp(min=0), 0) if bool(pair.any()) else None

    def texts(self, batch: Any) -> tuple[str, ...]:
        """Return each text as its tokens spell it, without those that frame it."""
        parts = batches.as_mapping(batch)
        ids, mask = self.input_ids(parts), self.attention_mask(parts) != 0
        rows = [row[kept].tolist() for row, kept in zip(ids, mask & ~special_mask(ids, self.tokenizer), strict=True)]
        return tuple(self.tokenizer.batch_decode(rows))

    def input_ids(self, parts: dict[str, Any]) -> Tensor:
        """Return the token ids ``(B, T)`` in the named parts of a batch.

        Raises:
            ValueError: If they are missing, or hold no token.
        """
        ids = parts.get("input_ids")
        if not isinstance(ids, Tensor) or ids.dim() != 2 or ids.is_floating_point():
            raise ValueError(
                f"The batch has no `input_ids` of shape (batch, tokens); it has {sorted(parts)}. Override `input_ids`."
            )
        if ids.shape[1] == 0:
            raise ValueError("The texts of this batch have no tokens: there is nothing to attribute to.")
        return ids

    def attention_mask(self, parts: dict[str, Any]) -> Tensor:
        """Return the attention mask ``(B, T)``: the batch's, or else where the ids are not the padding id."""
        mask, ids = parts.get("attention_mask"), self.input_ids(parts)
        if isinstance(mask, Tensor):
            return mask
        pad = self.tokenizer.pad_token_id
        return torch.ones_like(ids) if pad is None else (ids != pad).long()

    def content(self, batch: Any, features: Tensor, keep_special: bool = True) -> Tensor:
        """Return the content tokens ``(B, T)``: no padding, and no special tokens where those are kept."""
        parts = batches.as_mapping(batch)
        ids, there = self.input_ids(parts), self.attention_mask(parts) != 0
        return there & ~special_mask(ids, self.tokenizer) if keep_special else there

    def baseline(self, module: nn.Module, batch: Any, features: Tensor, baseline: Baseline) -> Tensor:
        """Return the word embeddings of x': content tokens replaced, special tokens and padding as in x."""
        if baseline.kind in baselines.FOUND:
            raise ValueError(f"`baseline={baseline.name!r}` is made by a method (`open_case`), not by the task.")
        absent = self.content(batch, features, baseline.keep_special)
        ids = self.input_ids(batches.as_mapping(batch))
        if baseline.kind == "zero":
            return baselines.fill_features(features, absent, features.new_zeros(features.shape[-1]))
        if baseline.kind == "text":
            neutral = self.tokenizer(baseline.text, add_special_tokens=False)["input_ids"]
            if not neutral:
                raise ValueError(f"`baseline={baseline.name!r}`: the tokenizer makes no token of this text.")
            ids = baselines.tile_tokens(ids, absent, torch.tensor(neutral, dtype=ids.dtype))
        elif baseline.kind != "mean":
            ids = baselines.fill_tokens(ids, absent, self._token_id(module, baseline.kind))
        found = []
        for layer, part in self.tables(module, batch):
            embed = layer.forward  # past its hooks: a gate there gates what is put in the layer's place too
            if baseline.kind == "mean":
                found.append(baselines.fill_features(features[:, part], absent[:, part], _mean(layer, ids.device)))
            else:
                found.append(embed(ids[:, part]))
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)

    def tables(self, module: nn.Module, batch: Any) -> list[tuple[Any, slice]]:
        """Return the layers that embed the words, each with the tokens that it reads: one, and all of them."""
        return [(find_layer(module, self.layer(module)), slice(None))]

    def delete(self, module: nn.Module, batch: Any, absent: Tensor) -> Any:
        """Return the batch without the tokens ``absent``, bool ``(B, T)``, closed up and padded on the side it was.

        Every tensor ``(B, T, ...)`` follows; positions are those of the shorter text.

        Raises:
            ValueError: If texts come to be of several lengths and there is no padding token or no attention mask.
        """
        parts = batches.as_mapping(batch)
        ids, present = self.input_ids(parts), self.attention_mask(parts) != 0
        kept = present & ~absent.to(ids.device)
        pad = find_token_id(self.tokenizer, transformer_in(module, self._model), "pad")
        uneven = len(set(kept.sum(dim=1).tolist())) > 1
        if uneven and (pad is None or not isinstance(parts.get("attention_mask"), Tensor)):
            raise ValueError(
                "`baseline='delete'` makes texts of several lengths of this batch, but there is no padding token or no "
                "`attention_mask` in the batch: give both, or use another baseline."
            )
        positions = parts.get("position_ids")
        if isinstance(positions, Tensor) and positions.shape == ids.shape:  # the n-th token kept has the n-th position
            places = (~present).long().argsort(dim=1, stable=True)
            closed = positions.gather(1, places.gather(1, (kept.long().cumsum(dim=1) - 1).clamp(min=0)))
            batch = batches.map_leaves(lambda leaf: closed if leaf is positions else leaf, batch)
        side = getattr(self.tokenizer, "padding_side", "right") == "left"
        left = side if bool(present.all()) else not bool(present[:, 0].all())
        return batches.close_up(batch, kept, left=left, fill=lambda leaf: pad or 0 if leaf is ids else 0)

    def check(self, module: nn.Module, which: str, baseline: Baseline | None) -> None:
        """Raise for a missing tokenizer or layer, a class that does not exist, a token that a baseline needs."""
        _ = self.tokenizer
        find_layer(module, self.layer(module))
        self.check_which(which)
        kind = None if baseline is None else self.baseline_for(baseline).kind
        if baseline is not None and baseline.drawn:
            self.need_references(baseline)
        elif kind not in (None, "zero", "mean", "text"):  # the uniform one is looked for from the default
            self._token_id(module, self.default_baseline.kind if kind == "uniform" else kind)

    def check_which(self, which: str) -> None:
        """Raise for what can be known to be no target before any batch is seen."""

    @cached_property
    def _style(self) -> str:
        return words.mark_style(list(self.tokenizer.get_vocab()))

    def _token_id(self, module: nn.Module, kind: str) -> int:
        model = transformer_in(module, self._model)
        found = find_token_id(self.tokenizer, model, kind)
        if found is None:
            there = [k for k in baselines.TOKEN_KINDS if find_token_id(self.tokenizer, model, k) is not None]
            raise ValueError(
                f"`baseline={kind!r}`, but the tokenizer has no {kind} token. There is: "
                f"{', '.join([*there, 'zero', 'mean'])}, or a neutral text: 'text: ...'."
            )
        return found


def is_pair(text: Any) -> bool:
    """Return whether an example is two texts."""
    return isinstance(text, tuple | list) and len(text) == 2


def _mean(layer: Any, device: torch.device) -> Tensor:
    """Return the mean embedding of a table, as it embeds."""
    weight = layer.weight
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        raise ValueError("`baseline='mean'` needs an embedding with a weight (words, dimensions): use 'zero'.")
    everything = torch.arange(len(weight), device=device).split(8192)
    return torch.stack([layer.forward(part[None])[0].sum(dim=0) for part in everything]).sum(dim=0) / len(weight)
