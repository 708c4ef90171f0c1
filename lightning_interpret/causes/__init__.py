"""Why a model is wrong: bad cases of validation data, explained, given a cause by measured rules, and grouped."""

from lightning_interpret.causes.encoded import EncodedTexts
from lightning_interpret.causes.finder import CauseFinder
from lightning_interpret.causes.follow import Followed
from lightning_interpret.causes.groups import Found
from lightning_interpret.causes.setting import Setting

__all__ = ["CauseFinder", "EncodedTexts", "Followed", "Found", "Setting"]
