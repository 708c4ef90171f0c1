"""A small image classifier and a small detector for generated shapes: what `compare` trains where no model is given."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from itertools import permutations
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import (
    DetrConfig,
    DetrForObjectDetection,
    PreTrainedModel,
    ResNetBackbone,
    ResNetConfig,
    ResNetForImageClassification,
)

from lightning_interpret.data import ShapesDataset

_BOX, _NOTHING = 3.0, 0.3  # weights: of a box's L1 distance, and of the class "no object"


class ShapeModel(LightningModule):
    """A `transformers` model of images on :class:`ShapesDataset`, with one cycle of the learning rate.

    Args:
        model: An image classifier, or a detector with a class of no object.
        learning_rate: The highest.
    """

    def __init__(self, model: PreTrainedModel, learning_rate: float) -> None:
        super().__init__()
        self.model, self.learning_rate = model, learning_rate
        self.processor: Mapping[str, Any] = ShapesDataset.processor

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        output = self.model(pixel_values=batch["pixel_values"])
        if isinstance(batch["labels"], list):
            return detection_loss(output.logits, output.pred_boxes, batch["labels"])
        return F.cross_entropy(output.logits, batch["labels"])

    def configure_optimizers(self) -> Any:
        """Return AdamW with one cycle."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate)
        steps = int(self.trainer.estimated_stepping_batches)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def detection_loss(logits: Tensor, boxes: Tensor, targets: list[dict[str, Tensor]]) -> Tensor:
    """Return the loss of queries matched to objects at the least cost, one to one (Carion et al., 2020, equation 1).

    All matchings are tried, so that it is for few queries and objects.

    Args:
        logits: ``(B, Q, C + 1)``, the last class is no object.
        boxes: ``(B, Q, 4)``.
        targets: For each image ``class_labels`` ``(K,)`` and ``boxes`` ``(K, 4)``.
    """
    classes, distances = torch.full(logits.shape[:2], logits.shape[2] - 1, device=logits.device), []
    for row, target in enumerate(targets):
        labels, gold = target["class_labels"].to(logits.device), target["boxes"].to(boxes)
        matchings = torch.tensor(list(permutations(range(logits.shape[1]), len(labels))), device=logits.device)
        cost = _BOX * torch.cdist(boxes[row], gold, p=1) - logits[row].softmax(dim=-1)[:, labels]
        best = matchings[cost.detach().gather(0, matchings).sum(dim=1).argmin()]
        classes[row, best] = labels
        distances.append((boxes[row, best] - gold).abs().sum(dim=1))
    weight = torch.ones(logits.shape[2], device=logits.device)
    weight[-1] = _NOTHING
    return F.cross_entropy(logits.flatten(0, 1), classes.flatten(), weight) + _BOX * torch.cat(distances).mean()


def small_classifier(shapes: tuple[str, ...]) -> ShapeModel:
    """Return an untrained ResNet of three stages."""
    config = ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 64],
        depths=[1, 1, 1],
        layer_type="basic",
        id2label=dict(enumerate(shapes)),
    )
    return ShapeModel(ResNetForImageClassification(config), 6e-3)


def small_detector(shapes: tuple[str, ...], classifier: ShapeModel) -> ShapeModel:
    """Return a DETR of five queries on the ResNet of a trained :func:`small_classifier`, as far as its second stage."""
    ends = {"layers": 2, "attention_heads": 4, "ffn_dim": 128}
    sizes: dict[str, Any] = {f"{end}_{what}": size for end in ("encoder", "decoder") for what, size in ends.items()}
    sizes |= {"use_timm_backbone": False, "use_pretrained_backbone": False}  # which earlier `transformers` would take
    seen = deepcopy(classifier.model.config)
    seen.out_features = ["stage2"]
    config = DetrConfig(
        **sizes,
        backbone_config=seen,
        d_model=64,
        num_queries=5,
        dropout=0.0,
        id2label=dict(enumerate(shapes)),
    )
    model = DetrForObjectDetection(config)
    backbone = next(part for part in model.modules() if isinstance(part, ResNetBackbone))
    weights = classifier.model.base_model.state_dict()
    backbone.load_state_dict({name: weights[name] for name in backbone.state_dict()})
    return ShapeModel(model, 1e-3)


def train(model: ShapeModel, data: ShapesDataset, *, steps: int, folder: str) -> ShapeModel:
    """Return the model after ``steps`` batches of 32, and in evaluation mode."""
    collate = data.collate if data.objects != (1, 1) else None  # None for the default one
    trainer = Trainer(
        max_steps=steps,
        accelerator="auto",
        devices=1,
        logger=False,
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
    )
    trainer.fit(model, DataLoader(data, batch_size=32, shuffle=True, collate_fn=collate))
    return model.eval()
