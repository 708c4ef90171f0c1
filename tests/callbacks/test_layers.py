"""SaliencyMonitor over several layers, and on images: what is written where."""

import math

import pytest
from convolution import Convolutional, ConvolutionalTask, pictures
from jsonargparse import ArgumentError, ArgumentParser
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from purity import Toy, ToyTask, loaders
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import wordpiece
from torch.utils.data import DataLoader

from lightning_interpret import AttributionRow, IntegratedGradients, SaliencyMonitor
from lightning_interpret.report import interpret_summary, jsonl
from lightning_interpret.report.uri import decoded

LAYERS = ["embedding", "dropout", "rnn", "attention"]


def validated(folder, module, loader, **options):
    """Validate once with a Monitor; its events, its records, and what was logged."""
    monitor = SaliencyMonitor(
        **{"method": IntegratedGradients(steps=4), "on_error": "raise", "save_jsonl": True} | options
    )
    logger = TensorBoardLogger(folder)
    trainer = Trainer(accelerator="cpu", logger=logger, callbacks=[monitor], enable_progress_bar=False)
    trainer.validate(module, loader, verbose=False)
    events = EventAccumulator(logger.log_dir, size_guidance={"tensors": 0, "images": 0}).Reload()
    (path,) = folder.rglob("interpret/*.jsonl")
    return events, list(jsonl.read(path)), trainer.callback_metrics


def of_texts(folder, **options):
    return validated(folder, Toy(), loaders()[1], **{"task": ToyTask(wordpiece()), "probes": 2} | options)


def shown(events, tag):
    return interpret_summary.join([events.Tensors(tag)[-1].tensor_proto.string_val[0].decode()])


@pytest.mark.parametrize("layer", ["all", LAYERS])
def test_a_sweep_writes_the_first_layer_as_the_probes_own_and_all_of_them_together(tmp_path, layer):
    events, lines, logged = of_texts(tmp_path, layer=layer)
    assert [(line["probe"], line["layer"]) for line in lines] == [(k, name) for k in range(2) for name in LAYERS]
    for k in range(2):
        tag = f"interpret/saliency_validate/probe_{k}"
        assert shown(events, tag).layer == "embedding"
        assert shown(events, tag) == AttributionRow.from_dict(lines[len(LAYERS) * k])
        assert events.Images(f"{tag}/layers")[0].width == 880
        assert events.Images(f"{tag}/image")[0].width == 880
        table = events.Tensors(f"{tag}/layers/text_summary")[0].tensor_proto.string_val[0].decode()
        assert [line.split(" | ")[0] for line in table.split("\n")[4 : 4 + len(LAYERS)]] == [
            f"| {name}" for name in LAYERS
        ]
    errors = [line["relative_error"] for line in lines]
    assert logged["interpret/saliency_validate/layer_error"] == pytest.approx(max(errors), rel=1e-5)
    own = [line["relative_error"] for line in lines if line["layer"] == "embedding"]
    assert logged["interpret/saliency_validate/relative_error"] == pytest.approx(sum(own) / 2, rel=1e-5)


def test_one_layer_logs_no_sweep(tmp_path):
    events, lines, logged = of_texts(tmp_path, layer="rnn")
    assert [line["layer"] for line in lines] == ["rnn", "rnn"]
    assert "interpret/saliency_validate/layer_error" not in logged
    assert not [tag for tag in events.Tags()["images"] if tag.endswith("layers")]


def test_a_method_without_a_target_has_no_error_at_any_layer(tmp_path):
    events, lines, logged = of_texts(tmp_path, layer="all", method="gradient")
    assert len(lines) == 2 * len(LAYERS)
    assert all(line["reasons"]["error"] for line in lines)
    assert "interpret/saliency_validate/layer_error" not in events.Tags()["scalars"]
    assert math.isnan(logged["interpret/saliency_validate/layer_error"])  # for a callback that monitors it


def test_a_layer_that_does_not_exist_stops_before_anything_runs(tmp_path):
    with pytest.raises(ValueError, match=r"`layer='rn'` does not exist\. Did you mean 'rnn'"):
        of_texts(tmp_path, layer=["embedding", "rn"])
    with pytest.raises(ValueError, match=r"`layer=\[\]` names no layer"):
        SaliencyMonitor(layer=[])


@pytest.mark.parametrize("layer", ["all", "rnn", ["embedding", "rnn"], None])
def test_a_config_file_can_name_a_layer_several_or_all(layer):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SaliencyMonitor, "monitor")
    read = parser.parse_object({"monitor": {"layer": layer, "task": None, "tokenizer": None}})
    assert read.monitor.layer == layer
    with pytest.raises(ArgumentError, match="layer"):
        parser.parse_object({"monitor": {"layer": 3}})


class Watched(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = Convolutional()

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.net(batch["pixel_values"]).sum())


@pytest.mark.parametrize("layer", [None, "all"])
def test_images_are_shown_at_validation_time_in_the_picture_tab_and_in_interpret(tmp_path, layer):
    batch = pictures(4)
    examples = [{name: value[i] for name, value in batch.items()} for i in range(4)]
    task = ConvolutionalTask(labels=["a", "b", "c"])
    events, lines, logged = validated(
        tmp_path, Watched(), DataLoader(examples, batch_size=2), task=task, probes=2, layer=layer
    )
    assert logged["interpret/saliency_validate/failures"] == 0
    assert logged["interpret/saliency_validate/relative_error"] < 0.05
    assert [line["grid"] for line in lines[:1]] == [[8, 8]]
    for k in range(2):
        tag = f"interpret/saliency_validate/probe_{k}"
        assert events.Images(f"{tag}/image")[0].width == 880
        assert decoded(shown(events, tag).image).size == (8, 8)
        assert "row | column" in events.Tensors(f"{tag}/text/text_summary")[0].tensor_proto.string_val[0].decode()
    assert len(lines) == (2 if layer is None else 10)
    assert (f"{tag}/layers" in events.Tags()["images"]) == (layer == "all")
