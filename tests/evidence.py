"""Records of evidence to report on: usual cases, and records of arbitrary texts and missing fields."""

import random

from records import arbitrary_text

from lightning_interpret.evidence import (
    Approximation,
    InfluenceRow,
    LandmarksRow,
    NeighborsRow,
    TokenInfluence,
    TrainingExample,
)

QUERY = "Not a bad film at all: the plot is thin, but the actors make every minute of it a pleasure to watch."
STATED = Approximation(
    "ekfac",
    "change of the query's loss if the example is removed",
    layers=("encoder.0", "encoder.1", "head"),
    coverage=0.985,
    damping=0.00123,
    weight_decay=0.01,
    curvature="fisher",
    samples=4,
    seed=0,
    examples=2000,
)
HELPFUL = (
    TrainingExample(
        48213, 0.41, None, "An absolute pleasure: not a dull minute in it.", "positive", "positive", 0.03, 0.1
    ),
    TrainingExample(
        112, 0.27, None, "The plot is thin, and I loved it all the same.", "positive", "negative", 1.2, 0.6
    ),
    TrainingExample(7, 0.05, None, "A film to watch twice.", "positive", "positive", 0.11, 0.0),
)
HARMFUL = (
    TrainingExample(30511, -0.63, None, "Not bad, they said. It was bad.", "negative", "negative", 0.2, 0.3),
    TrainingExample(
        991, -0.2, None, "every minute of it a waste, the actors included", "negative", "positive", 2.4, 0.9
    ),
)
NEAREST = (
    TrainingExample(
        991, None, 3.21, "every minute of it a waste, the actors included", "negative", "positive", 2.4, 0.9
    ),
    TrainingExample(30511, None, 3.4, "Not bad, they said. It was bad.", "negative", "negative", 0.2, 0.3),
    TrainingExample(12, None, 3.9, "The actors make the most of a thin plot.", "positive", "positive", 0.4, 0.2),
)
OF_QUERY = {
    "example_id": 17, "text": QUERY, "prediction": "negative", "gold": "positive", "loss": 2.7183, "confidence": 0.934,
    "why": "worst loss",
}  # fmt: skip


def near(**changes):
    """Return the neighbours of a bad case."""
    values = {
        "neighbors": NEAREST,
        "layer": "encoder.pooler",
        "k": 10,
        "examples": 2000,
        "shares": {"negative": 0.7, "positive": 0.3},
        "probabilities": {"negative": 0.55, "positive": 0.45},
        "model_probabilities": {"negative": 0.934, "positive": 0.066},
        "temperature": 12.5,
        "mixture": "positive",
        "backed_off": True,
        "conformity": 0.7,
        "credibility": 0.04,
        "tokens": ("[CLS]", "Not", "a", "bad", "film", "[SEP]"),
        "scores": (0.0, -0.1, 0.0, 0.4, 0.05, 0.0),
    }
    return NeighborsRow(**OF_QUERY | values | changes)


def influence(**changes):
    """Return the influence of training examples on a bad case."""
    values = {"helpful": HELPFUL, "harmful": HARMFUL, "approximation": STATED, "examples": 2000, "skipped": 3}
    return InfluenceRow(**OF_QUERY | values | changes)


TURNED_OVER = Approximation(
    "turn_over_dropout",
    "query's loss in the part of the network that has not learnt the example, less that in the part that has",
    seed=3,
    notes=("turn-over dropout of 0.5 at encoder.0, encoder.1",),
)
LIKE = (
    TrainingExample(402, 1.2, None, "Where is the Louvre ?", "location", "location", 0.02, 0.1, similarity=0.9),
    TrainingExample(17, 0.8, None, "What city hosts the Prado ?", "location", "entity", 1.9, 0.4),
    TrainingExample(88, 0.7, None, "Name a museum in Paris .", "entity", "entity", 0.3, 0.5),
)
UNLIKE = (
    TrainingExample(5, -0.9, None, "Who painted the Mona Lisa ?", "human", "human", 0.05, 0.0, similarity=0.95),
    TrainingExample(61, -0.2, None, None, None),
)


def landmarks(**changes):
    """Return the landmarks of a question that is answered rightly: 1.6 listed + 0.45 of others − 0.25 bias = 1.8."""
    values = {
        "example_id": 9, "text": "Where do I find the Mona Lisa ?", "prediction": "location", "gold": "location",
        "loss": 0.11, "confidence": 0.9, "like": LIKE, "unlike": UNLIKE, "target_name": "location", "target": 1.8,
        "absorbed": {"bias": -0.25}, "error": 2e-9, "kernel": "rbf", "landmarks": 64, "positive": 30,
        "magnitude": 8.2, "approximation_error": 0.087,
        "tokens": ("[CLS]", "Where", "do", "I", "find", "the", "Mona", "Lisa", "?", "[SEP]"),
        "scores": (0.05, 0.9, 0.1, 0.0, 0.6, 0.05, -0.3, -0.2, 0.4, 0.2),
    }  # fmt: skip
    return LandmarksRow(**values | changes)


def arbitrary_evidence(seed):
    """Return influence, neighbours or landmarks in which any text is arbitrary and any field may be missing."""
    rng = random.Random(seed)

    def maybe(value):
        return rng.choice((None, value))

    def text(longest=30):
        return maybe(arbitrary_text(rng, longest))

    def number():
        return rng.choice((None, 0.0, rng.gauss(0, 1), rng.gauss(0, 1e6), rng.gauss(0, 1e-6)))

    def share():
        return maybe(rng.random())

    def examples():
        return tuple(
            TrainingExample(
                rng.randrange(1 << 62), number(), maybe(rng.random()), text(), text(), text(), number(), share()
            )
            for _ in range(rng.randrange(7))
        )

    of_query = {
        "example_id": maybe(rng.randrange(1 << 62)), "text": text(80), "prediction": text(), "gold": text(),
        "loss": number(), "confidence": share(), "why": text(), "notes": (arbitrary_text(rng),),
        "reasons": {"gold": arbitrary_text(rng)},
    }  # fmt: skip
    labels = [arbitrary_text(rng) for _ in range(rng.randrange(20))]
    tokens = [arbitrary_text(rng) for _ in range(rng.randrange(20))]
    row = NeighborsRow(
        neighbors=examples(),
        layer=text(),
        k=maybe(5),
        examples=maybe(100),
        shares={name: rng.random() for name in labels},
        probabilities=maybe({name: rng.random() for name in labels}),
        model_probabilities=maybe({name: rng.random() for name in labels}),
        mixture=text(),
        backed_off=rng.choice((None, True, False)),
        conformity=share(),
        credibility=share(),
        tokens=maybe(tuple(tokens)),
        scores=maybe(tuple(rng.gauss(0, 1) for _ in tokens)),
        **of_query,
    )
    if seed % 3 == 1:
        return row
    if seed % 3 == 2:
        return LandmarksRow(
            like=examples(), unlike=examples(), target_name=text(), target=number(), error=number(), kernel=text(),
            absorbed={name: rng.gauss(0, 1) for name in labels[:3]}, landmarks=rng.randrange(100),
            approximation_error=share(), tokens=row.tokens, scores=row.scores, **of_query,
        )  # fmt: skip
    approximation = Approximation(
        arbitrary_text(rng), arbitrary_text(rng), converged=rng.choice((None, True, False)), residual=number(),
        damping=number(), coverage=share(), samples=maybe(4), notes=(arbitrary_text(rng),),
    )  # fmt: skip
    return InfluenceRow(
        helpful=examples(), harmful=examples(), approximation=approximation, examples=rng.randrange(100),
        skipped=rng.randrange(3), queries=rng.choice((1, 1, 7)), neighbors=maybe(row), **of_query,
        by_token=tuple(
            TokenInfluence(arbitrary_text(rng), number(), examples(), examples()) for _ in range(rng.randrange(15))
        ),
    )  # fmt: skip
