"""Small generators, random or trained, their tokenizer, and a batch of prompts with what the model writes to them."""

from __future__ import annotations

import gzip
import random
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
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
_WORD = re.compile(r"\w+|[^\w\s]")


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


def random_model(
    kind: str, vocabulary: int, *, width: int = 128, blocks: int = 4, seed: int = 0, spread: float = 0.1
) -> nn.Module:
    """Return a model of this kind with random weights.

    With the default ``spread`` of the weights its logits are about as far apart as a trained one's.
    """
    torch.manual_seed(seed)
    ids = {"pad_token_id": UNK, "bos_token_id": BOS, "eos_token_id": EOS}
    if kind == "gpt2":
        config = GPT2Config(
            vocab_size=vocabulary,
            n_embd=width,
            n_layer=blocks,
            n_head=4,
            n_positions=512,
            initializer_range=spread,
            **ids,
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
            initializer_range=spread,
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
            init_std=spread,
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
        word_tokenizer(texts, vocabulary, _side(kind)),
        random_model(kind, vocabulary, width=width, blocks=blocks, seed=seed),
    )
    words = [token for text in texts for token in tokenizer(text)["input_ids"]]
    lengths = _lengths(batch, shortest, longest)
    begins = [sum(lengths[:i]) for i in range(batch)]
    read = [words[begin : begin + length] for begin, length in zip(begins, lengths, strict=True)]
    return Prompts(model, tokenizer, read, [written(model, each, tokens) for each in read])


def learned(
    kind: str,
    file: Path,
    *,
    batch: int = 8,
    tokens: int = 16,
    steps: int = 1500,
    shortest: int = 8,
    longest: int = 24,
    vocabulary: int = 8000,
    width: int = 128,
    blocks: int = 4,
    seed: int = 0,
) -> Prompts:
    """Return a model that was trained to write the second text of each row of a file to the first, and prompts.

    Args:
        kind: One of ``MODELS``.
        file: Tab-separated, with a header, gzipped or not; the first two columns are read, in lower case.
        batch: Prompts: rows that it was not trained on and knows every word of.
        tokens: Tokens that it writes to each.
        steps: Batches of 32 rows in training.
        shortest: Words of the shortest prompt.
        longest: Words of the longest, about.
        vocabulary: Words that it knows at most.
        width: Of its hidden states.
        blocks: Its layers; of an encoder-decoder those of each end.
        seed: Of weights and order.

    Raises:
        SystemExit: If there are too few rows that can be prompts.
    """
    with gzip.open(file, "rt", encoding="utf8") if file.suffix == ".gz" else file.open(encoding="utf8") as lines:
        rows = [tuple(" ".join(_WORD.findall(text.lower())) for text in line.split("\t")[:2]) for line in lines][1:]
    held = max(len(rows) // 20, 4 * batch)
    counts = Counter(word for row in rows[:-held] for text in row for word in text.split())
    tokenizer = word_tokenizer([word for word, _ in counts.most_common(vocabulary)], vocabulary, _side(kind))
    coded = [tuple(tokenizer(text)["input_ids"] for text in row) for row in rows]
    known = [row[0] for row in coded[-held:] if UNK not in row[0]]
    wanted = _lengths(batch, shortest, longest)
    if len(known) < batch:
        raise SystemExit(f"{file}: {len(known)} rows at its end have no rare word, and {batch} prompts are asked for.")
    read = [known.pop(min(range(len(known)), key=lambda i: abs(len(known[i]) - length))) for length in wanted]
    model = random_model(kind, vocabulary, width=width, blocks=blocks, seed=seed, spread=0.02)
    _train(model, coded[:-held], steps, seed)
    return Prompts(model, tokenizer, read, [written(model, each, tokens) for each in read])


def _train(model: nn.Module, rows: list[tuple[list[int], list[int]]], steps: int, seed: int) -> None:
    """Train a model on ids of texts and of what is to be written to them."""
    order = random.Random(seed)
    optimizer = torch.optim.AdamW(model.requires_grad_(True).train().parameters(), lr=1e-3)
    rise = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min(1, (i + 1) / rise, (steps - i) / steps + 0.05)
    )
    for _ in range(steps):
        some = order.sample(rows, min(32, len(rows)))
        if model.config.is_encoder_decoder:
            read, answers = [a for a, _ in some], [[*b, EOS] for _, b in some]
        else:
            read = [[*a, *b, EOS] for a, b in some]
            answers = [[-100] * len(a) + [*b, EOS] for a, b in some]
        mask = padded([[1] * len(each) for each in read], 0)
        loss = model(input_ids=padded(read, UNK), attention_mask=mask, labels=padded(answers, -100)).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    print(f"Trained for {steps} steps on {len(rows):,} rows, to a loss of {loss.item():.2f}.")
    model.eval().requires_grad_(False)


def padded(rows: list[list[int]], fill: int) -> torch.Tensor:
    """Return rows as one tensor, ``fill`` behind the end of each."""
    width = max(len(row) for row in rows)
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows])


def _lengths(batch: int, shortest: int, longest: int) -> list[int]:
    return [shortest + (longest - shortest) * i // max(1, batch - 1) for i in range(batch)]


def _side(kind: str) -> str:
    return "right" if kind == "bart" else "left"


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
