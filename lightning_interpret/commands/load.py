"""A saved classifier, however it was saved."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig

from lightning_interpret.modules.text_classifier import TextClassifier


def load_classifier(name: str) -> TextClassifier:
    """Return the classifier in a `transformers` directory, under a hub name, or in a checkpoint of ours.

    Raises:
        ValueError: If the checkpoint is of another module, the model has no classification head or no tokenizer.
        OSError: If there is no such model.
    """
    if Path(name).is_file():
        return _from_checkpoint(name)
    config = AutoConfig.from_pretrained(name)
    heads = config.architectures or []
    if not any("ForSequenceClassification" in head for head in heads):
        raise ValueError(
            f"`--model {name}` was saved as {', '.join(heads) or 'no architecture'}, which has no classification head to "
            "explain: train one first (`lightning-interpret demo --model ... --train-file ...`)."
        )
    module = TextClassifier(name)
    module.configure_model()
    if module.tokenizer is None:
        raise ValueError(f"`--model {name}` has no tokenizer beside it: save one there with `save_pretrained`.")
    return module


def _from_checkpoint(name: str) -> TextClassifier:
    try:
        return TextClassifier.load_from_checkpoint(name, map_location="cpu")
    except Exception as error:
        raise ValueError(
            f"`--model {name}` is a file, but no checkpoint of a TextClassifier ({type(error).__name__}: {error})."
        ) from error
