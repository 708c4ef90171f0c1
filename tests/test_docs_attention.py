"""The code in `docs/attention.md` runs, block after block, on tiny models."""

import re
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import LightningModule
from tiny import TEXTS, batch_of, classifier, quiet_trainer, wordpiece

from lightning_interpret import SequenceClassification, attention_report

GUIDE = Path(__file__).parents[1] / "docs" / "attention.md"


class Bert(LightningModule):
    """A tiny BERT."""

    def __init__(self, seed=0):
        super().__init__()
        self.model = classifier("bert", seed=seed)

    def training_step(self, batch, batch_idx):
        return self.model(**batch).loss


def test_the_code_of_the_guide_runs(tmp_path, capsys, monkeypatch):
    tokenizer, module = wordpiece(), Bert()
    batch = batch_of(tokenizer, labels=[0, 1])
    monkeypatch.setattr("lightning_interpret.attention_report", partial(attention_report, steps=2, permutations=2))
    known = {
        "Trainer": partial(quiet_trainer, tmp_path),
        "tokenizer": tokenizer,
        "model": module.model,
        "module": module,
        "task": SequenceClassification(tokenizer, ["bad", "dull", "good"]),
        "texts": list(TEXTS),
        "batch": batch,
        "loader": [batch],
        "train_loader": [batch],
        "other_seed": Bert(seed=1),
        "adversary": Bert(seed=2),
        "plain": Bert(seed=3),
    }
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.S):
        exec(block, known)
    assert len(known["trainer"].callbacks) >= 1
    assert len(known["losses"]) == 8
    assert known["record"].scores.shape == batch["input_ids"].shape
    assert [record.method for record in known["records"]] == ["attention_rollout"] * 2
    known["loss"].backward()
    own = known["plain"].model.bert.encoder.layer[1].attention.self
    assert own.query.weight.grad is None or not own.query.weight.grad.any()  # what is weighed is not its own
    assert own.value.weight.grad.any()
    printed = capsys.readouterr().out
    assert "bert.encoder.layer.1.attention.self self torch.Size([2, 2, " in printed
    assert "Attention of 2 models" in printed
    assert torch.isfinite(known["loss"])
