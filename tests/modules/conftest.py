from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from tiny import quiet_trainer, write_reviews

from lightning_interpret import TextDataModule
from lightning_interpret.modules.from_scratch import small_encoder

LABELS = ["negative", "positive"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A small encoder after an epoch on generated reviews, with all that was made on the way."""
    folder = tmp_path_factory.mktemp("trained")
    train, val = write_reviews(folder / "train.tsv", 96), write_reviews(folder / "val.tsv", 24, seed=1)
    data = TextDataModule(train_file=str(train), val_file=str(val), test_file=str(val), id_column="id")
    data.setup("fit")
    seed_everything(0, verbose=False)
    module = small_encoder([row.text for row in data.rows["train"]], LABELS)
    saver = ModelCheckpoint(dirpath=folder)
    trainer = quiet_trainer(folder, max_epochs=1, callbacks=[saver], enable_checkpointing=True)
    trainer.fit(module, datamodule=data)
    metrics = dict(trainer.callback_metrics)
    module.save_pretrained(folder / "model")
    return SimpleNamespace(
        folder=folder,
        train=str(train),
        val=str(val),
        module=module.eval(),
        data=data,
        trainer=trainer,
        metrics=metrics,
        checkpoint=Path(saver.best_model_path),
        model=str(folder / "model"),
    )
