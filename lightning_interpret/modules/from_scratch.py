"""A small encoder and its tokenizer, made from texts alone: what the demo trains where no model is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, PreTrainedTokenizerFast

from lightning_interpret.modules.portable import config_values
from lightning_interpret.modules.text_classifier import TextClassifier

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def word_piece(texts: Iterable[str], *, vocabulary: int = 8000, max_length: int = 256) -> PreTrainedTokenizerFast:
    """Return a lower-casing WordPiece tokenizer of the words in some texts, most frequent first; others are spelled.

    The same texts give the same vocabulary, which the trainer of `tokenizers` does not: it breaks ties by chance.
    """
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    split = (splitter.pre_tokenize_str(normalizer.normalize_str(text)) for text in texts)
    counts = Counter(word for words in split for word, _ in words)
    characters = sorted({character for word in counts for character in word})
    known = [*_SPECIAL, *characters, *(f"##{character}" for character in characters)]
    known += sorted(counts, key=lambda word: (-counts[word], word))
    tokens = list(dict.fromkeys(known))[:vocabulary]
    core = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer, core.decoder = normalizer, splitter, decoders.WordPiece()
    frame = [(token, core.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=frame
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), _SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=max_length, **names)


def small_encoder(
    texts: Sequence[str], labels: Sequence[str], *, learning_rate: float = 5e-4, max_length: int = 256
) -> TextClassifier:
    """Return an untrained BERT of two layers and 96 dimensions that reads ``max_length`` tokens of a text."""
    tokenizer: Any = word_piece(texts, max_length=max_length)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=192,
        max_position_embeddings=tokenizer.model_max_length,
        pad_token_id=tokenizer.pad_token_id,
    )
    return TextClassifier(
        config=config_values(config), labels=list(labels), tokenizer=tokenizer, learning_rate=learning_rate
    )
