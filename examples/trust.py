"""Which method to trust on a model: a TrustMonitor with a shortcut drill, on reviews whose rationale is known.

python examples/trust.py
tensorboard --logdir trust
lightning-interpret compare --model trust/model --input trust/val.jsonl --rationale-column rationale --output-dir trust
"""

import json
from pathlib import Path

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_interpret import ShortcutDrill, TextDataModule, TrustMonitor
from lightning_interpret.data import ReviewCorpus
from lightning_interpret.modules.from_scratch import small_encoder
from lightning_interpret.report import jsonl
from lightning_interpret.report.presenters import row_of

FOLDER = Path("trust")
METHODS = ["integrated_gradients", "deep_lift", "occlusion", "gradient", "gradient_times_input"]


def write(path, corpus):
    """Write reviews as rows of a file, with a flag for each word that decides the label."""
    rows = [corpus[i] for i in range(len(corpus))]
    with path.open("w", encoding="utf8") as file:
        for row in rows:
            flags = [int(i in row.rationale) for i in range(len(row.words))]
            file.write(json.dumps({"text": row.text, "label": row.label, "rationale": flags}) + "\n")
    return [row.text for row in rows]


if __name__ == "__main__":
    seed_everything(0, verbose=False)
    FOLDER.mkdir(exist_ok=True)
    texts = write(FOLDER / "train.jsonl", ReviewCorpus(2000, seed=0))
    write(FOLDER / "val.jsonl", ReviewCorpus(300, seed=1))
    model = small_encoder(texts, ["negative", "positive"])
    files = {"train_file": str(FOLDER / "train.jsonl"), "val_file": str(FOLDER / "val.jsonl")}
    data = TextDataModule(**files, rationale_column="rationale")
    drill = ShortcutDrill(steps=60, learning_rate=1e-3)
    trainer = Trainer(
        max_epochs=4,
        check_val_every_n_epoch=4,
        accelerator="cpu",
        logger=TensorBoardLogger(FOLDER, name="runs"),
        callbacks=[TrustMonitor(METHODS, probes=12, drill=drill, save_jsonl=True)],
    )
    trainer.fit(model, datamodule=data)
    model.save_pretrained(FOLDER / "model")
    print({name: round(float(value), 3) for name, value in trainer.callback_metrics.items()})
    *_, last = jsonl.read(Path(trainer.log_dir) / "interpret" / "trust.jsonl")
    print(row_of(last))
