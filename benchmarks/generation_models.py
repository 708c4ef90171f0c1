"""Small generators with random weights, their tokenizer, and a batch of prompts with what the model writes to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from lightning_interpret.data import ReviewCorpus

MODELS = ("gpt2", "llama", "bart")
#: Ids of the tokens that are no words; "<unk>", which is the padding too, is what all tools take for an absent word.
UNK, BOS, EOS = 0, 1, 2


@dataclass
class Prompts:
    """A model and what it is to be explained on: ids of B prompts, without padding, and of its outputs."""

    model: nn.Module
    tokenizer: Any
    prompts: list[list[int]]
    outputs: list[list[int]]

    @property
    def encoder_decoder(self) -> bool:
        """Whether the prompts are read by an encoder."""
        return bool(self.model.config.is_encoder_decoder)

    def texts(self, ids: list[list[int]]) -> list[str]:
        """Return texts that the tokenizer reads as these ids."""
        return [" ".join(self.tokenizer.convert_ids_to_tokens(each)) for each in ids]


def word_tokenizer(texts: list[str], vocabulary: int, padding_side: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words: what a random model writes is read as the tokens it wrote."""
    words = dict.fromkeys(word for text in texts for word in text.split())
    tokens = ["<unk>", "<bos>", "<eos>", *words]
    tokens += [f"word{i}" for i in range(vocabulary - len(tokens))]
    core = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens[:vocabulary])}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        pad_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        padding_side=padding_side,
        model_max_length=512,
    )


def random_model(kind: str, vocabulary: int, *, width: int = 128, blocks: int = 4, seed: int = 0) -> nn.Module:
    """Return a model of this kind with random weights, whose logits are about as far apart as a trained one's."""
    torch.manual_seed(seed)
    ids = {"pad_token_id": UNK, "bos_token_id": BOS, "eos_token_id": EOS}
    if kind == "gpt2":
        config = GPT2Config(
            vocab_size=vocabulary, n_embd=width, n_layer=blocks, n_head=4, n_positions=512, initializer_range=0.1, **ids
        )
        model = GPT2LMHeadModel(config)
    elif kind == "llama":
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=blocks,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            initializer_range=0.1,
            **ids,
        )
        model = LlamaForCausalLM(config)
    else:
        sizes = {
            f"{part}_{name}": value
            for part in ("encoder", "decoder")
            for name, value in (("layers", blocks), ("attention_heads", 4), ("ffn_dim", 4 * width))
        }
        config = BartConfig(
            vocab_size=vocabulary,
            d_model=width,
            max_position_embeddings=512,
            init_std=0.1,
            decoder_start_token_id=BOS,
            forced_eos_token_id=None,
            **sizes,
            **ids,
        )
        model = BartForConditionalGeneration(config)
    with torch.no_grad():  # a padding row is made all zero; a trained unknown word is none, and RMSNorm jumps at zero
        table = model.get_input_embeddings().weight
        table[UNK] = 0.1 * torch.randn(table.shape[1])
    return model.eval().requires_grad_(False)


def prompts(
    kind: str,
    *,
    batch: int = 8,
    tokens: int = 16,
    shortest: int = 12,
    longest: int = 40,
    vocabulary: int = 8000,
    width: int = 128,
    blocks: int = 4,
    seed: int = 0,
) -> Prompts:
    """Return a model, reviews of ``shortest`` to ``longest`` words, and ``tokens`` that it writes to each."""
    reviews = ReviewCorpus(20 * batch, seed=seed)
    texts = [reviews[i].text for i in range(20 * batch)]
    tokenizer, model = (
        word_tokenizer(texts, vocabulary, "right" if kind == "bart" else "left"),
        random_model(kind, vocabulary, width=width, blocks=blocks, seed=seed),
    )
    words = [token for text in texts for token in tokenizer(text)["input_ids"]]
    spread = max(1, batch - 1)
    lengths = [shortest + (longest - shortest) * i // spread for i in range(batch)]
    begins = [sum(lengths[:i]) for i in range(batch)]
    read = [words[begin : begin + length] for begin, length in zip(begins, lengths, strict=True)]
    return Prompts(model, tokenizer, read, [written(model, each, tokens) for each in read])


def written(model: nn.Module, prompt: list[int], tokens: int) -> list[int]:
    """Return what the model writes to a prompt, greedily, without special tokens."""
    with torch.no_grad():
        found = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            num_beams=1,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            suppress_tokens=[UNK, BOS, EOS],
            repetition_penalty=1.3,
        )
    return found[0, -tokens:].tolist()
