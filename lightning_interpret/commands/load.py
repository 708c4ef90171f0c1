"""A saved classifier, however it was saved."""

from __future__ import annotations

import sys
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_interpret.modules import joint
from lightning_interpret.modules.portable import named_config
from lightning_interpret.modules.text_classifier import TextClassifier

_READY: dict[frozenset[str], type[TextClassifier]] = {  # by the children that their mixins have
    frozenset(): TextClassifier,
    frozenset({"rationale"}): joint.RationaleTextClassifier,
    frozenset({"spans"}): joint.SpanTextClassifier,
    frozenset({"concepts"}): joint.ConceptTextClassifier,
    frozenset({"kernel"}): joint.KernelTextClassifier,
    frozenset({"turn_over_dropout"}): joint.TurnOverTextClassifier,
    frozenset({"turn_over_dropout", "kernel"}): joint.TurnOverKernelTextClassifier,
}


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
        if not isinstance(value, Tensor):  # what a layer keeps beside its weights
            digest.update(repr(value).encode())
            continue
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _from_checkpoint(name: str) -> TextClassifier:
    try:
        module = _class_of(name).load_from_checkpoint(name, map_location="cpu")
    except Exception as error:
        raise ValueError(
            f"`--model {name}` is a file, but no checkpoint of a TextClassifier ({type(error).__name__}: {error})."
        ) from error
    if module.tokenizer is None:
        raise ValueError(f"`--model {name}` has no tokenizer: give TextClassifier one, and train again.")
    return module


def _class_of(name: str) -> type[TextClassifier]:
    """Return the class that a checkpoint of the command line names, imported already, or else the one it must be of."""
    saved = torch.load(name, map_location="cpu", weights_only=False, mmap=True)
    path = saved.get("hyper_parameters", {}).get("_class_path")
    if path is None:
        known = frozenset({"generated"}).union(*_READY)
        held = known & {key.partition(".")[0] for key in saved.get("state_dict", {})}
        if held not in _READY:
            raise ValueError(f"it holds {', '.join(sorted(held))}: load it in Python with its own class")
        return _READY[held]
    room, _, kind = path.rpartition(".")
    found = getattr(sys.modules.get(room), kind, None)
    if isinstance(found, type) and issubclass(found, TextClassifier):
        return found
    raise ValueError(f"it is of {path}, which no command imports for a checkpoint: load it in Python with that class")
