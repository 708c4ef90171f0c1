"""AttentionMonitor: what it logs of a model that trains under SDPA, numbers that are what they are said to be."""

import json
import math

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import TensorBoardLogger
from purity import Cell, Dense, Toy, ToyTask, assert_same, fit, loaders, watched
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import classifier, wordpiece
from torch import nn

from lightning_interpret import AttentionMonitor, AttentionWeights
from lightning_interpret.functional.features import LayerError
from lightning_interpret.methods.attention import attention_maps
from lightning_interpret.report.presenters import row_of
from lightning_interpret.tasks import find_task


class Bert(LightningModule):
    """A tiny BERT that trains with the implementation of its defaults."""

    def __init__(self):
        super().__init__()
        self.model, self.tokenizer = classifier("bert"), wordpiece()

    def loss(self, batch):
        return self.model(batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]).loss

    def training_step(self, batch, batch_idx):
        assert self.model.config._attn_implementation == "sdpa"
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


class Unattending(Toy):
    """A Toy without its attention."""

    def __init__(self, manual=False):
        super().__init__(manual)
        self.attention = nn.Identity()


def test_training_under_sdpa_is_bit_identical_and_is_followed(tmp_path):
    cell = Cell(module=Bert, epochs=2)
    plain, _ = cell.run([], tmp_path)
    monitor = watched("AttentionMonitor", task=None, save_jsonl=str(tmp_path / "rows.jsonl"))
    shown, trainer = cell.run([monitor], tmp_path)
    assert_same(plain, shown)
    module, rows = trainer.lightning_module, [row for _, row in monitor.found]
    assert [len(row.layers) for row in rows] == [2] * len(rows)
    assert len(rows) % 3 == 0
    last, before = rows[-3:], rows[-6:-3]
    logged = {name.removeprefix("interpret/attention/"): float(v) for name, v in trainer.callback_metrics.items()}
    assert logged["failures"] == 0
    assert logged["entropy"] == pytest.approx(sum(row.entropy for row in last) / 3, rel=1e-5)
    assert logged["head_agreement"] == pytest.approx(sum(row.head_agreement for row in last) / 3, rel=1e-5)
    for i in (0, 1):
        mean = sum(row.layers[i].mean_entropy for row in last) / 3
        assert logged[f"entropy_layer_{i}"] == pytest.approx(mean, rel=1e-5)
    moved = [
        sum(abs(a - b) for a, b in zip(x.token_weights, y.token_weights, strict=True)) / 2
        for x, y in zip(last, before, strict=True)
    ]
    assert logged["drift"] == pytest.approx(sum(moved) / 3, rel=1e-4)
    assert 0 < logged["drift"] < 1
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row_of(line) for line in lines[-3:]] == last
    # the last validation run was with the weights of the end
    batch = next(iter(loaders()[1]))
    task = find_task(module, tokenizer=module.tokenizer)
    now = attention_maps(module, batch, task)[0]
    assert now.token_weights == pytest.approx(last[0].token_weights, abs=1e-6)
    assert now.token_weights == pytest.approx(AttentionWeights()(module, batch, task).scores[0].tolist(), abs=1e-6)


def test_pictures_texts_and_records_are_logged(tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    fit([AttentionMonitor(task=ToyTask(wordpiece()), probes=2, on_error="raise")], tmp_path, logger=logger, epochs=1)
    logged = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    logged.Reload()
    tags = logged.Tags()
    found = {tag.removeprefix("interpret/attention/") for tag in tags["scalars"] if tag.startswith("interpret/")}
    assert found == {"entropy", "entropy_layer_0", "head_agreement", "drift", "seconds", "failures"}
    assert {"interpret/attention/probe_0/image", "interpret/attention/probe_1/image"} <= set(tags["images"])
    assert {"interpret/attention/probe_1", "interpret/attention/probe_1/text/text_summary"} <= set(tags["tensors"])


def test_a_model_without_attention_is_counted_and_said(tmp_path):
    monitor = AttentionMonitor(task=ToyTask(wordpiece()), probes=2)
    with pytest.warns(UserWarning, match=r"Unattending computes no attention.*Use a method that needs none"):
        _, trainer = fit([monitor], tmp_path, module=Unattending, epochs=1)
    logged = trainer.callback_metrics
    assert logged["interpret/attention/failures"] == 2
    assert math.isnan(logged["interpret/attention/entropy"])


def test_what_cannot_work_is_refused_before_training(tmp_path):
    with pytest.raises(LayerError, match=r"`inside='atention'` does not exist\. Did you mean 'attention'"):
        fit([AttentionMonitor(task=ToyTask(wordpiece()), inside="atention")], tmp_path, module=Dense)
    with pytest.raises(ValueError, match=r"`read='middle'` does not exist"):
        AttentionMonitor(read="middle")
    with pytest.raises(ValueError, match=r"`attention_layer='last'` must be a whole number"):
        AttentionMonitor(attention_layer="last")
    monitor = AttentionMonitor(task=ToyTask(wordpiece()), attention_layer=1, probes=1)
    with pytest.warns(UserWarning, match=r"`attention_layer=1`, but 1 layers have attention"):
        fit([monitor], tmp_path, epochs=1)


def test_one_head_has_no_agreement_and_says_so(tmp_path):
    class OneHead(Toy):
        def __init__(self, manual=False):
            super().__init__(manual)
            self.attention = nn.TransformerEncoderLayer(12, 1, 12, batch_first=True)

    monitor = AttentionMonitor(task=ToyTask(wordpiece()), probes=2, on_error="raise")
    with pytest.warns(UserWarning, match=r"`head_agreement` is left out: no layer has several heads"):
        _, trainer = fit([monitor], tmp_path, module=OneHead, epochs=1)
    assert math.isnan(trainer.callback_metrics["interpret/attention/head_agreement"])
    assert 0 < trainer.callback_metrics["interpret/attention/entropy"] <= 1


def test_it_is_told_in_a_configuration():
    parser = LightningArgumentParser()
    parser.add_class_arguments(AttentionMonitor, "monitor")
    told = parser.parse_object({"monitor": {"attention_layer": 0, "read": "last", "inside": "model", "probes": [1, 2]}})
    monitor = parser.instantiate_classes(told).monitor
    assert (monitor.attention_layer, monitor.probes, monitor.name) == (0, [1, 2], "attention")
