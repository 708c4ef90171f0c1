from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from lightning.pytorch import seed_everything
from tiny import quiet_trainer, write_reviews

from lightning_interpret import TextDataModule
from lightning_interpret.cli import main
from lightning_interpret.modules.from_scratch import small_encoder


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A small encoder, trained: a directory, a checkpoint, and directories that lack what a classifier needs."""
    folder = tmp_path_factory.mktemp("saved")
    train, val = write_reviews(folder / "train.tsv", 160), write_reviews(folder / "val.tsv", 16, seed=1)
    data = TextDataModule(train_file=str(train), val_file=str(val))
    data.setup("fit")
    seed_everything(0, verbose=False)
    module = small_encoder([row.text for row in data.rows["train"]], ["negative", "positive"])
    trainer = quiet_trainer(folder, max_epochs=2)
    trainer.fit(module, datamodule=data)
    module.save_pretrained(folder / "model")
    trainer.save_checkpoint(folder / "model.ckpt")
    module.model.save_pretrained(folder / "no_tokenizer")
    module.model.bert.save_pretrained(folder / "headless")
    module.tokenizer.save_pretrained(folder / "headless")
    return SimpleNamespace(
        folder=folder,
        train=str(train),
        val=str(val),
        module=module.eval(),
        model=str(folder / "model"),
        checkpoint=str(folder / "model.ckpt"),
        no_tokenizer=str(folder / "no_tokenizer"),
        headless=str(folder / "headless"),
    )


@pytest.fixture(scope="session")
def command():
    """Run a command as if it had been typed, but not on a terminal; return its exit status and what it printed."""

    def command(*words):
        typed = ["lightning-interpret", *map(str, words)]
        with patch("sys.argv", typed), redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
            try:
                status = main()
            except SystemExit as exit:
                status = exit.code
        return SimpleNamespace(status=status, out=out.getvalue(), err=err.getvalue())

    return command


@pytest.fixture
def refused(command, monkeypatch):
    """Run a command that fails for what the user can mend, and return the line it says so in."""

    def refused(*words):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        done = command(*words)
        said = [line for line in done.err.splitlines() if line.startswith("lightning-interpret: ")]
        assert done.status == 1, done.err
        assert len(said) == 1, done.err
        assert done.err.rstrip().endswith(said[0])
        assert "Traceback" not in done.err
        return said[0].removeprefix("lightning-interpret: ")

    return refused
