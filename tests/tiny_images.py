"""Tiny models of images for tests: built from configurations, nothing is downloaded."""

import torch
from tiny import lively
from torch import nn
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    DetrConfig,
    DetrForObjectDetection,
    ResNetConfig,
    ResNetForImageClassification,
    SwinConfig,
    SwinForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    YolosConfig,
    YolosForObjectDetection,
)

from lightning_interpret.data import ShapesDataset
from lightning_interpret.data.shapes import SHAPES

LABELS = dict(enumerate(SHAPES))
_TRANSFORMER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
_RESNET = {"embedding_size": 6, "hidden_sizes": [6, 8], "depths": [1, 1], "layer_type": "basic"}
_DETR = {
    f"{end}_{what}": n
    for end in ("encoder", "decoder")
    for what, n in [("layers", 1), ("attention_heads", 2), ("ffn_dim", 16)]
}

MODELS = {
    "resnet": lambda: ResNetForImageClassification(ResNetConfig(**_RESNET, id2label=LABELS)),
    "convnext": lambda: ConvNextForImageClassification(
        ConvNextConfig(
            hidden_sizes=[6, 8], depths=[1, 1], num_stages=2, patch_size=4, layer_scale_init_value=0.5, id2label=LABELS
        )
    ),
    "vit": lambda: ViTForImageClassification(ViTConfig(**_TRANSFORMER, image_size=32, patch_size=8, id2label=LABELS)),
    "swin": lambda: SwinForImageClassification(
        SwinConfig(
            image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4, id2label=LABELS
        )
    ),
    "yolos": lambda: YolosForObjectDetection(
        YolosConfig(**_TRANSFORMER, image_size=[32, 32], patch_size=8, num_detection_tokens=5, id2label=LABELS)
    ),
    "detr": lambda: DetrForObjectDetection(
        DetrConfig(
            **_DETR,
            use_timm_backbone=False,
            use_pretrained_backbone=False,
            backbone=None,
            backbone_config=ResNetConfig(**_RESNET, out_features=["stage2"]),
            d_model=16,
            num_queries=5,
            id2label=LABELS,
        )
    ),
}


def model_of(name, *, seed=0, dtype=torch.float64):
    """A tiny `transformers` model of images with four classes, in eval mode."""
    model = lively(MODELS[name](), seed)
    generator = torch.Generator().manual_seed(seed)
    for part in model.modules():
        if isinstance(part, nn.Conv2d):  # keep the size of what passes through
            part.weight.data.mul_((part.weight[0, 0, 0].numel() / part.weight[0].numel()) ** 0.5)
        if isinstance(part, nn.BatchNorm2d):
            part.running_var.uniform_(0.5, 2, generator=generator)
            part.running_mean.normal_(0, 0.2, generator=generator)
    return model.to(dtype)


def images_of(rows=2, *, size=32, dtype=torch.float64, boxes=False, **options):
    """A batch of generated pictures."""
    data = ShapesDataset(rows, image_size=size, seed=5, **options)
    collate = data.collate if boxes else torch.utils.data.default_collate
    batch = collate([data[i] for i in range(rows)])
    return batch | {"pixel_values": batch["pixel_values"].to(dtype)}
