"""What tasks with an image an example share: its pixels, its locations, what stands in its place, its picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_interpret.explanations import Units
from lightning_interpret.functional.baselines import FOUND, Baseline, blur
from lightning_interpret.functional.features import PIXELS
from lightning_interpret.tasks import batches
from lightning_interpret.tasks.base import Layout
from lightning_interpret.tasks.classification import Classification, parse_which
from lightning_interpret.tasks.grids import channels_of, patches_of
from lightning_interpret.tasks.transformer import transformer_in

KINDS = ("blur", "black", "zero")
_LONGEST = 224  # pixels of a picture's longer side


class ImageTask(Classification):
    """Reads a module that is given images ``(B, C, H, W)``: as ``pixel_values`` in the batch, or as its first images.

    Scores are shown for the locations of a grid: at the pixels, for each of them; of a feature map, for each place,
    summed over the channels; of a vision transformer, for each patch, with its other tokens (CLS, registers, detection
    tokens) marked as special. Features that lie nowhere are shown by number.

    Args:
        labels: Names of the classes in order; by default their numbers.
        processor: What the pixels were normalised with, to show them as they were: an image processor of
            `transformers`, its name or directory, or a mapping with ``image_mean`` and ``image_std``. Without it the
            range of each image is stretched from black to white.
        model: Name of the `transformers` model in the module, where it holds several.
    """

    #: What ``which`` may be besides a class.
    groups: ClassVar[tuple[str, ...]] = ("predicted", "gold")
    default_baseline = Baseline("blur")

    def __init__(self, labels: Any = None, processor: Any = None, model: str | None = None) -> None:
        super().__init__(labels, model)
        self._processor = processor

    def pixels(self, batch: Any) -> Tensor:
        """Return the images ``(B, C, H, W)`` of a batch: its ``pixel_values``, or else the first that may be images.

        Raises:
            ValueError: If there are none.
        """
        named = batches.get(batch, PIXELS)
        for found in [named, *batches.leaves(batch)]:
            if isinstance(found, Tensor) and found.dim() == 4 and found.is_floating_point():
                return found
        raise ValueError(
            f"The batch ({type(batch).__name__}) has no `{PIXELS}`, floating-point images (batch, channels, height, "
            "width): override `pixels(batch)`."
        )

    def parts(self, batch: Any) -> dict[str, Any]:
        """Return the parts of a batch by the names that a `transformers` model has for them."""
        return batches.as_mapping(batch) | {PIXELS: self.pixels(batch)}

    def layer(self, module: nn.Module) -> str:
        """Return the name that stands for the pixels."""
        return PIXELS

    def units(self, batch: Any) -> Units:
        """Return the pixels of each image."""
        pixels = self.pixels(batch)
        return Units.locations(len(pixels), (pixels.shape[2], pixels.shape[3]), images=self.pictures(pixels))

    def layout(self, module: nn.Module, batch: Any, features: Tensor, layer: str) -> Layout:
        """Return how the features of a layer lie on the image: a map's on its grid, tokens on that of their patches."""
        pixels = self.pixels(batch)
        rows, shape, size = len(features), tuple(features.shape[1:]), (pixels.shape[2], pixels.shape[3])
        channels = channels_of(shape, size)
        if channels is not None:
            grid = (shape[0], shape[1]) if channels == 2 else (shape[1], shape[2])
            units = Units.locations(rows, grid, images=self.pictures(pixels))
            return Layout(units, lambda values: values.sum(dim=1 + channels).flatten(1))
        model = transformer_in(module, self._model, self.head)
        found = patches_of(shape[0], size, getattr(model, "config", None)) if len(shape) == 2 and shape[1] > 1 else None
        if found is None:
            return Layout.leading(Units.features(rows, features[0].numel()))
        before, grid, after = found
        return Layout.leading(Units.locations(rows, grid, before=before, after=after, images=self.pictures(pixels)))

    def pictures(self, pixels: Tensor) -> tuple[str, ...]:
        """Return a small picture of each image, at most 224 pixels a side, as a data URI (JPEG)."""
        shown = pixels.detach().float().nan_to_num()
        if self.normalisation is None:
            low, high = shown.amin(dim=(1, 2, 3), keepdim=True), shown.amax(dim=(1, 2, 3), keepdim=True)
            shown = (shown - low) / (high - low).clamp(min=1e-12)
        else:
            mean, std = self._normalisation_of(shown)
            shown = shown * std + mean
        if shown.shape[1] != 3:  # one channel, or channels that are no colours
            shown = shown.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
        shrink = _LONGEST / max(shown.shape[2:])
        if shrink < 1:
            shape = [max(1, round(side * shrink)) for side in shown.shape[2:]]
            shown = F.interpolate(shown, size=shape, mode="bilinear", antialias=True)
        colours = (shown.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).contiguous().cpu()
        return tuple(_data_uri(image) for image in colours)

    @cached_property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and standard deviation of each channel that the pixels were normalised with, or None if not known."""
        processor = self._processor
        if isinstance(processor, str):
            from transformers import AutoImageProcessor

            try:
                processor = AutoImageProcessor.from_pretrained(processor)
            except (OSError, ValueError) as error:
                raise ValueError(f"`processor={processor!r}` cannot be loaded: {error}") from error
        if processor is None:
            return None
        given = processor if isinstance(processor, Mapping) else vars(processor)
        if given.get("do_normalize") is False:
            return (0.0,), (1.0,)
        mean, std = given.get("image_mean"), given.get("image_std")
        if mean is None or std is None:
            raise ValueError(
                f"`processor={self._processor!r}` says no `image_mean` and `image_std`: give an image processor of "
                "`transformers`, its name, or a mapping that does."
            )
        numbers = (mean,) if isinstance(mean, int | float) else mean, (std,) if isinstance(std, int | float) else std
        return tuple(map(float, numbers[0])), tuple(map(float, numbers[1]))

    def baseline(self, module: nn.Module, batch: Any, features: Tensor, baseline: Baseline) -> Tensor:
        """Return the pixels of x': blurred, black, or zero as the model reads them."""
        if baseline.kind == "blur":
            return blur(features, baseline.sigma * min(features.shape[2:]))
        if baseline.kind == "zero":
            return torch.zeros_like(features)
        self._refuse(baseline)
        mean, std = self._normalisation_of(features)
        return (-mean / std).expand_as(features)

    def baseline_for(self, baseline: Baseline) -> Baseline:
        """Return the baseline that is meant; an image has no special tokens to keep."""
        return replace(super().baseline_for(baseline), keep_special=True)

    def check(self, module: nn.Module, which: str, baseline: Baseline | None) -> None:
        """Raise for a module without a model, a processor, class or baseline that does not exist or cannot be made."""
        if type(self).logits.__module__.startswith(str(__package__)):  # not a reader of the user's own
            self.model_in(module)
        _ = self.normalisation  # refuses a processor that cannot be read
        if self._labels is not None and which not in self.groups:
            parse_which(which, self._labels)
        if baseline is not None and baseline.drawn:
            self.need_references(baseline)
        elif baseline is not None and baseline.kind not in FOUND:
            self._refuse(self.baseline_for(baseline))

    def _refuse(self, baseline: Baseline) -> None:
        if baseline.kind not in KINDS:
            raise ValueError(f"`baseline={baseline.kind!r}` is of texts: an image has {', '.join(KINDS + FOUND)}.")
        if baseline.kind == "black" and self.normalisation is None:
            raise ValueError("`baseline='black'` needs the `processor` that the pixels were normalised with: give it.")

    def _normalisation_of(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        assert self.normalisation is not None
        channels = {len(part) for part in self.normalisation} - {1, pixels.shape[1]}
        if channels:
            raise ValueError(
                f"`processor` normalises {max(channels)} channels, but the images have {pixels.shape[1]}: give a "
                "mapping with one `image_mean` and `image_std` a channel."
            )
        mean, std = (torch.tensor(part).to(pixels)[:, None, None] for part in self.normalisation)
        return mean, std


def _data_uri(image: Tensor) -> str:
    height, width, _ = image.shape
    file = io.BytesIO()
    Image.frombytes("RGB", (width, height), image.numpy().tobytes()).save(file, "JPEG", quality=90, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
