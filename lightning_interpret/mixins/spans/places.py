"""Where the states of an encoder are that a head reads, and how wide they are."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from lightning_interpret.functional.layers import plain_name


def states_layer(module: nn.Module, model: PreTrainedModel | None) -> str:
    """Return the name of the layer that returns the last states of a `transformers` model, before its pooler.

    Raises:
        ValueError: If there is no such model, or it has no such layer, or it is an encoder-decoder.
    """
    if model is None:
        raise ValueError(
            f"`span_layer=None`: {type(module).__name__} holds no `transformers` model. Name the layer that returns "
            "the states of its tokens, (batch, tokens, width)."
        )
    if getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(
            f"`span_layer=None`: {type(model).__name__} has an encoder and a decoder, which reads the text too. Name "
            "the encoder, and as `span_head=` the classification head, which is then all that is read beside it."
        )
    base = model.base_model
    found: nn.Module | None = base
    if isinstance(getattr(base, "pooler", None), nn.Module):  # it reads the states before the model returns them
        blocks = getattr(base, "layers", None)
        last = blocks[-1] if isinstance(blocks, nn.ModuleList) else None
        found = getattr(base, "encoder", last)
    name = next((name for name, part in module.named_modules() if part is found and name), None)
    if name is None:
        raise ValueError(
            f"`span_layer=None`: of {type(base).__name__} it is not known which layer its pooler reads. Name it."
        )
    return plain_name(name)


def states_width(name: str, layer: nn.Module) -> int:
    """Return how wide the states are that a layer returns: what the layer says, or the last part of it that does.

    Raises:
        ValueError: If none does.
    """
    if isinstance(layer, PreTrainedModel):
        return int(layer.config.hidden_size)
    for part in reversed(list(layer.modules())):
        if isinstance(part, nn.RNNBase):
            return (part.proj_size or part.hidden_size) * (1 + part.bidirectional)
        if isinstance(part, nn.Linear):
            return part.out_features
        if isinstance(part, nn.Embedding):
            return part.embedding_dim
        weight = getattr(part, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.dim() == 1:  # of a normalisation
            return len(weight)
    raise ValueError(
        f"`span_layer={name!r}` does not tell how wide its states are: name one that ends in a linear, normalising, "
        "recurrent or embedding layer."
    )
