"""Records of several targets of one example to report on: each view, pairs, and records of arbitrary texts and gaps."""

import math
import random
from dataclasses import replace

from records import arbitrary_text

from lightning_interpret.explanations import AttributionRow
from lightning_interpret.records.targets import VIEWS, Target, TargetsRow


def _tokens(words, segment, marks=()):
    """Return the fields of a text of words in parts, special ones named in ``marks``."""
    ids = iter(range(len(words)))
    word_ids = tuple(None if word in marks else next(ids) for word in words)
    return {
        "tokens": tuple(words),
        "words": tuple(word for word in words if word not in marks),
        "word_ids": word_ids,
        "special": tuple(word in marks for word in words),
        "segment": tuple(segment),
    }


def _score(seed, i, near):
    return round(math.sin(1.7 * i + 2.3 * seed) + (2.5 if i == near else 0.0), 4)


def grid(prompt="The capital of France is", output=("Ġthe", "Ġcity", "Ġof", "ĠPar", "is", "."), **changes):
    """Return a generation: each token of the output by the prompt and the output before it."""
    first = prompt.split() if isinstance(prompt, str) else list(prompt)
    tokens = [word if i == 0 else f"Ġ{word}" for i, word in enumerate(first)]
    read = [*tokens, *output[:-1]]
    targets = tuple(
        Target(
            name=name,
            scores=tuple(_score(k, i, min(3, len(first) - 1)) for i in range(len(first) + k)),
            value=2.0 + k / 2,
            span=(len(first) + k, len(first) + k + 1),
            prediction=name,
            gold="ĠLyon" if k == 3 else name,
            attribution_target=1.5,
            error=0.01,
            relative_error=0.04 if k == 1 else 0.002,
            converged=k != 1,
        )
        for k, name in enumerate(output)
    )
    values = {
        "view": "grid",
        "targets": targets,
        "output": "log_prob",
        "method": "integrated_gradients",
        "layer": "wte",
        "baseline": "pad",
        "segment_names": ("prompt", "output"),
        "example_id": 3,
        "tokens": tuple(read),
        "segment": tuple(int(i >= len(first)) for i in range(len(read))),
    }
    return TargetsRow(**values | changes)


TAGGED = ["[CLS]", "Angela", "Merkel", "met", "Macron", "in", "Paris", "on", "Monday", ".", "[SEP]"]


def entities(**changes):
    """Return three entities: a person, one that is wrong, a place."""
    spans = [((1, 3), "PER", "PER"), ((4, 5), "LOC", "PER"), ((6, 7), "LOC", "LOC")]
    targets = tuple(
        Target(
            kind,
            tuple(_score(k, i, span[0]) for i in range(len(TAGGED))),
            4.0 - k,
            span,
            kind,
            gold,
            relative_error=0.003,
            converged=True,
        )
        for k, (span, kind, gold) in enumerate(spans)
    )
    values = {
        "view": "entities",
        "targets": targets,
        "method": "integrated_gradients",
        "layer": "embeddings",
        "example_id": 5,
    }
    return TargetsRow(**values | _tokens(TAGGED, [0] * len(TAGGED), ("[CLS]", "[SEP]")) | changes)


def likeliest():
    """Return the word most like an entity of a text in which none is predicted."""
    row = entities(prediction="no entity")
    return replace(row, targets=(replace(row.targets[1], prediction="O", gold="O"),))


QUESTION = "[CLS] Where is the tower ? [SEP]".split()  # noqa: SIM905
PASSAGE = "The tower that Gustave Eiffel built stands in the city of Paris since 1889 . [SEP]".split()  # noqa: SIM905


def answer(before=0, **changes):
    """Return an answer in a passage, with so many words before it."""
    words = [*QUESTION, *(f"word{i}" for i in range(before)), *PASSAGE]
    at = words.index("Paris")
    near = words.index("stands")
    targets = tuple(
        Target(
            f"{which} of 'Paris'",
            tuple(_score(k, i, near) * (1.0 if i >= len(words) - 20 else 0.05) for i in range(len(words))),
            5.5 + k,
            (at, at + 1),
            "Paris",
            "the city of Paris",
            relative_error=0.001,
            converged=True,
        )
        for k, which in enumerate(("start", "end"))
    )
    segment = [int(i >= len(QUESTION)) for i in range(len(words))]
    values = {
        "view": "answer",
        "targets": targets,
        "method": "integrated_gradients",
        "layer": "embeddings",
        "example_id": 8,
        "prediction": "Paris",
        "gold": "the city of Paris",
        "segment_names": ("question", "context"),
    }
    return TargetsRow(**values | _tokens(words, segment, ("[CLS]", "[SEP]")) | changes)


def labels(**changes):
    """Return three labels of a text."""
    words = "[CLS] Funny and sad at once , and never boring . [SEP]".split()  # noqa: SIM905
    targets = tuple(
        Target(name, tuple(_score(k, i, 1 + 2 * k) for i in range(len(words))), value, None, said, gold)
        for k, (name, value, said, gold) in enumerate(
            [("comedy", 1.8, "comedy", "comedy"), ("drama", 0.7, "drama", None), ("horror", -2.5, None, None)]
        )
    )
    values = {
        "view": "labels",
        "targets": targets,
        "method": "occlusion",
        "layer": "embeddings",
        "prediction": "comedy, drama",
    }
    return TargetsRow(**values | _tokens(words, [0] * len(words), ("[CLS]", "[SEP]")) | changes)


def long_grid(prompt=400, output=60):
    """Return a generation after a long prompt."""
    return grid(prompt=[f"word{i}" for i in range(prompt)], output=tuple(f"Ġout{i}" for i in range(output)))


def chinese():
    """Return an answer in Chinese, where no word has a gap before it."""
    words = ["[CLS]", *"塔在哪里", "[SEP]", *"铁塔在巴黎市中心", "[SEP]"]
    targets = (Target("巴黎", tuple(_score(0, i, 10) for i in range(len(words))), 3.0, (9, 11), "巴黎", "巴黎"),)
    of_text = _tokens(words, [int(i > 5) for i in range(len(words))], ("[CLS]", "[SEP]"))
    return answer(targets=targets, prediction="巴黎", gold="巴黎", **of_text)


def arabic():
    """Return a generation in Arabic, of byte-level tokens without words."""

    def written(text):
        plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [byte for byte in range(256) if byte not in plain]
        table = {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}
        return "".join(table[byte] for byte in text.encode())

    output = tuple(written(f" {word}") for word in ("هذا", "فيلم", "جيد"))
    tokens = tuple(written(f" {word}") for word in ("مرحبا", "يا", "صديقي"))
    return replace(grid(prompt=tokens, output=output), tokens=(*tokens, *output[:-1]))


def pair(**changes):
    """Return an attribution of a pair of texts."""
    words = "[CLS] A man sleeps [SEP] Nobody is awake [SEP]".split()  # noqa: SIM905
    parts = _tokens(words, [int(i > 4) for i in range(len(words))], ("[CLS]", "[SEP]"))
    values = {
        "scores": tuple(_score(0, i, 3) for i in range(len(words))),
        "target": 2.5,
        "target_name": "entailment",
        "output": "logit",
        "method": "integrated_gradients",
        "layer": "embeddings",
        "prediction": "entailment",
    }
    return AttributionRow(**values | parts | changes)


def of_text(view, text):
    """Return a record in which every text is the given one."""
    target = Target(text, (1.0, -0.5, 0.2), 1.0, (1, 2), text, text + "!", relative_error=0.1, converged=False)
    return TargetsRow(
        view=view,
        targets=(target, target),
        output=text,
        method=text,
        layer=text,
        baseline=text,
        prediction=text,
        gold=text + "!",
        why=text,
        notes=(text,),
        reasons={text: text},
        segment_names=(text, text),
        tokens=("[CLS]", text, text),
        word_ids=(None, 0, 1),
        words=(text, text),
        special=(True, False, False),
        segment=(0, 0, 1),
    )


def arbitrary(seed):
    """Return a record in which any text is arbitrary, any list may be short and any number missing."""
    rng = random.Random(seed)

    def maybe(value):
        return rng.choice((None, value))

    def number():
        return rng.choice((0.0, rng.gauss(0, 1), rng.gauss(0, 1e6), math.nan, math.inf, None))

    size = rng.choice((0, 1, 3, 12, 60))
    words = tuple(arbitrary_text(rng, 12) for _ in range(size))

    def short(values):
        return tuple(values)[: rng.choice((0, size // 2, size))]

    def target():
        begin = rng.randint(-2, size + 2)
        return Target(
            name=arbitrary_text(rng, 10),
            scores=tuple(number() for _ in range(rng.randint(0, size + 2))),
            value=number() or math.nan,
            span=rng.choice((None, (begin, begin + rng.randint(-1, 3)))),
            prediction=maybe(arbitrary_text(rng, 8)),
            gold=maybe("x"),
            relative_error=rng.choice((None, 0.1, math.nan)),
            converged=rng.choice((None, True, False)),
        )

    return TargetsRow(
        view=rng.choice(VIEWS),
        targets=tuple(target() for _ in range(rng.choice((0, 1, 2, 7)))),
        text=maybe(arbitrary_text(rng, 30)),
        prediction=maybe(arbitrary_text(rng, 8)),
        gold=maybe("x"),
        tokens=words,
        words=short(words),
        word_ids=short(rng.choice((None, i)) for i in range(size)),
        special=short(rng.random() < 0.2 for _ in range(size)),
        segment=maybe(short(rng.choice((0, 0, 1, 3)) for _ in range(size))),
        segment_names=maybe((arbitrary_text(rng, 5),)),
        offsets=maybe(short((i, i + 1) for i in range(size))),
    )
