"""Records of trees of spans to report on: the usual case, chains, and records of arbitrary texts and missing fields."""

import random
from itertools import pairwise

from explained import OF_QUERY, of_tokens
from records import arbitrary_text

from lightning_interpret.records.span_tree import SpanNode, SpanTreeRow

WORDS = ("Not", "a", "bad", "film", "at", "all")


def tree(**changes):
    """Return the tree of 'Not a bad film at all' under a wrong prediction: ((Not (a (bad film))) (at all))."""
    nodes = (
        SpanNode(0, 6, 1.5, None, (1, 2), 0.25),
        SpanNode(0, 4, 2.0, 0, (3, 4), -0.5),
        SpanNode(4, 6, -0.5, 0, (5, 6), 0.1),
        SpanNode(0, 1, -1.0, 1),
        SpanNode(1, 4, 2.5, 1, (7, 8), 0.75),
        SpanNode(4, 5, 0.0, 2),
        SpanNode(5, 6, -0.25, 2),
        SpanNode(1, 2, 0.0, 4),
        SpanNode(2, 4, 2.25, 4),
    )
    values = {
        **OF_QUERY, **of_tokens(" ".join(WORDS), WORDS), "nodes": nodes, "method": "hedge", "baseline": "pad",
        "measure": "the score with the span alone, less that of nothing", "joins": "what two parts do together only",
        "output": "margin", "target_name": "negative", "target": 1.75, "baseline_target": 0.25, "erased": 1.4,
        "control": 0.05, "forwards": 31,
    }  # fmt: skip
    return SpanTreeRow(**values | changes)


def chain(length, *, text=None, score=1.0):
    """Return the tree of a text of so many words that loses its first word again and again: the deepest there is."""
    words = [f"w{i}" for i in range(length)] if text is None else [text] * length
    nodes = [SpanNode(0, length, score, None, (1, 2) if length > 1 else (), 0.5 if length > 1 else None)]
    for i in range(length - 1):
        parent, parts = 0 if i == 0 else 2 * i, (2 * i + 3, 2 * i + 4) if i + 2 < length else ()
        nodes += [SpanNode(i, i + 1, -score, parent), SpanNode(i + 1, length, score, parent, parts, 0.5)]
    tokens = {
        "tokens": tuple(words), "word_ids": tuple(range(length)), "words": tuple(words), "special": (False,) * length,
    }  # fmt: skip
    return SpanTreeRow(nodes=tuple(nodes), text=" ".join(words), prediction="p", target_name="p", **tokens)


def of_text(text):
    """Return a record in which every text is the given one."""
    said = dict.fromkeys(
        ("text", "prediction", "gold", "method", "measure", "joins", "baseline", "target_name", "why"), text
    )
    words = {"tokens": (text,) * 6, "words": (text,) * 6, "word_ids": tuple(range(6)), "special": (False,) * 6}
    return tree(**said, **words, offsets=None, notes=(text,), reasons={text: text})


def arbitrary(seed):
    """Return a tree of a text of arbitrary words, cut anywhere; any field may be missing, any score not a number."""
    rng = random.Random(seed)

    def maybe(value):
        return rng.choice((None, value))

    def score():
        return rng.choice((0.0, rng.gauss(0, 1), rng.gauss(0, 1e6), rng.gauss(0, 1e-6), float("nan")))

    length = rng.randrange(12)
    nodes, waiting = [], [(None, 0, length)] if length else []
    while waiting:
        parent, start, end = waiting.pop(0)
        number = len(nodes)
        nodes.append([start, end, score(), parent, [], maybe(score())])
        if parent is not None:
            nodes[parent][4].append(number)
        if end - start > 1 and rng.random() < 0.9:
            cuts = sorted({start, end, *rng.choices(range(start + 1, end), k=rng.randrange(1, 3))})
            waiting += [(number, a, b) for a, b in pairwise(cuts)]
    words = tuple(arbitrary_text(rng) for _ in range(length))
    return SpanTreeRow(
        nodes=tuple(SpanNode(*values[:4], tuple(values[4]), values[5]) for values in nodes),
        tokens=words, words=words, word_ids=tuple(range(length)), special=(False,) * length,
        unit=rng.choice(("word", "token")), text=maybe(arbitrary_text(rng, 80)), prediction=maybe(arbitrary_text(rng)),
        gold=maybe(arbitrary_text(rng)), target=maybe(1.5), target_name=maybe(arbitrary_text(rng)),
        measure=maybe(arbitrary_text(rng)), joins=maybe(arbitrary_text(rng)), erased=maybe(rng.gauss(0, 1)),
        control=maybe(rng.gauss(0, 1)), baseline=maybe(arbitrary_text(rng)), notes=(arbitrary_text(rng),),
    )  # fmt: skip
