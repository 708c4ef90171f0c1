from types import SimpleNamespace

import pytest

from lightning_interpret.tasks.grids import channels_of, patches_of

VIT = SimpleNamespace(patch_size=16)
YOLOS = SimpleNamespace(patch_size=(16, 16), num_detection_tokens=100)
DETR = SimpleNamespace(num_queries=100)


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((64, 8, 8), (32, 32), 0),
        ((8, 8, 64), (32, 32), 2),
        ((8, 8, 8), (32, 32), 0),  # either: channels first
        ((12, 5, 7), (64, 96), 0),  # cut off at the edges
        ((4, 6, 12), (64, 96), 2),
        ((512, 1, 1), (32, 32), None),  # pooled
        ((1, 1, 512), (32, 32), None),
        ((16,), (32, 32), None),
        ((16, 8), (32, 32), None),
    ],
)
def test_channels_of_a_map(shape, size, expected):
    assert channels_of(shape, size) == expected


@pytest.mark.parametrize(
    ("tokens", "size", "config", "expected"),
    [
        (196, (224, 224), VIT, (0, (14, 14), 0)),
        (197, (224, 224), VIT, (1, (14, 14), 0)),
        (201, (224, 224), VIT, (5, (14, 14), 0)),  # CLS and four registers
        (1 + 8 * 12 + 100, (128, 192), YOLOS, (1, (8, 12), 100)),
        (100, (128, 192), YOLOS, None),  # the detection tokens alone
        (49, (224, 224), SimpleNamespace(patch_size=4), (0, (7, 7), 0)),  # a later stage
        (8 * 12, (128, 192), None, (0, (8, 12), 0)),
        (8 * 12 + 1, (128, 192), None, (1, (8, 12), 0)),
        (5 * 7, (150, 200), DETR, (0, (5, 7), 0)),  # a backbone that halves five times, rounding up
        (100, (320, 320), DETR, None),  # as many queries as places
        (23, (224, 224), None, None),
        (1, (224, 224), None, None),
    ],
)
def test_patches_among_tokens(tokens, size, config, expected):
    assert patches_of(tokens, size, config) == expected
