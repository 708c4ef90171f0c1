import warnings

import pytest
import torch
from digits import DigitsTask, digits, network, split, train
from linear_models import Logistic, breast_cancer
from purity import assert_same, state_of

from lightning_interpret import ExactInfluence, LissaInfluence
from lightning_interpret.functional.ranks import spearman
from lightning_interpret.methods.influence import influence_named


def some(batch, count):
    return {name: values[:count] for name, values in batch.items()}


def test_with_enough_damping_it_comes_near_the_exact_scores_and_says_so():
    module, examples, queries, _ = breast_cancer()
    options, batches, few = {"damping": 0.5}, split(examples, 456), some(queries, 20)
    expected = ExactInfluence(**options).fit(module, batches, Logistic()).matrix(few)[1]
    fitted = LissaInfluence(**options, depth=60, repeats=4, step_examples=64).fit(module, batches, Logistic())
    scores = fitted.matrix(few)[1]
    stated = fitted.approximation
    assert float(spearman(scores.T, expected.T).min()) > 0.99
    assert float((scores - expected).norm() / expected.norm()) < 0.1
    assert stated.converged
    assert 0 < stated.residual <= 0.1
    assert "240 steps of 64 examples" in stated.notes[0]
    again = LissaInfluence(**options, depth=60, repeats=4, step_examples=64).fit(module, batches, Logistic())
    assert torch.equal(again.matrix(few)[1], scores)
    other = LissaInfluence(**options, depth=60, repeats=4, step_examples=64, seed=1).fit(module, batches, Logistic())
    assert not torch.equal(other.matrix(few)[1], scores)


def test_a_recursion_that_is_cut_short_is_not_converged_and_its_residual_is_that_of_the_whole_curvature():
    module, examples, queries, _ = breast_cancer()
    few = some(queries, 3)
    fitted = LissaInfluence(damping=0.01, depth=5).fit(module, split(examples, 456), Logistic())
    row = fitted.scores(few, k=2)[0]
    assert row.approximation.converged is False
    assert row.approximation.residual > 0.1
    assert row.helpful[0].score > 0


def test_divergence_is_detected_and_named_and_gives_no_scores():
    module, examples, queries, _ = breast_cancer()
    fitted = LissaInfluence(damping=0.01, scale=0.05, depth=50).fit(module, split(examples, 456), Logistic())
    with pytest.warns(
        UserWarning, match=r"diverged for 3 of 3 queries, which get no scores: raise `scale` above 0\.05"
    ):
        rows = fitted.scores(some(queries, 3), k=2)
    assert all(not row.helpful and not row.harmful for row in rows)
    assert rows[0].skipped == 0
    assert rows[0].approximation.converged is False
    assert "raise `scale`" in rows[0].approximation.notes[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # by default the scale is measured
        LissaInfluence(damping=0.01, depth=20).fit(module, split(examples, 456), Logistic()).matrix(some(queries, 3))


def test_a_network_of_ten_classes_with_a_broken_example_is_left_as_it_was():
    batch = some(digits(torch.float64)[0], 60)
    module = train(batch, epochs=3, model=network(4).double())
    broken = {**batch, "pixels": batch["pixels"].index_fill(0, torch.tensor([4]), torch.nan)}
    exact = ExactInfluence(layers="all", damping=0.3).fit(module, split(broken, 20), DigitsTask())
    before = state_of(module)
    fitted = LissaInfluence(damping=0.3, depth=40).fit(module, split(broken, 20), DigitsTask())
    a, b = (each.scores(some(batch, 2), k=3)[0] for each in (exact, fitted))
    assert_same(before, state_of(module), objects=True)
    assert a.helpful[0].example_id == b.helpful[0].example_id
    assert (b.examples, b.skipped, b.approximation.examples, b.approximation.seed) == (59, 1, 59, 0)
    _, own = fitted.self_influence([some(batch, 3)])
    assert torch.allclose(own, exact.self_influence([some(batch, 3)])[1], rtol=0.3)


def test_options_that_cannot_be_are_refused():
    for options in ({"damping": -1.0}, {"scale": 0.0}, {"depth": 0}, {"repeats": 0}, {"step_examples": 0}):
        with pytest.raises(ValueError, match=f"`{next(iter(options))}="):
            LissaInfluence(**options)
    with pytest.raises(ValueError, match="`tolerance="):
        LissaInfluence(tolerance=1.0)
    assert influence_named("lissa", depth=5).depth == 5
