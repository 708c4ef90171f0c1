"""Records of attention to report on: the usual case, and records of arbitrary texts and missing fields."""

import random

from explained import OF_QUERY, of_tokens
from records import arbitrary_text

from lightning_interpret.records.attention import AttentionLayer, AttentionMapRow

WORDS = ("Not", "a", "bad", "film")
WEIGHTS = (0.5, 0.1, 0.05, 0.2, 0.05, 0.1)
_MEAN = tuple(tuple(100 if i == j else 0 for j in range(6)) for i in range(6))
_HEAD = tuple(tuple(50 if j in (i, 0) else 0 for j in range(6)) for i in range(6))


def attention(**changes):
    """Return the attention to 'Not a bad film' in two layers of two heads, under a wrong prediction."""
    layers = (
        AttentionLayer("encoder.layer.0.attention", "self", (0.9, 0.7), 0.75, _HEAD),
        AttentionLayer("encoder.layer.1.attention", "self", (0.5, 0.25), 0.5, _MEAN),
    )
    values = {
        **OF_QUERY, **of_tokens(" ".join(WORDS), WORDS), "layers": layers, "of_heads": 1, "heads": (_MEAN, _HEAD),
        "shown": 6, "read": "position 0, '[CLS]'", "token_weights": WEIGHTS,
    }  # fmt: skip
    return AttentionMapRow(**values | changes)


def of_text(text):
    """Return a record in which every text is the given one."""
    said = dict.fromkeys(("text", "prediction", "gold", "read", "why"), text)
    words = {"tokens": (text,) * 6, "words": (text,) * 6, "word_ids": tuple(range(6)), "special": (False,) * 6}
    layers = (AttentionLayer(text, text, (0.5,), None, _MEAN),)
    return attention(**said, **words, layers=layers, offsets=None, notes=(text,), reasons={text: text})


def long(tokens, layers=24, heads=16, shown=32):
    """Return a record of a long text and a large model, with all the maps that a record keeps."""
    rng = random.Random(0)
    words = tuple(f"w{i}" for i in range(tokens))

    def weights():
        return tuple(tuple(rng.randrange(100) for _ in range(shown)) for _ in range(shown))

    found = tuple(AttentionLayer(f"layer.{i}", "self", (0.5,) * heads, 0.5, weights()) for i in range(layers))
    fields = {**of_tokens(" ".join(words), words), "tokens": words, "word_ids": tuple(range(tokens)), "offsets": None}
    return AttentionMapRow(
        **fields | {"special": (False,) * tokens}, layers=found, of_heads=layers - 1, shown=shown, read="the mean",
        heads=tuple(weights() for _ in range(heads)), token_weights=(1 / tokens,) * tokens,
    )  # fmt: skip


def arbitrary(seed):
    """Return attention to a text of arbitrary words; any field may be missing, any number not one."""
    rng = random.Random(seed)

    def maybe(value):
        return rng.choice((None, value))

    length = rng.randrange(6)
    shown, words = rng.randrange(length + 1), tuple(arbitrary_text(rng) for _ in range(length))

    def weights():
        return tuple(tuple(rng.randrange(101) for _ in range(shown)) for _ in range(rng.choice((1, shown))))

    layers = tuple(
        AttentionLayer(
            arbitrary_text(rng), rng.choice(("self", "pooling")),
            tuple(rng.choice((0.0, 1.0, rng.random(), float("nan"))) for _ in range(rng.randrange(3))),
            maybe(rng.random()), maybe(weights()),
        )
        for _ in range(rng.randrange(3))
    )  # fmt: skip
    return AttentionMapRow(
        layers=layers, of_heads=maybe(0), heads=tuple(weights() for _ in range(rng.randrange(3))), shown=shown,
        read=maybe(arbitrary_text(rng)), tokens=words,
        token_weights=tuple(rng.choice((0.0, rng.random(), float("nan"))) for _ in words),
        words=words, word_ids=tuple(range(length)), special=(False,) * length,
        text=maybe(arbitrary_text(rng, 80)), prediction=maybe(arbitrary_text(rng)), gold=maybe(arbitrary_text(rng)),
        notes=(arbitrary_text(rng),),
    )  # fmt: skip
