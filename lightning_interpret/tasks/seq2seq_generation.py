"""A text made of another: any encoder-decoder of `transformers`, explained token by token."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_interpret.functional.features import JOINED, find_layer
from lightning_interpret.functional.layers import plain_name
from lightning_interpret.tasks.base import Layout
from lightning_interpret.tasks.encode_written import encode_sources
from lightning_interpret.tasks.generation import IGNORED, Generation
from lightning_interpret.tasks.text import is_pair
from lightning_interpret.tasks.transformer import running_embedding
from lightning_interpret.tasks.writing import start_of
from lightning_interpret.tasks.written import ended

#: What of a batch is the decoder's; what else goes by token is the encoder's.
_OF_DECODER = ("decoder_input_ids", "decoder_attention_mask", "labels", "contrast_labels")


class Seq2SeqGeneration(Generation):
    """Reads an encoder-decoder: T5, BART, Marian and their kin.

    The batch's ``labels`` ``(B, T)`` are the output, −100 at padding; ``decoder_input_ids`` are made of them where they
    are not given. Scores are for the tokens of the source and, behind them, for those that the decoder reads: the token
    it begins with, and the output before the one that is explained. The default layer is that of the words of both
    ends, ``encoder+decoder``; a layer of one end has scores at its own tokens.

    Options, targets and errors are those of :class:`~lightning_interpret.tasks.generation.Generation`.
    """

    segments: ClassVar[tuple[str, ...]] = ("source", "output")
    pooled: ClassVar[tuple[str, str]] = ("mean", "the source")

    def encoded(self, texts: Sequence[Any], max_length: int | None = None) -> Any:
        """Return the batch of some sources with their outputs, or of sources alone, for what the model writes itself.

        Raises:
            ValueError: If there are sources alone and the output is to be given.
        """
        if self.continuation == "own" and not any(is_pair(text) for text in texts):
            return encode_sources(self.tokenizer, list(texts), [None] * len(texts), max_length)
        sources, outputs = zip(*self.pairs(texts), strict=True)
        return encode_sources(self.tokenizer, sources, outputs, max_length)

    def prepared(self, module: nn.Module, batch: Any) -> Any:
        """Return the batch with its output, and what the decoder reads of it."""
        parts = super().prepared(module, batch)
        if parts is batch:
            return batch
        return parts | {"decoder_input_ids": self._read(self.model_in(module), parts)}

    def given(self, batch: Any) -> dict[str, Any]:
        """Return the parts of a batch.

        Raises:
            ValueError: If it has no ``labels``.
        """
        parts = self.parts(batch)
        labels = parts.get("labels")
        if not isinstance(labels, Tensor) or labels.dim() != 2:
            raise ValueError(
                "The batch has no `labels` (batch, tokens of the output): give them, or let the model write, "
                "`continuation='own'`."
            )
        return parts

    def written(self, model: Any, batch: Any) -> dict[str, Any]:
        """Return the parts of a batch of sources, each with what the model writes of it."""
        parts = {name: part for name, part in self.parts(batch).items() if name not in _OF_DECODER}
        start = getattr(model.generation_config, "decoder_start_token_id", None)
        start = start_of(model.config, self._pad) if start is None else start
        ids, mask = self.input_ids(parts), self.attention_mask(parts)
        read = self._write(model, ids, mask, before=1, decoder_start_token_id=start)
        there = ended(model, read[:, 1:], self.tokenizer)
        return parts | {"labels": read[:, 1:].masked_fill(~there, IGNORED), "decoder_input_ids": read[:, :-1]}

    def reads(self, module: nn.Module, batch: Any) -> dict[str, Any]:
        """Return the parts of a batch with what the decoder reads, which is made of the labels."""
        parts = self.given(batch)
        return parts | {"decoder_input_ids": self._read(self.model_in(module), parts)}

    def answers(self, parts: dict[str, Any]) -> Tensor:
        """Return the token that each place of the decoder writes, long ``(B, T)``; −100 where that is no output."""
        return parts["labels"]

    # What the input is: the tokens of the source, and those that the decoder reads

    def input_ids(self, parts: dict[str, Any]) -> Tensor:
        """Return the ids of the source and, in a batch that is prepared, behind them those that the decoder reads."""
        ids, more = super().input_ids(parts), parts.get("decoder_input_ids")
        return ids if more is None else torch.cat([ids, more], dim=1)

    def attention_mask(self, parts: dict[str, Any]) -> Tensor:
        """Return which tokens are there, of the source and of what the decoder reads."""
        more = parts.get("decoder_input_ids")
        mask = super().attention_mask({name: part for name, part in parts.items() if name != "decoder_input_ids"})
        if more is None:
            return mask
        return torch.cat([mask, (parts["labels"] != IGNORED).to(mask)], dim=1)

    def offsets(self, parts: dict[str, Any]) -> Tensor | None:
        """Return where in the source each token stands; what the decoder reads stands nowhere in it, at (0, 0)."""
        found, more = super().offsets(parts), parts.get("decoder_input_ids")
        return found if found is None or more is None else F.pad(found, (0, 0, 0, more.shape[1]))

    def segment(self, parts: dict[str, Any], special: Tensor, padding: Tensor) -> Tensor | None:
        """Return 0 for the source and 1 for what the decoder reads, long ``(B, S + T)``."""
        if parts.get("decoder_input_ids") is None:
            return None
        return (
            (torch.arange(padding.shape[1], device=padding.device) >= self._units_before(parts))
            .long()
            .expand_as(padding)
        )

    def content(self, batch: Any, features: Tensor, keep_special: bool = True) -> Tensor:
        """Return the content tokens ``(B, S + T)`` that x' replaces: of the source, of the output, or both."""
        found = super().content(batch, features, keep_special)
        output = torch.arange(found.shape[1], device=found.device) >= self._units_before(self.parts(batch))
        return self._held(found, output)

    def texts(self, batch: Any) -> tuple[str, ...]:
        """Return each source and, where there is one, its output behind an arrow."""
        parts = {name: part for name, part in self.parts(batch).items() if name != "decoder_input_ids"}
        sources = super().texts(parts)
        if not isinstance(parts.get("labels"), Tensor):
            return sources
        outputs = self.gold_names(parts) or ()
        return tuple(f"{a} → {b}" if b else a for a, b in zip(sources, outputs, strict=True))

    # Which layers

    def layer(self, module: nn.Module) -> str:
        """Return the names of the word embeddings of both ends."""
        model: Any = self.model_in(module)
        decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
        table = None if decoder is None else decoder.get_input_embeddings()
        names = {id(part): plain_name(name) for name, part in module.named_modules()}
        if id(table) not in names or not getattr(model.config, "is_encoder_decoder", False):
            raise ValueError(
                f"{type(model).__name__} has no decoder with word embeddings of its own: for a model that reads one "
                "text from left to right use CausalGeneration."
            )
        return f"{running_embedding(module, model)}{JOINED}{names[id(table)]}"

    def represented(self, module: nn.Module) -> str:
        """Return the name of the encoder."""
        encoder: Any = self.model_in(module).get_encoder()
        return next(name.replace("_orig_mod.", "") for name, part in module.named_modules() if part is encoder)

    def represented_at(self, batch: Any, features: Tensor) -> Tensor:
        """Return the tokens of the source, bool ``(B, S)``."""
        parts = {name: part for name, part in self.parts(batch).items() if name != "decoder_input_ids"}
        return self.attention_mask(parts) != 0

    def tables(self, module: nn.Module, batch: Any) -> list[tuple[Any, slice]]:
        """Return the layers that embed the words of both ends, each with the tokens that it reads."""
        source = self._units_before(self.parts(batch))
        first, second = self.layer(module).split(JOINED)
        return [(find_layer(module, first), slice(None, source)), (find_layer(module, second), slice(source, None))]

    def layout(self, module: nn.Module, batch: Any, features: Tensor, layer: str) -> Layout:
        """Return how features of a layer lie on the tokens: those of one end on its own."""
        units, source = self.units(batch), self._units_before(self.parts(batch))
        if features.dim() != 3 or features.shape[1] == units.shape[0]:
            return super().layout(module, batch, features, layer)
        output = units.shape[0] - source
        decoder = find_layer(module, layer) in set(self.model_in(module).get_decoder().modules())
        if features.shape[1] != (output if decoder else source):
            return super().layout(module, batch, features, layer)
        around = (source, 0) if decoder else (0, output)
        return Layout(units, lambda values: F.pad(values.reshape(*values.shape[:2], -1).sum(dim=-1), around))

    def columns(self, batch: Any, used: Tensor) -> Tensor:
        """Return the units from the first to the last that is used, of the source and of the output each."""
        source = self._units_before(self.parts(batch))
        ends = super().columns(batch, used[:source]), super().columns(batch, used[source:])
        return torch.cat([ends[0], source + torch.arange(int(ends[1][-1]) + 1)])

    def crop(self, batch: Any, columns: Tensor, length: int) -> Any:
        """Return the batch with only some of the tokens of its source and of its output."""
        parts = self.parts(batch)
        source = self._units_before(parts)
        at_source, at_output = columns[columns < source], columns[columns >= source] - source
        cut = dict(parts)
        for name, part in parts.items():
            if not isinstance(part, Tensor) or part.dim() < 2:
                continue
            if name in _OF_DECODER:
                cut[name] = part[:, at_output.to(part.device)]
            elif part.shape[1] == source:
                cut[name] = part[:, at_source.to(part.device)]
        return cut

    # How

    @property
    def _pad(self) -> int:
        found = self.tokenizer.pad_token_id
        return int(found if found is not None else self.tokenizer.eos_token_id or 0)

    def _read(self, model: Any, parts: dict[str, Any]) -> Tensor:
        """Return what the decoder reads, long ``(B, T)``: the given one, or the output shifted by one.

        As the model itself shifts it: mBART and its kin begin with the last token of the output, the language.
        """
        given, shift = parts.get("decoder_input_ids"), getattr(model, "prepare_decoder_input_ids_from_labels", None)
        if isinstance(given, Tensor):
            return given
        if shift is not None and model.config.pad_token_id is not None:
            with suppress(TypeError, ValueError):  # a configuration that does not say what a decoder begins with
                return shift(parts["labels"])
        pad = getattr(model.config, "pad_token_id", None)
        pad = self._pad if pad is None else int(pad)
        shifted = F.pad(parts["labels"][:, :-1], (1, 0), value=start_of(model.config, pad))
        return shifted.masked_fill(shifted == IGNORED, pad)

    def _called(self, module: nn.Module, parts: dict[str, Any]) -> Tensor:
        model = self.model_in(module)
        return self._output(model, parts | {"decoder_input_ids": self._read(model, parts)})

    def _length(self, parts: dict[str, Any]) -> int:
        return parts["labels"].shape[1]

    def _units_before(self, parts: dict[str, Any]) -> int:
        return parts["input_ids"].shape[1]
