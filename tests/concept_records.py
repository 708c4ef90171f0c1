"""Records of concept tests to report on: a table, one example, and records of arbitrary texts and missing fields."""

import random
from dataclasses import fields, replace

from records import arbitrary_text

from lightning_interpret.records.concept_test import AGAINST, ALIKE, FOR, UNTESTED, ConceptTest, ConceptTestRow

_BESIDE = {"random_score": 0.5, "random_effect": 0.01, "random_accuracy": 0.51, "random_stability": 0.3}
_FOUND = {"positives": 50, "examples": 120, "stability": 0.7, **_BESIDE}


def four(**changes):
    """Four tests of two concepts for two classes, one of which could not be made."""
    found = (
        ConceptTest(
            "praise", "layer.1", "positive", 0.94, 0.9, 0.98, 0.8, 0.5, 1e-5, 4e-5, FOR, accuracy=0.9, **_FOUND
        ),
        ConceptTest(
            "food", "layer.1", "positive", 0.52, 0.4, 0.64, 0.02, 0.01, 0.7, 0.9, ALIKE, accuracy=0.8, **_FOUND
        ),
        ConceptTest(
            "praise", "layer.1", "negative", 0.1, 0.05, 0.15, -0.7, -0.4, 0.002, 0.006, AGAINST, accuracy=0.9, **_FOUND
        ),
        ConceptTest("food", "layer.1", "negative", reason="there is no example of the class"),
    )
    return tuple(replace(test, **changes) for test in found)


def table(**changes):
    """Return the table of all examples."""
    return ConceptTestRow(**{"tests": four(), "tested": 240, "vectors": 10, "random_concepts": 20} | changes)


def of_one(**changes):
    """Return the concepts in one wrong prediction."""
    own = tuple(replace(test, own=value) for test, value in zip(four()[:2], (1.4, -0.2), strict=True))
    values = {
        "tests": own, "example_id": 7, "text": "a good steak", "prediction": "positive", "gold": "negative",
        "loss": 2.2, "confidence": 0.9, "target_name": "positive", "target": 1.25,
    }  # fmt: skip
    return table(**values | changes)


def of_text(text, one=True):
    """Return a record in which every text is the given one."""
    texts = {"concept": text, "layer": text, "target_name": text, "reason": text}
    found = {"tests": four(**texts, own=1.0), "solver": text, "pooling": text, "correction": text, "output": text}
    about = {
        "text": text,
        "prediction": text,
        "gold": text + "!",
        "why": text,
        "notes": (text,),
        "reasons": {text: text},
    }
    return of_one(**found, **about, target_name=text) if one else table(**found, notes=(text,), reasons={text: text})


def arbitrary(seed):
    """Return a record in which any text is arbitrary and any number may be missing."""
    rng = random.Random(seed)

    def number():
        return rng.choice((None, 0.0, rng.random(), rng.gauss(0, 1e6), rng.gauss(0, 1e-6)))

    def test():
        numbers = {field.name: number() for field in fields(ConceptTest) if field.type == "float | None"}
        names = {name: arbitrary_text(rng) for name in ("concept", "layer", "target_name")}
        verdict = rng.choice((FOR, AGAINST, ALIKE, UNTESTED))
        return ConceptTest(**names, **numbers, verdict=verdict, reason=rng.choice((None, arbitrary_text(rng))))

    return ConceptTestRow(
        tests=tuple(test() for _ in range(rng.randrange(12))),
        target_name=rng.choice((None, arbitrary_text(rng))),
        target=number(),
        text=rng.choice((None, arbitrary_text(rng))),
        prediction=rng.choice((None, arbitrary_text(rng))),
        solver=arbitrary_text(rng),
        test=rng.choice(("paper", "random_concepts")),
        notes=(arbitrary_text(rng),),
        reasons={arbitrary_text(rng): arbitrary_text(rng)},
    )
