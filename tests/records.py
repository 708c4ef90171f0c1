"""Rows to report on: a plain one, and rows of arbitrary text."""

import random
from dataclasses import replace

from PIL import Image, ImageDraw

from lightning_interpret.explanations import AttributionRow
from lightning_interpret.report.uri import encoded

NASTY = [
    "__init__", "*", "**a**", "|", "a|b", "`x`", "```", "~~~", "<b>x</b>", "##ing", "[CLS]", "    four", "&lt;", "a\nb",
    "a\r\nb", "\x1b[31mred\x1b[0m", "\x00", "😀", "👩‍👩‍👧", "寿司", "مرحبا", "שלום", "\u202eevil", "\ud800", "1.",
    "- x", "-----", ":--", "\\", "\\*", "http://x.y/?a=b&c", "a  b", "![i](j)", "$x$", "", " ", "é", "x" * 5000,
]  # fmt: skip
_CHARACTERS = "ab Z9*_`|<>&#[]()-+=.:~!\\\n\t\x1b\x07\u2028\u202e寿é😀ما\u0301\u200d\ud800\uffff\U000e0041"


def row(words="good bad", scores=None, **changes):
    """Return a row with one token a word between [CLS] and [SEP]."""
    words = words.split() if isinstance(words, str) else list(words)
    scores = [(-1.0) ** i * (i + 1) for i in range(len(words))] if scores is None else list(scores)
    values = {
        "tokens": ("[CLS]", *words, "[SEP]"),
        "scores": (0.0, *scores, 0.25),
        "word_ids": (None, *range(len(words)), None),
        "words": tuple(words),
        "special": (True, *[False] * len(words), True),
        "target": 2.5,
        "target_name": "positive",
        "output": "logit",
        "method": "integrated_gradients",
        "layer": "encoder.embeddings",
        "prediction": "positive",
        "gold": "positive",
        "baseline": "pad",
        "baseline_target": -0.125,
        "error": 0.003,
        "relative_error": 0.0012,
        "steps": 64,
        "converged": True,
    }
    return AttributionRow(**values | changes)


def arbitrary_text(rng, longest=12):
    return "".join(rng.choice(_CHARACTERS) for _ in range(rng.randrange(longest)))


def arbitrary_row(seed, size=40):
    """Return a row of sub-words, gaps in the words, special tokens anywhere and every text arbitrary."""
    rng = random.Random(seed)
    ids, word = [], 0
    for _ in range(rng.randrange(size + 1)):
        word += rng.choice((0, 0, 1, 1, 1, 2))
        ids.append(rng.choice((None, word, word, word)))
    count = len(ids)
    return AttributionRow(
        tokens=tuple(arbitrary_text(rng) for _ in ids),
        scores=tuple(rng.choice((0.0, rng.gauss(0, 1), rng.gauss(0, 1e6), rng.gauss(0, 1e-6))) for _ in ids),
        word_ids=tuple(ids),
        words=tuple(arbitrary_text(rng) for _ in range(word + 1 + rng.randrange(3))),
        special=tuple(i is None for i in ids),
        offsets=rng.choice((None, tuple((i, i + 1) for i in range(count)))),
        segment=rng.choice((None, (0,) * count)),
        target=rng.gauss(0, 1),
        target_name=arbitrary_text(rng, 60),
        output="logit",
        method="saliency",
        layer=arbitrary_text(rng),
        prediction=rng.choice((None, arbitrary_text(rng))),
        gold=rng.choice((None, arbitrary_text(rng))),
        baseline=rng.choice((None, arbitrary_text(rng))),
        baseline_target=rng.choice((None, 0.5)),
        error=rng.choice((None, 0.5)),
        relative_error=rng.choice((None, 0.5)),
        converged=rng.choice((None, True, False)),
        notes=(arbitrary_text(rng),),
        reasons={"steps": arbitrary_text(rng)},
    )


def photograph(wide=160, high=120):
    """Return a picture of a house on a field, which is told apart from its mirror images."""
    picture = Image.new("RGB", (wide, high), (120, 170, 230))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0.7 * high, wide, high), fill=(90, 150, 70))
    draw.rectangle((0.15 * wide, 0.4 * high, 0.45 * wide, 0.8 * high), fill=(190, 60, 50))
    draw.polygon([(0.1 * wide, 0.4 * high), (0.3 * wide, 0.15 * high), (0.5 * wide, 0.4 * high)], fill=(80, 50, 40))
    draw.ellipse((0.75 * wide, 0.08 * high, 0.9 * wide, 0.28 * high), fill=(250, 230, 80))
    return picture


def image_row(grid=(3, 4), scores=None, *, before=1, after=0, picture=True, **changes):
    """Return a row of an image of so many locations, with units of no location before and after them."""
    size = grid[0] * grid[1]
    scores = [(-0.9) ** i for i in range(size)] if scores is None else list(scores)
    values = {
        "tokens": (),
        "word_ids": (),
        "words": (),
        "scores": (*[0.5] * before, *scores, *[-0.25] * after),
        "special": (*[True] * before, *[False] * size, *[True] * after),
        "units": "location",
        "grid": grid,
        "image": encoded(photograph(), 224) if picture is True else picture,
        "layer": "encoder.patches",
    }
    return replace(row(), **values | changes)
