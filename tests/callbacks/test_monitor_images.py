"""A SaliencyMonitor on images."""

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from tiny import quiet_trainer
from tiny_images import model_of
from torch.utils.data import DataLoader

from lightning_interpret import ImageClassification, ObjectDetection, SaliencyMonitor
from lightning_interpret.data import ShapesDataset


class Module(LightningModule):
    def __init__(self, name):
        super().__init__()
        self.model = model_of(name, dtype=torch.float32)

    def training_step(self, batch, batch_idx):
        return self.model(batch["pixel_values"]).logits.square().mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fitted(folder, name, callbacks, objects=(1, 1)):
    torch.manual_seed(0)
    data = ShapesDataset(8, image_size=32, objects=objects)
    collate = None if objects == (1, 1) else data.collate
    logger = TensorBoardLogger(folder, name=name)
    trainer = quiet_trainer(folder, max_epochs=1, logger=logger, callbacks=callbacks, num_sanity_val_steps=0)
    module, loader = Module(name).train(), DataLoader(data, batch_size=4, collate_fn=collate)
    trainer.fit(module, loader, loader)
    return trainer, module


@pytest.mark.parametrize(
    ("name", "options", "objects"),
    [
        ("resnet", {}, (1, 1)),
        ("vit", {"layer": "model.vit.layers.0", "which": "gold"}, (1, 1)),
        ("resnet", {"task": ImageClassification(processor=ShapesDataset.processor), "output": "margin"}, (1, 1)),
        ("yolos", {}, (1, 3)),
        ("yolos", {"task": ObjectDetection(), "which": "2"}, (1, 3)),
    ],
)
def test_images_are_explained_at_validation_time(tmp_path, name, options, objects):
    monitor = SaliencyMonitor(on_error="raise", save_jsonl=str(tmp_path / "rows.jsonl"), **options)
    trainer, module = fitted(tmp_path / "with", name, [monitor], objects)
    logged = trainer.callback_metrics
    assert logged["interpret/saliency/failures"] == 0
    assert logged["interpret/saliency/relative_error"] < 0.1
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 3
    _, without = fitted(tmp_path / "without", name, [], objects)
    for weight, other in zip(module.parameters(), without.parameters(), strict=True):
        assert torch.equal(weight, other)


def test_a_monitor_shows_one_box_an_image(tmp_path):
    monitor = SaliencyMonitor(which="gold")
    with pytest.warns(UserWarning, match=r"`which='gold'` has 2 targets in 1 examples, and a Monitor shows one"):
        trainer, _ = fitted(tmp_path, "yolos", [monitor], (2, 2))
    assert trainer.callback_metrics["interpret/saliency/failures"] == 3
