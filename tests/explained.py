"""Records of self-explanations to report on: usual cases, and records of arbitrary texts and missing fields."""

import random

from records import arbitrary_text

from lightning_interpret.rationales import Concept, ConceptsRow, GeneratedRow, RationaleRow, Span, SpansRow

TEXT = "Not a bad film at all: the plot is thin, but the actors make it a pleasure."
WORDS = "Not a bad film at all : the plot is thin , but the actors make it a pleasure .".split()  # noqa: SIM905
OF_QUERY = {
    "example_id": 17, "text": TEXT, "prediction": "negative", "gold": "positive", "loss": 2.72, "confidence": 0.934,
}  # fmt: skip


def _offsets(text, words):
    at = 0
    for word in words:
        at = text.index(word, at)
        yield at, at + len(word)
        at += len(word)


def of_tokens(text=TEXT, words=WORDS):
    """Return the fields of a text between [CLS] and [SEP], one token a word."""
    return {
        "text": text,
        "tokens": ("[CLS]", *words, "[SEP]"),
        "word_ids": (None, *range(len(words)), None),
        "words": tuple(words),
        "special": (True, *[False] * len(words), True),
        "offsets": ((0, 0), *_offsets(text, words), (0, 0)),
    }


def flags(*chosen, words=WORDS):
    """Return whether each token is of one of the words at these places."""
    return (False, *(i in chosen for i in range(len(words))), False)


def rationale(**changes):
    """Return a rationale of a wrong prediction: 'bad film' and 'thin', where people said 'Not a bad film'."""
    values = {
        **OF_QUERY, **of_tokens(), "selected": flags(2, 3, 10), "gold_rationale": flags(0, 1, 2, 3),
        "probabilities": tuple(0.9 if on else 0.1 for on in flags(2, 3, 10)), "rate": 3 / 19, "budget": 0.2,
        "gate": "gumbel", "probability": 0.934, "full": 0.81, "complement": 0.35, "control": 0.5,
        "control_complement": 0.78,
    }  # fmt: skip
    return RationaleRow(**values | changes)


def spans(**changes):
    """Return the spans of the same prediction."""
    weights = (0.0, 0.3, 0.4, 0.7, 0.62, *[0.02] * 16, 0.0)
    values = {
        **OF_QUERY, **of_tokens(), "spans": (Span(3, 5, 0.55, "bad film", 1.4), Span(9, 12, 0.2, "plot is thin", 0.3)),
        "considered": 130, "width": 8, "sharpness": 0.35, "token_weights": weights, "target_name": "negative",
        "target": 2.1, "control": 0.05,
    }  # fmt: skip
    return SpansRow(**values | changes)


def concepts(**changes):
    """Return the concepts of the same prediction: 1.5 + 0.4 − 0.6 + 0.2 + 0.1 = 1.6."""
    found = (
        Concept("plot", 0.9, 0.9, 1.5, 1.0),
        Concept("acting", 0.8, 0.8, -0.6, 0.0),
        Concept("price of the ticket", 1.0, 0.3, 0.4, None, True),
    )
    values = {
        **OF_QUERY, "concepts": found, "target_name": "negative", "target": 1.6, "bias": 0.2, "residual": 0.1,
        "error": 2e-9, "mode": "soft",
    }  # fmt: skip
    return ConceptsRow(**values | changes)


def generated(**changes):
    """Return what a model wrote of the same prediction."""
    values = {
        **OF_QUERY, "explanation": "The plot is thin, so the film is bad.",
        "gold_explanation": "'Not a bad film' is praise.", "order": "explain_then_predict", "log_likelihood": -0.8,
        "probability": 0.934, "erased": 0.52, "simulated": "negative", "simulated_without": "positive", "leaks": True,
        "overlap": 0.31,
    }  # fmt: skip
    return GeneratedRow(**values | changes)


KINDS = {"rationale": rationale, "spans": spans, "concepts": concepts, "generated": generated}


def of_text(make, text, **changes):
    """Return a record in which every text is the given one."""
    common = {
        "text": text, "prediction": text, "gold": text + "!", "why": text, "notes": (text,), "reasons": {text: text},
    }  # fmt: skip
    tokens = {
        "tokens": ("[CLS]", text, text), "word_ids": (None, 0, 1), "words": (text, text), "offsets": None,
        "special": (True, False, False),
    }  # fmt: skip
    own = {
        "rationale": tokens | {"selected": (False, True, False), "gold_rationale": (False, True, True), "gate": text}
        | {"probabilities": (0.0, 0.9, 0.1)},
        "spans": tokens | {"spans": (Span(1, 2, 0.5, text, 1.0),), "token_weights": (0.0, 0.5, 0.1)}
        | {"target_name": text},
        "concepts": {"concepts": (Concept(text, 1.0, 0.5, -1.0, 1.0),), "target_name": text, "mode": text},
        "generated": {"explanation": text, "gold_explanation": text, "simulated": text, "order": text},
    }[make.__name__]  # fmt: skip
    return make(**common | own | changes)


def arbitrary(seed):
    """Return a record of any of the kinds, in which any text is arbitrary and any field may be missing."""
    rng = random.Random(seed)

    def maybe(value):
        return rng.choice((None, value))

    def text(longest=30):
        return maybe(arbitrary_text(rng, longest))

    def number():
        return rng.choice((None, 0.0, rng.gauss(0, 1), rng.gauss(0, 1e6), rng.gauss(0, 1e-6)))

    count = rng.randrange(12)
    common = {
        "example_id": maybe(rng.randrange(1 << 62)), "text": text(80), "prediction": text(), "gold": text(),
        "loss": number(), "confidence": maybe(rng.random()), "notes": (arbitrary_text(rng),),
        "reasons": {"gold": arbitrary_text(rng)},
    }  # fmt: skip
    ids = tuple(rng.choice((None, i // 2)) for i in range(count))
    tokens = {
        "tokens": tuple(arbitrary_text(rng) for _ in ids), "word_ids": ids if rng.random() < 0.7 else (),
        "words": tuple(arbitrary_text(rng) for _ in range(count // 2 + 1)), "special": tuple(i is None for i in ids),
        "offsets": maybe(tuple((i, i + 1) for i in range(count))),
        "segment": maybe(tuple(i // 3 for i in range(count))),
    }  # fmt: skip
    if seed % 4 == 0:
        return RationaleRow(
            selected=tuple(rng.random() < 0.4 for _ in ids), probabilities=maybe(tuple(rng.random() for _ in ids)),
            gold_rationale=maybe(tuple(rng.random() < 0.4 for _ in ids)), rate=number(), budget=maybe(0.2),
            gate=text(), probability=number(), full=number(), complement=number(), **common, **tokens,
        )  # fmt: skip
    if seed % 4 == 1:
        found = tuple(Span(i, i + 2, rng.random(), text(), number()) for i in range(rng.randrange(5)))
        return SpansRow(
            spans=found, considered=rng.randrange(50), width=maybe(3), sharpness=number(), target_name=text(),
            target=number(), control=number(), token_weights=tuple(rng.random() for _ in ids), **common, **tokens,
        )  # fmt: skip
    if seed % 4 == 2:
        found = tuple(
            Concept(arbitrary_text(rng), rng.gauss(0, 1), maybe(rng.random()), number(), maybe(1.0), rng.random() < 0.3)
            for _ in range(rng.randrange(30))
        )
        return ConceptsRow(
            concepts=found, target_name=text(), target=number(), bias=number(), residual=number(), error=number(),
            mode=text(), **common,
        )  # fmt: skip
    return GeneratedRow(
        explanation=arbitrary_text(rng, 200), gold_explanation=text(), order=text(), log_likelihood=number(),
        probability=number(), erased=number(), simulated=text(), simulated_without=text(), leaks=maybe(True),
        overlap=number(), **common,
    )  # fmt: skip
