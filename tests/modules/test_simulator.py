"""A simulator: explanations that say what the model saw help it; those that say the label leak; others do neither."""

import pytest
import torch
from generated_toys import EVIDENCE, LABELS, made

from lightning_interpret import GeneratedRationale, GeneratedRow
from lightning_interpret.modules import train_simulator


def rows(count, seed, explain):
    texts, labels, _ = made(count, seed, length=(2, 3))
    return GeneratedRationale(
        tuple(
            GeneratedRow(text=text, prediction=LABELS[label], explanation=explain(i, label))
            for i, (text, label) in enumerate(zip(texts, labels, strict=True))
        )
    )


def half_leaking(i, label):
    return f"because it was {EVIDENCE[label][0]}" if i % 2 else "because it was so"


@pytest.fixture(scope="module")
def simulator():
    state = torch.get_rng_state()
    made = train_simulator(rows(192, 0, half_leaking), LABELS, epochs=12, learning_rate=2e-3)
    assert torch.equal(torch.get_rng_state(), state)
    return made


def test_it_reads_both_one_or_the_other(simulator):
    asked = rows(60, 1, half_leaking)
    read = simulator.read(asked)
    assert [row.leaks for row in read[1::2]] == [True] * 30
    assert sum(row.leaks for row in read[::2]) < 20  # what it says of nothing is one label
    assert sum(row.simulated == row.prediction for row in read[1::2]) >= 29
    assert sum(row.simulated_without == row.prediction for row in read) >= 50
    assert all(row.text == other.text for row, other in zip(read, asked, strict=True))


def test_its_score_is_that_of_what_it_foresees(simulator):
    asked = rows(60, 1, half_leaking)
    read, score = simulator.read(asked), simulator.score(asked)
    assert score.leaked.item() == pytest.approx(sum(row.leaks for row in read) / 60)
    right = sum(row.simulated == row.prediction for row in read) / 60
    assert score.with_explanation.item() == pytest.approx(right)
    groups = [[row for row in read if row.leaks == leaks] for leaks in (True, False)]
    gains = [
        sum((row.simulated == row.prediction) - (row.simulated_without == row.prediction) for row in group) / len(group)
        for group in groups
    ]
    assert score.las.item() == pytest.approx(sum(gains) / 2)


def test_bad_input_is_named():
    good = rows(4, 0, half_leaking)
    for options, words in [({"drop": 0.5}, "drop=0.5"), ({"epochs": 0}, "epochs=0"), ({"seed": -1}, "seed=-1")]:
        with pytest.raises(ValueError, match=words):
            train_simulator(good, LABELS, **options)
    with pytest.raises(ValueError, match="`rows` are empty"):
        train_simulator([], LABELS)
    with pytest.raises(ValueError, match=r"rows\[0\].*'hail'"):
        train_simulator([GeneratedRow(text="x", prediction="hail")], LABELS)
