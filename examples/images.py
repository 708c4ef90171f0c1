"""Pictures: a LightningModule of yours around an image classifier of `transformers`, and a SaliencyMonitor.

python examples/images.py
tensorboard --logdir images
"""

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader
from transformers import ResNetConfig, ResNetForImageClassification

from lightning_interpret import ImageClassification, IntegratedGradients, SaliencyMonitor
from lightning_interpret.data import ShapesDataset

EPOCHS = 5
train, val = ShapesDataset(1200, image_size=48, seed=0), ShapesDataset(200, image_size=48, seed=1)
# yours: ImageClassification(labels, processor="microsoft/resnet-50")
task = ImageClassification(train.shapes, processor=train.processor)


class Classifier(LightningModule):
    """Nothing of ours in it."""

    def __init__(self):
        super().__init__()
        sizes = {"embedding_size": 16, "hidden_sizes": [16, 32, 64], "depths": [1, 1, 1], "layer_type": "basic"}
        self.resnet = ResNetForImageClassification(ResNetConfig(**sizes, id2label=dict(enumerate(train.shapes))))

    def training_step(self, batch, batch_idx):
        return self.resnet(batch["pixel_values"], labels=batch["labels"]).loss

    def validation_step(self, batch, batch_idx):
        logits = self.resnet(batch["pixel_values"]).logits
        accuracy = (logits.argmax(dim=1) == batch["labels"]).float().mean()
        self.log("val_accuracy", accuracy, prog_bar=True, batch_size=len(logits))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=6e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 6e-3, total_steps=self.trainer.estimated_stepping_batches
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def share_inside(scores, batch):
    """Return the share of the attribution, and of the area, that lies in the box of each picture's shape."""
    masks = batch["masks"][:, 0]
    boxes = masks.any(dim=1, keepdim=True) & masks.any(dim=2, keepdim=True)
    size = scores.reshape(boxes.shape).abs()
    return (size * boxes).sum(dim=(1, 2)) / size.sum(dim=(1, 2)), boxes.float().mean(dim=(1, 2))


if __name__ == "__main__":
    model = Classifier()
    trainer = Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=TensorBoardLogger("images", name="runs"),
        callbacks=[SaliencyMonitor(task=task)],
    )
    loader = DataLoader(val, batch_size=50)
    trainer.fit(model, DataLoader(train, batch_size=24, shuffle=True), loader)
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})

    batch = next(iter(loader))
    record = IntegratedGradients()(model, batch, task)
    inside, area = share_inside(record.scores, batch)
    print(record[0].summary())
    print(f"{inside.mean():.0%} of the attribution lies in the shape's box, which is {area.mean():.0%} of the picture.")
    print("To see where each prediction comes from, epoch by epoch: tensorboard --logdir images")
