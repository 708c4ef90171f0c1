"""A gate and its control find the planted rationale, from labels alone."""

import pytest
import torch
from planted import RATE, Selective, planted, scores, skew, train

from lightning_interpret.functional.gates import select
from lightning_interpret.layers.selection_control import SelectionControl
from lightning_interpret.layers.token_gate import BUDGETED, KINDS


def learnt(kind="gumbel", seed=0, count=3000, control=None, skewed=False, **options):
    torch.manual_seed(seed)
    model, corpus = Selective(kind), planted(count, seed)
    if skewed:
        skew(model, corpus, seed=seed)
    train(model, corpus, control or SelectionControl(RATE), seed=seed, **options)
    return model, scores(model, planted(600, 1000 + seed), RATE)


def test_the_corpus_is_what_it_says():
    corpus = planted(400)
    lengths, polar = corpus.selectable.sum(dim=1), (corpus.ids >= 1) & (corpus.ids < 21)
    assert (int(lengths.min()), int(lengths.max())) == (25, 45)
    assert torch.equal(polar, corpus.rationale)
    assert (corpus.rationale.sum(dim=1) == 5).all()
    assert (corpus.rationale.long().diff(dim=1) != 0).sum(dim=1).max() <= 2  # contiguous
    signs = torch.where(corpus.ids < 11, 1, -1) * corpus.rationale
    assert torch.equal((signs.sum(dim=1) > 0).long(), corpus.labels)
    assert float(corpus.labels.float().mean()) == pytest.approx(0.5, abs=0.1)


def test_the_default_gate_finds_the_rationale():
    model, found = learnt(seed=1, count=1500, epochs=8)
    assert found["f1"] >= 0.95
    assert found["accuracy"] >= 0.97
    assert found["rate"] == pytest.approx(RATE, abs=0.02)
    assert found["complement"] <= 0.6
    test = planted(600, 1001)
    with torch.no_grad():
        probabilities = model.selection(test.ids).probabilities
    chosen = select(probabilities, test.selectable, RATE)
    f1 = 2 * (chosen & test.rationale).sum() / (chosen.sum() + test.rationale.sum())
    assert f1 >= 0.88  # a budget is rounded: .936 is all there is


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_every_gate_finds_the_rationale(kind, seed):
    _, found = learnt(kind, seed)
    print(kind, seed, {name: round(value, 3) for name, value in found.items()})
    exact = kind in BUDGETED  # which loses a planted token of long texts, and leaves it to the complement
    assert found["f1"] >= (0.88 if exact else 0.95)
    assert found["accuracy"] >= (0.9 if exact else 0.97)
    assert found["rate"] == pytest.approx(RATE, abs=0.02)
    assert found["complement"] <= (0.65 if exact else 0.6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hard_kumaraswamy", "reinforce"])
def test_the_lagrangian_holds_the_rate(kind):
    _, found = learnt(kind, control=SelectionControl(RATE, "lagrangian"))
    assert found["f1"] >= 0.95
    assert found["rate"] == pytest.approx(RATE, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("control", ["fixed", "lagrangian"])
def test_without_annealing_some_seed_misses_the_rationale(control):
    every = [learnt(seed=seed, control=SelectionControl(RATE, control))[1] for seed in range(3)]
    print(control, [{name: round(value, 3) for name, value in found.items()} for found in every])
    assert min(found["f1"] for found in every) < 0.9  # annealed it is 1.0 on each


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_predictor_that_holds_the_gate_to_other_tokens_is_let_go_by_annealing(seed):
    slowly = SelectionControl(RATE, anneal=0.8)  # with .5 one seed of four is at .64
    assert learnt(seed=seed, control=slowly, skewed=True)[1]["f1"] >= 0.95
    at_once = SelectionControl(RATE, "fixed")
    assert learnt(seed=seed, control=at_once, skewed=True)[1]["f1"] <= 0.7
