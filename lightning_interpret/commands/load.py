"""A saved classifier, however it was saved."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

import torch
from torch import nn

from lightning_interpret.modules.portable import named_config
from lightning_interpret.modules.text_classifier import TextClassifier


def load_classifier(name: str) -> TextClassifier:
    """Return the classifier in a `transformers` directory, under a hub name, or in a checkpoint of ours.

    Raises:
        ValueError: If the checkpoint is of another module or has no tokenizer, or the model has no classification head.
        OSError: If there is no such model, or no tokenizer beside it.
    """
    if Path(name).is_file():
        return _from_checkpoint(name)
    heads = named_config(name).architectures or []
    if not any("ForSequenceClassification" in head for head in heads):
        raise ValueError(
            f"`--model {name}` was saved as {', '.join(heads) or 'no architecture'}, which has no classification head "
            "to explain: train one first (`lightning-interpret demo --model ... --train-file ...`)."
        )
    module = TextClassifier(name)
    module.configure_model()
    _ = module.tokenizer  # loaded on first use: what is wrong with it is said now
    return module


def fingerprint(module: nn.Module) -> str:
    """Return a digest of the weights: two models of one name are told apart."""
    digest = blake2b(digest_size=8)
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _from_checkpoint(name: str) -> TextClassifier:
    try:
        module = TextClassifier.load_from_checkpoint(name, map_location="cpu")
    except Exception as error:
        raise ValueError(
            f"`--model {name}` is a file, but no checkpoint of a TextClassifier ({type(error).__name__}: {error})."
        ) from error
    if module.tokenizer is None:
        raise ValueError(f"`--model {name}` has no tokenizer: give TextClassifier one, and train again.")
    return module
