"""The package's own LightningModules and data module."""

from lightning_interpret.modules.text_classifier import TextClassifier
from lightning_interpret.modules.text_data import TextDataModule

__all__ = ["TextClassifier", "TextDataModule"]
