"""The package's own LightningModules and data modules."""

from lightning_interpret.modules.generated import GeneratedTextClassifier
from lightning_interpret.modules.generation_data import GenerationDataModule
from lightning_interpret.modules.question_answerer import QuestionAnswerer
from lightning_interpret.modules.question_data import QuestionDataModule
from lightning_interpret.modules.simulator import Simulator, train_simulator
from lightning_interpret.modules.tagging_data import TaggingDataModule
from lightning_interpret.modules.text_classifier import TextClassifier
from lightning_interpret.modules.text_data import TextDataModule
from lightning_interpret.modules.text_generator import TextGenerator
from lightning_interpret.modules.token_tagger import TokenTagger

__all__ = [
    "GeneratedTextClassifier",
    "GenerationDataModule",
    "QuestionAnswerer",
    "QuestionDataModule",
    "Simulator",
    "TaggingDataModule",
    "TextClassifier",
    "TextDataModule",
    "TextGenerator",
    "TokenTagger",
    "train_simulator",
]
