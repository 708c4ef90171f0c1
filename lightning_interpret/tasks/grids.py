"""Which features of a layer lie at which locations of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_MAY_STAND_BEFORE = 16  # CLS, a distillation token, registers


def channels_of(shape: Sequence[int], size: tuple[int, int]) -> int | None:
    """Return which dimension of a feature map ``(C, h, w)`` or ``(h, w, C)`` holds the channels; None for no map.

    Args:
        shape: Shape of one example's features.
        size: Height and width of the image. Where the channels may be either, they come first.
    """
    if len(shape) != 3:
        return None
    place = 2 if _alike(shape[:2], size) and not _alike(shape[1:], size) else 0
    height, width = shape[:2] if place == 2 else shape[1:]
    return None if height * width == 1 else place  # pooled: entries of a vector


def patches_of(tokens: int, size: tuple[int, int], config: Any) -> tuple[int, tuple[int, int], int] | None:
    """Return how many tokens come before the patches of an image, their grid, and how many come after; None for none.

    The grid is that of the configuration's ``patch_size``, after which ``num_detection_tokens`` may come (YOLOS).
    Otherwise it is that of the image cut into squares, of which there are as many as tokens, or one less (CLS).

    Args:
        tokens: Number of tokens.
        size: Height and width of the image.
        config: The model's configuration, or None.
    """
    patch, after = getattr(config, "patch_size", None), getattr(config, "num_detection_tokens", 0)
    if tokens < 2 or tokens in (after, getattr(config, "num_queries", None)):  # what is asked for, and lies nowhere
        return None
    if patch is not None:
        height, width = (patch, patch) if isinstance(patch, int) else patch
        grid = size[0] // height, size[1] // width
        before = tokens - after - grid[0] * grid[1]
        if 0 <= before <= _MAY_STAND_BEFORE:
            return before, grid, after
    cuts = {(-(-size[0] // side), -(-size[1] // side)) for side in range(1, max(size))}
    for before in (0, 1):
        for grid in cuts:
            if grid[0] * grid[1] == tokens - before:
                return before, grid, 0
    return None


def _alike(grid: Sequence[int], size: tuple[int, int]) -> bool:
    """Whether a grid has the proportions of an image, up to one row or column."""
    return abs(grid[0] * size[1] - grid[1] * size[0]) <= max(size)
