"""One label an image: any `transformers` image classifier as it is, any other model with a method."""

from __future__ import annotations

from typing import ClassVar

from lightning_interpret.tasks.images import ImageTask
from lightning_interpret.tasks.transformer import IMAGES


class ImageClassification(ImageTask):
    """Reads a module that gives one score a class for each image.

    The defaults find the `transformers` model in the module (ResNet, ConvNeXt, ViT, ...) and call it with what its
    ``forward`` names. For a model of your own, override :meth:`logits`, and :meth:`layer` where the pixels are not what
    you want to attribute to::

        class MyTask(ImageClassification):
            def logits(self, module, batch):
                images, labels = batch
                return module(images)

    Args:
        labels: Names of the classes in order; by default their numbers.
        processor: What the pixels were normalised with, to show them as they were: an image processor of
            `transformers`, its name or directory, or a mapping with ``image_mean`` and ``image_std``. Without it the
            range of each image is stretched from black to white.
        model: Name of the `transformers` model in the module, where it holds several classifiers.

    Raises:
        ValueError: By :meth:`check` or on first use: no image in the batch, an unknown label, a baseline that cannot be
            made.
    """

    head: ClassVar[str] = IMAGES
