"""What a gate is made of on a module: its word embeddings, what the ids are, and who reads the texts for it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_interpret.functional.features import LayerError, find_layer, takes_embeddings
from lightning_interpret.functional.layers import own_parts, plain_name
from lightning_interpret.functional.scope import explaining
from lightning_interpret.layers.token_kinds import TokenKinds, WordTable
from lightning_interpret.layers.token_scorer import TokenScorer
from lightning_interpret.mixins.task import known_task
from lightning_interpret.tasks.transformer import framing_ids
from lightning_interpret.tasks.words import marks


def default_layer(module: nn.Module) -> str | None:
    """Return the name of a module's word embeddings: what its task says, else its only embedding; None without one.

    Raises:
        LayerError: If there are several embeddings, and nothing says which is of words.
    """
    with suppress(ValueError):
        return known_task(module).layer(module)
    tables = [plain_name(name) for name, part in own_parts(module).items() if isinstance(part, nn.Embedding)]
    if len(tables) > 1:
        raise LayerError(
            f"`rationale_layer=None`: {type(module).__name__} has several embeddings ({', '.join(tables)}), and no "
            "task that says which is of words: name it."
        )
    return tables[0] if tables else None


def tokenizer_of(module: nn.Module) -> Any:
    """Return the tokenizer of the module's task, or the module's own; None without one."""
    with suppress(ValueError, AttributeError):
        return known_task(module).tokenizer  # type: ignore[attr-defined]
    return getattr(module, "tokenizer", None)


def kinds_of(module: nn.Module, embedding: nn.Module, *, words: bool) -> TokenKinds:
    """Return which tokens may be selected, as tokenizer, encoder and embeddings tell.

    Raises:
        ValueError: If whole words are asked for and there is no tokenizer.
    """
    tokenizer, encoder = tokenizer_of(module), takes_embeddings(module, embedding)
    config = getattr(encoder, "config", None)
    pads = (getattr(each, name, None) for each, name in ((tokenizer, "pad_token_id"), (config, "pad_token_id")))
    padding = next((each for each in (*pads, getattr(embedding, "padding_idx", None)) if each is not None), None)
    if not words:
        return TokenKinds([] if tokenizer is None else framing_ids(tokenizer), padding)
    if tokenizer is None:
        raise ValueError(
            f"`rationale_words=True`, but {type(module).__name__} has no tokenizer that tells words: keep it as "
            "`tokenizer`, or define `interpret_task()`."
        )
    size = len(embedding.weight)  # type: ignore[arg-type]
    names = [str(token) for token in tokenizer.convert_ids_to_tokens(range(min(size, len(tokenizer))))]
    table = torch.zeros(3, size, dtype=torch.bool)
    table[:, : len(names)] = torch.tensor(marks(names, tokenizer.convert_tokens_to_string))
    return TokenKinds(framing_ids(tokenizer), padding, WordTable(*table))


@dataclass(frozen=True)
class Generator:
    """Who makes of a text what the gate reads.

    Attributes:
        width: How many numbers a token.
        shared: Whether it is the encoder that embeds.
        child: A module of the gate's own.
        reader: A part of the module.
    """

    width: int
    shared: bool = False
    child: nn.Module | None = None
    reader: nn.Module | None = None


def generator_of(module: nn.Module, embedding: nn.Module, asked: str | nn.Module) -> Generator:
    """Return the generator that was asked for: ``own``, ``shared``, a part of the module by name, or a module.

    Raises:
        LayerError: If there is no such part, or no encoder to share.
        ValueError: If what a part returns of embeddings is no vector a token.
    """
    weight = embedding.weight
    assert isinstance(weight, Tensor)  # which `word_embeddings` has looked at
    if asked == "own":
        scorer = TokenScorer(weight.shape[1])
        return Generator(scorer.hidden, child=_Standardised(scorer))
    if asked == "shared":
        encoder = takes_embeddings(module, embedding)
        config: Any = getattr(encoder, "config", None)
        return Generator(weight.shape[1] if config is None else config.hidden_size, shared=True)
    if isinstance(asked, nn.Module):
        return Generator(_width(asked, weight), child=_Unmasked(asked))
    part = find_layer(module, asked)
    return Generator(_width(part, weight), reader=part)


class _Standardised(nn.Module):
    """A scorer that is given embeddings of unit variance: those of a new encoder are small beside its own biases."""

    def __init__(self, scorer: TokenScorer) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, features: Tensor, selectable: Tensor) -> Tensor:
        features = F.layer_norm(_as_weights(features, self), features.shape[-1:], eps=1e-9)
        values: Tensor = self.scorer(features, selectable)
        return values


class _Unmasked(nn.Module):
    """A module of the user's, which is given the embeddings alone."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, features: Tensor, selectable: Tensor) -> Tensor:
        found = self.part(_as_weights(features, self))
        return found[0] if isinstance(found, tuple) else found


def _as_weights(features: Tensor, part: nn.Module) -> Tensor:
    """Return features in the type of a part's weights: the encoder alone may be in half precision."""
    own = next(part.parameters(), features)
    return features.to(own.dtype)


def _width(part: nn.Module, weight: Tensor) -> int:
    """Return how many numbers a token a module makes of embeddings, by asking it."""
    own = next(part.parameters(), weight)
    features = torch.zeros(1, 2, weight.shape[1], device=own.device, dtype=own.dtype)
    with explaining(part), torch.no_grad():
        found = part(features)
    found = found[0] if isinstance(found, tuple) else found
    if not isinstance(found, Tensor) or found.dim() != 3 or found.shape[:2] != (1, 2):
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            f"`rationale_generator`: {type(part).__name__} makes {shape} of embeddings (1, 2, {weight.shape[1]}), and "
            "must make (1, 2, width) of them: features of each token."
        )
    return found.shape[2]
