"""The package's own LightningModules and data module."""

from lightning_interpret.modules.generated import GeneratedTextClassifier
from lightning_interpret.modules.simulator import Simulator, train_simulator
from lightning_interpret.modules.text_classifier import TextClassifier
from lightning_interpret.modules.text_data import TextDataModule

__all__ = ["GeneratedTextClassifier", "Simulator", "TextClassifier", "TextDataModule", "train_simulator"]
