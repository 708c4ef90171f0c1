"""Generated pictures of shapes on textures that carry the truth every attribution of an image is judged by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from operator import index as as_index
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from lightning_interpret.names import choose

SHAPES = ("circle", "square", "triangle", "cross")
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
_WAVES = 4  # of a texture


class ShapesDataset(Dataset[dict[str, Any]]):
    """Pictures of plain shapes on textures; a picture is drawn when it is asked for, from the seed and its index alone.

    A row is a mapping, ready for a default collate where every picture has as many shapes (else :meth:`collate`):

    * ``pixel_values``: float ``(3, H, W)``, colours in [0, 1] less ``MEAN`` and divided by ``STD``;
    * ``labels``: the class of the largest shape, an index into ``shapes``;
    * ``class_labels``: long ``(K,)``, the class of each shape, the largest first;
    * ``boxes``: float ``(K, 4)``, centre x and y, width and height, as shares of the picture's width and height: the
      pixels of the shape to the last row and column;
    * ``masks``: bool ``(K, H, W)``, the pixels of each shape;
    * ``example_id``: the index.

    The class is in the outline alone: colours, size, place, turn and texture are drawn without regard to it. Shapes do
    not overlap.

    Args:
        size: Number of pictures.
        image_size: Height and width in pixels, or one number for both.
        seed: Another seed gives other pictures.
        objects: Fewest and most shapes in a picture.
        shapes: Which shapes there are; their order numbers the classes.

    Raises:
        ValueError: If an option is out of its range; the message names it.
    """

    #: What a task needs to show the pictures as they are: the names that image processors of `transformers` use.
    processor: Mapping[str, Sequence[float]] = {"image_mean": MEAN, "image_std": STD}

    def __init__(
        self,
        size: int = 2000,
        *,
        image_size: int | tuple[int, int] = 64,
        seed: int = 0,
        objects: tuple[int, int] = (1, 1),
        shapes: Sequence[str] = SHAPES,
    ) -> None:
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        fewest, most = objects
        if size < 1:
            raise ValueError(f"`size={size!r}`: a set has at least one picture.")
        if not 1 <= fewest <= most:
            raise ValueError(f"`objects={objects!r}`: give the fewest and the most shapes, at least 1.")
        cells = math.ceil(math.sqrt(most))  # a shape has a cell of its own
        if min(height, width) < 16 * cells:
            raise ValueError(
                f"`image_size={image_size!r}` has no room for {most} shapes: give at least {16 * cells} pixels a side."
            )
        if not shapes or len(set(shapes)) < len(shapes):
            raise ValueError(f"`shapes={shapes!r}`: name at least one shape, and each once.")
        self.shapes = tuple(choose("shapes", shape, SHAPES) for shape in shapes)
        self.size, self.image_size, self.seed, self.objects = size, (height, width), seed, (fewest, most)
        self._cells = cells

    @property
    def example_ids(self) -> Tensor:
        """The id of each picture, ``(n,)``: its index."""
        return torch.arange(self.size)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = as_index(index)
        if not -self.size <= row < self.size:
            raise IndexError(f"picture {row} of a set of {self.size} pictures")
        row %= self.size
        number = blake2b(f"{self.seed}/{row}".encode(), digest_size=8).digest()
        rng = torch.Generator().manual_seed(int.from_bytes(number, "big") >> 1)
        picture = _texture(rng, *self.image_size)
        count = int(torch.randint(self.objects[0], self.objects[1] + 1, (), generator=rng))
        kinds = torch.randint(len(self.shapes), (count,), generator=rng)
        masks = []
        for kind, cell in zip(kinds.tolist(), torch.randperm(self._cells**2, generator=rng).tolist(), strict=False):
            cover = self._cover(rng, self.shapes[kind], cell)
            mask = cover > 0.5
            ground = (picture * mask).sum(dim=(1, 2)) / mask.sum()
            # half the range of each colour away from what it lies on, so that every shape can be seen
            colour = (ground + 0.4 + _uniform(rng, 3) * 0.2) % 1.0
            picture = torch.lerp(picture, colour[:, None, None].expand_as(picture), cover)
            masks.append(mask)
        found = torch.stack(masks)
        largest_first = found.sum(dim=(1, 2)).argsort(descending=True, stable=True)
        found, kinds = found[largest_first], kinds[largest_first]
        return {
            "pixel_values": (picture - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None],
            "labels": int(kinds[0]),
            "class_labels": kinds,
            "boxes": boxes_of(found),
            "masks": found,
            "example_id": row,
        }

    def _cover(self, rng: torch.Generator, kind: str, cell: int) -> Tensor:
        """Return how much of each pixel a shape covers, somewhere in a cell of the picture."""
        height, width = self.image_size
        side = min(height, width) / self._cells
        radius = side * float(0.18 + 0.16 * _uniform(rng, 1))
        room = torch.tensor([height, width]) / self._cells - 2 * radius - 2
        corner = torch.tensor([cell // self._cells * height, cell % self._cells * width]) / self._cells
        centre = corner + radius + 1 + _uniform(rng, 2) * room
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        y, x, turn = y - centre[0], x - centre[1], (float(_uniform(rng, 1)) - 0.5) * 0.6
        x, y = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
        return (0.5 - _distance(kind, x / radius, y / radius) * radius).clamp(0, 1)

    @staticmethod
    def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return a batch as detectors of `transformers` read it: ``labels`` is a list of one mapping a picture.

        It holds ``class_labels`` ``(K,)`` and ``boxes`` ``(K, 4)``. Masks are left out.
        """
        targets = [{name: row[name] for name in ("class_labels", "boxes")} for row in rows]
        shared = [{name: row[name] for name in ("pixel_values", "example_id")} for row in rows]
        return {**default_collate(shared), "labels": targets}


def boxes_of(masks: Tensor) -> Tensor:
    """Return the box of each mask ``(K, H, W)``: centre x and y, width and height as shares of W and H, ``(K, 4)``."""
    ends = []
    for along, across in ((2, 1), (1, 2)):  # x, then y
        there = masks.any(dim=across).float()
        size = masks.shape[along]
        first, last = there.argmax(dim=1), size - there.flip(1).argmax(dim=1)
        ends.append(((first + last) / 2 / size, (last - first) / size))
    (x, width), (y, height) = ends
    return torch.stack([x, y, width, height], dim=1)


def _distance(kind: str, x: Tensor, y: Tensor) -> Tensor:
    """Return the distance to a shape that fits into a circle of radius 1, below 0 inside; exact near straight edges."""
    if kind == "circle":
        return torch.hypot(x, y) - 1
    if kind == "square":
        return torch.maximum(x.abs(), y.abs()) - math.sqrt(0.5)
    if kind == "triangle":
        return torch.maximum(x.abs() * math.sqrt(0.75) - y / 2, y) - 0.5
    arm = 0.3  # half its width
    long, short = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    return torch.maximum(long - math.sqrt(1 - arm**2), short - arm)


def _texture(rng: torch.Generator, height: int, width: int) -> Tensor:
    """Return a texture ``(3, H, W)`` of colours in [0, 1]: two colours, mixed by waves of random length and direction.

    Waves are a sixteenth to a half of a picture's shorter side long.
    """
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    long = 2 ** (-4 + 3 * _uniform(rng, _WAVES)) * min(height, width)
    turn, phase = (2 * math.pi * _uniform(rng, _WAVES) for _ in range(2))
    far = x * turn.cos()[:, None, None] + y * turn.sin()[:, None, None]
    waves = (2 * math.pi * far / long[:, None, None] + phase[:, None, None]).sin().mean(dim=0)
    first = 0.2 + 0.6 * _uniform(rng, 3)
    second = (first + 0.5 * (_uniform(rng, 3) - 0.5)).clamp(0, 1)
    mixed = torch.lerp(first[:, None, None], second[:, None, None], (waves + 1) / 2)
    return (mixed + 0.02 * torch.randn(3, height, width, generator=rng)).clamp(0, 1)


def _uniform(rng: torch.Generator, count: int) -> Tensor:
    return torch.rand(count, generator=rng)
