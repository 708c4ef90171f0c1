"""The checkpoints that a run has written, as influence methods read them."""

from __future__ import annotations

import os

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_interpret.functional.influence.checkpoints import Checkpoint, learning_rate, load
from lightning_interpret.functional.influence.optimizers import group_names


def run_checkpoints(trainer: Trainer) -> list[Checkpoint]:
    """Return the files of every ``ModelCheckpoint`` of a trainer with their learning rates, in the order of training.

    They are the best, the last, and with ``save_top_k=-1`` all that lie in its folder and are not later than the run is
    now; of files of one step (``last.ckpt`` is a copy) the first by name stands for all. A folder that holds other
    runs' files too is no use here: give the method its ``checkpoints`` then.

    Raises:
        ValueError: If a file cannot be read, or says no learning rate.
    """
    names = group_names(trainer.lightning_module, trainer.optimizers)
    paths: set[str] = set()
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint):
            paths |= {*callback.best_k_models, callback.best_model_path, callback.last_model_path}
            if callback.save_top_k == -1 and callback.dirpath and os.path.isdir(callback.dirpath):
                kept = (each for each in os.listdir(callback.dirpath) if each.endswith(callback.FILE_EXTENSION))
                paths |= {os.path.join(callback.dirpath, each) for each in kept}
    by_step: dict[int, Checkpoint] = {}
    for path in sorted(filter(os.path.isfile, paths)):
        found, _ = load(path)
        step = int(found.get("global_step", 0))
        if step not in by_step and step <= trainer.global_step:
            by_step[step] = Checkpoint(path, learning_rate(found, names, path))
    return [by_step[step] for step in sorted(by_step)]
