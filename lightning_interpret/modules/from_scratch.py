"""Small models and their tokenizers, made from texts alone: what the demo trains where no model is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BartConfig, BertConfig, GPT2Config, PreTrainedTokenizerFast

from lightning_interpret.modules.portable import config_values
from lightning_interpret.modules.text_classifier import TextClassifier
from lightning_interpret.modules.text_generator import TextGenerator

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ENDS = ("<pad>", "<s>", "</s>")


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


def byte_level(
    texts: Iterable[str], *, vocabulary: int = 8000, max_length: int = 256, begin: bool = False, end: bool = False
) -> PreTrainedTokenizerFast:
    """Return a tokenizer of the words in some texts, most frequent first, that spells others in bytes: nothing is lost.

    The same texts give the same vocabulary. Case and spaces are kept, so that texts can be written with it.

    Args:
        texts: The texts.
        vocabulary: Tokens at most; the 256 bytes are always among them.
        max_length: Tokens a text may have.
        begin: Whether ``<s>`` begins a text.
        end: Whether ``</s>`` ends one.
    """
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=True)  # a word is one word wherever it stands
    counts = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(text))
    known = [*_ENDS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    known += sorted(counts, key=lambda word: (-counts[word], word))
    tokens = list(dict.fromkeys(known))[: max(vocabulary, len(_ENDS) + 256)]
    spelled = {"unk_token": "<pad>", "continuing_subword_prefix": "", "max_input_chars_per_word": 10**6}
    core = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, **spelled))
    core.pre_tokenizer, core.decoder = splitter, decoders.ByteLevel()
    frame = processors.TemplateProcessing(
        single=" ".join(["<s>"] * begin + ["$A"] + ["</s>"] * end),
        special_tokens=[(token, core.token_to_id(token)) for token in _ENDS[1:]],
    )
    core.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), frame])
    names = dict(zip(("pad_token", "bos_token", "eos_token"), _ENDS, strict=True))
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


def small_encoder_decoder(
    texts: Sequence[str], *, learning_rate: float = 1e-3, vocabulary: int = 8000, max_length: int = 128, **options: Any
) -> TextGenerator:
    """Return an untrained BART of two layers an end and 96 dimensions.

    Args:
        texts: Sources and targets, whose words it reads and writes.
        learning_rate: Peak learning rate of AdamW.
        vocabulary: Tokens it knows at most.
        max_length: Tokens that a source and a target may have.
        options: Further options of :class:`~lightning_interpret.TextGenerator`.
    """
    tokenizer: Any = byte_level(texts, vocabulary=vocabulary, max_length=max_length, end=True)
    sizes = {"layers": 2, "attention_heads": 4, "ffn_dim": 192}
    ends: dict[str, Any] = {f"{where}_{what}": n for where in ("encoder", "decoder") for what, n in sizes.items()}
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=96,
        max_position_embeddings=max_length,
        **ends,
        **_marks(tokenizer),
        decoder_start_token_id=tokenizer.bos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id,
    )
    return TextGenerator(config=config_values(config), tokenizer=tokenizer, learning_rate=learning_rate, **options)


def small_decoder(
    texts: Sequence[str], *, learning_rate: float = 1e-3, vocabulary: int = 8000, max_length: int = 128, **options: Any
) -> TextGenerator:
    """Return an untrained GPT-2 of two layers and 96 dimensions.

    Args:
        texts: Texts whose words it reads and writes.
        learning_rate: Peak learning rate of AdamW.
        vocabulary: Tokens it knows at most.
        max_length: Tokens that a text may have.
        options: Further options of :class:`~lightning_interpret.TextGenerator`.
    """
    tokenizer: Any = byte_level(texts, vocabulary=vocabulary, max_length=max_length, begin=True)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=96, n_layer=2, n_head=4, n_positions=max_length, **_marks(tokenizer)
    )
    return TextGenerator(config=config_values(config), tokenizer=tokenizer, learning_rate=learning_rate, **options)


def _marks(tokenizer: Any) -> dict[str, Any]:
    return {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
