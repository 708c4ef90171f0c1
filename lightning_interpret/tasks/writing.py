"""Models of `transformers` that write: what they give a text that follows another, and what they write themselves."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    LogitsProcessor,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutput

from lightning_interpret.functional.tokens import Tokens


class Writer(ABC):
    """Reads a language model: a source, a lead that is given, and a text that follows it.

    Args:
        model: The model.
        pad: Id of the token to pad with.
        end: Id of the token that ends a text.
    """

    def __init__(self, model: PreTrainedModel, pad: int, end: int) -> None:
        self.model: Any = model
        self.pad, self.end = pad, end

    def log_probs(self, source: Tokens, lead: Tensor, text: Tokens, choices: int = 1) -> Tensor:
        """Return the log probability of each token of a text, 0 of padding, ``(B · choices, S)``, at least in float32.

        Args:
            source: What is read, B rows.
            lead: Ids that come before each text and are given, ``(P,)``.
            text: B · ``choices`` rows without gaps, padded on the right: all choices of the first source, then those of
                the second. The source is read once.
            choices: How many texts a source has.
        """
        logits = self._logits(source, lead, text, choices)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        losses = F.cross_entropy(logits.flatten(0, 1), text.ids.flatten(), reduction="none")
        return -losses.reshape(text.ids.shape) * text.there

    @abstractmethod
    def _logits(self, source: Tokens, lead: Tensor, text: Tokens, choices: int) -> Tensor:
        """Return the scores of the vocabulary at each place of the texts, ``(B · choices, S, V)``."""

    @torch.no_grad()
    def write(self, source: Tokens, lead: Tokens, limit: int) -> Tokens:
        """Return what the model writes after each source and its own lead, greedily: at most ``limit`` tokens.

        The mark that ends a text is not among them.
        """
        with _greedy(self.model, self.pad, self.end):
            written = self._generate(source, lead, limit)
        there = (written != self.end).long().cumprod(dim=1).bool()
        return Tokens.of(written, there).closed()

    @abstractmethod
    def _generate(self, source: Tokens, lead: Tokens, limit: int) -> Tensor:
        """Return ids ``(B, S)``, ended by ``end`` and followed by anything."""


class EncoderDecoder(Writer):
    """T5, BART and their kin: the encoder reads the source, the decoder the lead and the text."""

    def __init__(self, model: PreTrainedModel, pad: int, end: int) -> None:
        super().__init__(model, pad, end)
        self.start = start_of(model.config, pad)

    def _logits(self, source: Tokens, lead: Tensor, text: Tokens, choices: int) -> Tensor:
        source = self._settled(source)
        ids = text.each(torch.cat([lead.new_tensor([self.start]), lead])).then(text)
        read = {"input_ids": source.filled(self.pad), "attention_mask": source.there.long()}
        states = self.model.get_encoder()(**read).last_hidden_state
        if choices > 1:
            states, source = states.repeat_interleave(choices, dim=0), source.repeat(choices)
        output = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            attention_mask=source.there.long(),
            decoder_input_ids=ids.filled(self.pad)[:, :-1],
            use_cache=False,
        )
        return output.logits[:, len(lead) :]

    def _generate(self, source: Tokens, lead: Tokens, limit: int) -> Tensor:
        source, lead = self._settled(source), lead.closed()
        written = self.model.generate(
            input_ids=source.filled(self.pad),
            attention_mask=source.there.long(),
            decoder_start_token_id=self.start,
            logits_processor=[_Forced(lead)],
            max_new_tokens=lead.ids.shape[1] + limit,
        )[:, 1:]
        places = torch.arange(limit, device=written.device) + lead.lengths[:, None]
        there = places < written.shape[1]
        return written.gather(1, places.clamp(max=written.shape[1] - 1)).masked_fill(~there, self.end)

    @staticmethod
    def _settled(source: Tokens) -> Tokens:
        """Return the source as its positions are counted: from its first token, without gaps."""
        there = source.there
        gaps = there.shape[1] > 0 and bool((there[:, 1:] & ~there[:, :-1]).any())
        source = source.closed() if gaps else source
        if source.ids.shape[1]:
            return source
        return Tokens(source.ids.new_zeros(len(source.ids), 1), source.there.new_zeros(len(source.ids), 1))


class Decoder(Writer):
    """GPT-2, Llama and their kin: one text that goes on. The lead has at least one token."""

    def __init__(self, model: PreTrainedModel, pad: int, end: int) -> None:
        super().__init__(model, pad, end)
        self._accepted = set(inspect.signature(model.forward).parameters)

    def _logits(self, source: Tokens, lead: Tensor, text: Tokens, choices: int) -> Tensor:
        follows = text.each(lead).then(text)
        follows = Tokens(follows.ids[:, :-1], follows.there[:, :-1])
        if choices == 1:
            return self._run(source.then(follows), keep=text.ids.shape[1]).logits
        if self.model.training and self._checkpoints:  # which keeps no states to go on from
            return self._run(source.repeat(choices).then(follows), keep=text.ids.shape[1]).logits
        states = self._run(source, keep=1, use_cache=True).past_key_values
        states.batch_repeat_interleave(choices)
        return self._run(source.repeat(choices).then(follows), keep=text.ids.shape[1], past=states).logits

    @property
    def _checkpoints(self) -> bool:
        return any(getattr(part, "gradient_checkpointing", False) for part in self.model.modules())

    def _run(self, tokens: Tokens, *, keep: int, past: Any = None, use_cache: bool = False) -> Any:
        """Return the model's output, with the scores of the last ``keep`` places, after the states it goes on from."""
        known = 0 if past is None else int(past.get_seq_length())
        given: dict[str, Any] = {"input_ids": tokens.filled(self.pad)[:, known:]}
        given |= {"attention_mask": tokens.there.long(), "use_cache": use_cache or past is not None}
        if past is not None:
            given["past_key_values"] = past
        if "position_ids" in self._accepted:  # of what is there: padding may stand at either end and in between
            given["position_ids"] = (tokens.there.long().cumsum(dim=1) - 1).clamp(min=0)[:, known:]
        if "logits_to_keep" in self._accepted:
            given["logits_to_keep"] = keep
        output = self.model(**given)
        output.logits = output.logits[:, -keep:]
        return output

    def _generate(self, source: Tokens, lead: Tokens, limit: int) -> Tensor:
        given = source.then(lead).closed(left=True)
        ids = given.filled(self.pad)
        written = self.model.generate(input_ids=ids, attention_mask=given.there.long(), max_new_tokens=limit)
        return written[:, ids.shape[1] :]


class _Forced(LogitsProcessor):
    """Lets nothing but the tokens of a lead be written, each row its own, while it lasts."""

    def __init__(self, lead: Tokens) -> None:
        self.lead = lead

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        place = input_ids.shape[1] - 1
        if place >= self.lead.ids.shape[1]:
            return scores
        forced = torch.full_like(scores, float("-inf")).scatter(1, self.lead.ids[:, place, None], 0.0)
        return torch.where(self.lead.there[:, place, None], forced, scores)


@contextmanager
def _greedy(model: PreTrainedModel, pad: int, end: int) -> Iterator[None]:
    """Let `generate` write greedily, whatever the model's own configuration of it asks for."""
    before = model.generation_config
    model.generation_config = GenerationConfig(do_sample=False, num_beams=1, pad_token_id=pad, eos_token_id=end)
    try:
        yield
    finally:
        model.generation_config = before


def start_of(config: PretrainedConfig, pad: int) -> int:
    """Return the token that a decoder begins with."""
    given = (getattr(config, name, None) for name in ("decoder_start_token_id", "bos_token_id"))
    return next((int(each) for each in given if each is not None), pad)


def writer_of(model: PreTrainedModel, tokenizer: Any) -> Writer:
    """Return how a model writes.

    Raises:
        ValueError: If it has no decoder, or the tokenizer no token that could end a text.
    """
    config, kind = model.config, type(model).__name__
    if not model.can_generate() or not _decodes(config):
        raise _no_decoder(kind)
    names = ("eos_token_id", "sep_token_id")
    end = next((found for name in names if (found := getattr(tokenizer, name, None)) is not None), None)
    if end is None:
        raise ValueError(
            f"The tokenizer ({type(tokenizer).__name__}) has no token that ends a text: set `tokenizer.eos_token`."
        )
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
    return (EncoderDecoder if config.is_encoder_decoder else Decoder)(model, int(pad), int(end))


def auto_class(config: PretrainedConfig) -> Any:
    """Return the class of `transformers` that makes a model that writes.

    Raises:
        ValueError: If no such model has a decoder.
    """
    if not _decodes(config):
        raise _no_decoder(type(config).__name__)
    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM


def _decodes(config: PretrainedConfig) -> bool:
    if config.is_encoder_decoder:
        return True
    return type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and not reads_both_ways(config)


def reads_both_ways(config: PretrainedConfig) -> bool:
    """Return whether a model reads what follows a token too, as BERT does unless it is told that it decodes."""
    return type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)


def _no_decoder(kind: str) -> ValueError:
    return ValueError(
        f"{kind} has no decoder, and cannot write an explanation: use an encoder-decoder (`AutoModelForSeq2SeqLM`: T5, "
        "BART) or a decoder (`AutoModelForCausalLM`: GPT-2, Llama)."
    )
