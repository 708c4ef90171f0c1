"""What `transformers` models share: where one is in a module, how it is called, what it calls its tokens."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from lightning_interpret.functional.features import find_layer
from lightning_interpret.functional.layers import plain_name

SEQUENCES, IMAGES, BOXES = "ForSequenceClassification", "ForImageClassification", "ForObjectDetection"
TAGS, ANSWERS = "ForTokenClassification", "ForQuestionAnswering"
#: Adapters of PEFT whose own ``forward`` is more than the model's, beside those that learn prompts.
_AROUND = ("XLORA", "POLY", "SHADOW")
#: What the names of models that write hold.
WRITERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "EncoderDecoderModel", "MTModel")


def transformer_in(
    module: nn.Module, name: str | None = None, head: str | tuple[str, ...] = SEQUENCES
) -> PreTrainedModel | None:
    """Return the `transformers` model in a module: the one named, else its only one with that head, else its first.

    Args:
        module: The module.
        name: Name of the model in it.
        head: What the names of models with the head hold, or several of which one is held.

    Raises:
        ValueError: If the name is of something else, or there are several models with that head to choose from.
    """
    if name is not None:
        named = find_layer(module, name)
        if not isinstance(named, PreTrainedModel):
            raise ValueError(f"`model={name!r}` is a {type(named).__name__}, no `transformers` model.")
        return named
    outermost = dict(_outermost(module, "", set()))
    heads = {path: part for path, part in outermost.items() if has_head(part, head)}
    if len(heads) > 1:
        raise ValueError(
            f"{type(module).__name__} holds several `{named_head(head)}` models ({', '.join(heads)}): say which is "
            f"explained, by the `model=` of the `task=`: `model={next(iter(heads))!r}`."
        )
    return next(iter(heads.values()), next(iter(outermost.values()), None))


def _outermost(module: nn.Module, path: str, seen: set[int]) -> Iterator[tuple[str, PreTrainedModel]]:
    """Yield each `transformers` model that is met first on its way down, by name, without walking through it."""
    if id(module) in seen:
        return
    seen.add(id(module))
    if isinstance(module, PreTrainedModel):
        yield path, module
        return
    for name, child in module.named_children():
        yield from _outermost(child, f"{path}.{name}" if path else name, seen)


def check_called_alone(module: nn.Module, model: PreTrainedModel) -> None:
    """Refuse a model whose adapters act around it: a task that calls the model itself would explain another function.

    LoRA and its kin change layers in the model, and are met there.

    Raises:
        ValueError: If a PEFT model around it adds prompts, a prefix or a mixture of adapters.
    """
    for part in module.modules():
        if not any(kind.__name__ == "PeftModel" for kind in type(part).__mro__):
            continue
        if not any(inner is model for inner in part.modules()):
            continue
        configs: Mapping[str, Any] = part.peft_config  # type: ignore[assignment]
        config = configs[part.active_adapter]  # type: ignore[index]
        kind = str(getattr(config.peft_type, "value", config.peft_type))
        around = config.is_prompt_learning or kind in _AROUND
        if around or getattr(config, "alora_invocation_tokens", None):
            raise ValueError(
                f"{type(part).__name__} has a {kind} adapter, which changes what goes into {type(model).__name__} and "
                "no layer in it: its attributions would be those of the model without the adapter. Give a `task=` "
                "whose `logits(module, batch)` calls the PEFT model, and whose `layer(module)` names the word "
                "embeddings; LoRA, IA3 and their kin are explained as they are."
            )


def has_head(model: PreTrainedModel, head: str | tuple[str, ...] = SEQUENCES) -> bool:
    """Return whether a model has a head of this kind; by default, one score a class for each text."""
    return any(name in type(model).__name__ for name in ([head] if isinstance(head, str) else head))


def named_head(head: str | tuple[str, ...]) -> str:
    """Return what models with a head are called, the first of several names."""
    return head if isinstance(head, str) else head[0]


def call(model: nn.Module, parts: Mapping[str, Any]) -> Any:
    """Call a `transformers` model with those parts of a batch that its ``forward`` names; labels stay out.

    A wrapper that passes on what it is given (a compiled model, one with PEFT adapters) takes what the model in it
    takes. With left padding, ``position_ids`` are counted from the attention mask, as ``generate`` does: a text then
    has the logits it has alone. Nothing is cached.
    """
    inner, accepted = model, dict(inspect.signature(model.forward).parameters)
    if any(each.kind is each.VAR_KEYWORD for each in accepted.values()):
        inner = next((part for _, part in _outermost(model, "", set())), model)
        accepted |= inspect.signature(inner.forward).parameters
    given = {name: value for name, value in parts.items() if name in accepted and name != "labels"}
    mask = given.get("attention_mask")
    free = "position_ids" in accepted and "position_ids" not in given
    if free and isinstance(mask, Tensor) and _left_padded(mask) and _counts_from_zero(inner):
        given["position_ids"] = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
    given |= {"return_dict": True} if "return_dict" in accepted else {}
    given |= {"use_cache": False} if "use_cache" in accepted else {}  # states of earlier tokens would hide their part
    return model(**given)


def embedding_name(module: nn.Module, model: PreTrainedModel) -> str:
    """Return the name, in ``module``, of the layer that embeds the words."""
    embedding = model.get_input_embeddings()
    names = {id(part): plain_name(name) for name, part in module.named_modules()}
    if id(embedding) in names:
        return names[id(embedding)]
    raise ValueError(f"{type(model).__name__} has no word embeddings of its own: name a `layer=` to attribute to.")


def running_embedding(module: nn.Module, model: PreTrainedModel) -> str:
    """Return the name of the word embeddings as the encoder reads them.

    T5 and its kin keep the shared embedding outside the forward pass, and let each stack have a module of its own with
    the same weight; the encoder's is the one that reads the text.
    """
    shared = model.get_input_embeddings()
    encoder = model.get_encoder() if getattr(model.config, "is_encoder_decoder", False) else None
    inner = getattr(encoder, "embed_tokens", None)
    if hasattr(inner, "base_layer"):  # PEFT's
        raise ValueError(
            f"An adapter is on the word embeddings of {type(model).__name__}, which embeds the text once for the "
            "encoder and once for the decoder, and each adds its own: there is no one layer of the words. Name a later "
            "`layer=` to attribute to."
        )
    if isinstance(inner, nn.Embedding) and isinstance(shared, nn.Embedding) and inner.weight is shared.weight:
        return next(plain_name(n) for n, part in module.named_modules() if part is inner)
    return embedding_name(module, model)


def _left_padded(mask: Tensor) -> bool:
    return mask.dim() == 2 and bool((mask[:, :1] == 0).any())


def _counts_from_zero(model: nn.Module) -> bool:
    """Whether positions are counted from 0; RoBERTa and its kin count them from the padding id, off the ids."""
    tables = [part for name, part in model.named_modules() if name.endswith("position_embeddings")]
    return not any(isinstance(part, nn.Embedding) and part.padding_idx is not None for part in tables)


def label_names(config: PretrainedConfig) -> list[str]:
    """Return the names of the classes in their order."""
    named: dict = config.id2label or {}
    return [str(named[i]) for i in sorted(named)]


def find_token_id(tokenizer: Any, model: PreTrainedModel | None, kind: str) -> int | None:
    """Return the id of the ``pad``, ``mask`` or ``unk`` token, or None; the padding id may stand in the model alone."""
    found = getattr(tokenizer, f"{kind}_token_id", None)
    if found is None and kind == "pad" and model is not None:
        found = getattr(model.config, "pad_token_id", None)
    return None if found is None else int(found)


def framing_ids(tokenizer: Any) -> list[int]:
    """Return the ids of tokens that frame a text (CLS, SEP, BOS, EOS, PAD); MASK and UNK stand for content."""
    framing = {getattr(tokenizer, f"{kind}_token_id", None) for kind in ("cls", "sep", "bos", "eos", "pad")}
    content = {getattr(tokenizer, f"{kind}_token_id", None) for kind in ("mask", "unk")} - framing
    return [token for token in tokenizer.all_special_ids if token not in content]


def special_mask(ids: Tensor, tokenizer: Any) -> Tensor:
    """Return a bool mask of the tokens that frame a text."""
    return torch.isin(ids, torch.tensor(framing_ids(tokenizer), device=ids.device, dtype=ids.dtype))
